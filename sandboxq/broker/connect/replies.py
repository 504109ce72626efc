"""Checks the form of replies once, before they are used.

A proxy, another product with the same protocol, or the reply of another command may have the wrong
form. Such a reply is treated as a lost connection: what the command did is unknown.

Checked are the commands and scripts that workers use; other replies are checked by their callers.
"""

from __future__ import annotations

import functools
import reprlib
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from sandboxq.broker.connect.script import load
from sandboxq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.broker.connect.resp import Argument

    Check = Callable[[Sequence[Argument], Any], bool]

_BYTES = frozenset({bytes})
_BYTES_OR_NONE = frozenset({bytes, NoneType})
_BYTES_OR_INTEGERS = frozenset({bytes, int})
_INTEGERS = frozenset({int})
# The most digits of a time in ms before the year 5000.
_DIGITS_OF_TIMES = 14
# In settle's codes: Redis refused a command.
_REFUSED = -12
_OF_ADD = frozenset({bytes, int, list})
_OF_CLAIM = (list, int, int, int, bytes)  # see claim.lua
# Of a job that was never run, and of any other (lua/includes/claimed.lua); of a run of the former
# what stands in front, and what there is of each (lua/claim.lua).
_FRESH, _WHOLE = 7, 21
_IN_COMMON, _OF_EACH = 5, 3
_PAIRS_ONLY = frozenset({2})
_LISTS = frozenset({list})
# Long and deeply nested replies are shortened in errors.
_shown = reprlib.Repr()
_shown.maxother = 100


def check_replies(commands: Sequence[Sequence[Argument]], replies: Sequence[Any]) -> None:
    """Raise BrokerUnavailable for the first reply that is no answer to its command.

    Errors are answers. Costs about 0.1 µs for each job of a claim, and 1 µs for each command.
    """
    checks = _checks()
    for command, reply in zip(commands, replies, strict=True):
        name = command[0]
        check = checks.get(command[1] if name == "EVALSHA" else name)
        if check is not None and not check(command, reply) and not _is_error(reply):
            raise no_answer(str(command[0]), reply)


def no_answer(what: str, reply: Any) -> BrokerUnavailable:
    """Return the error of a reply that cannot be one to ``what``."""
    message = f"Redis answered {what} with a reply that does not fit: {_shown.repr(reply)}"
    return BrokerUnavailable(message)


def check_number(what: str, replies: Sequence[list[Any]], rows: int, batch: int) -> None:
    """Raise BrokerUnavailable unless each call of ``batch`` rows has as many codes."""
    for place, reply in enumerate(replies):
        if len(reply) != min(batch, rows - place * batch):
            raise no_answer(what, reply)


def _is_error(reply: Any) -> bool:
    return isinstance(reply, ResponseError)


def _is_integer(_command: Sequence[Argument], reply: Any) -> bool:
    return type(reply) is int


def _is_text(_command: Sequence[Argument], reply: Any) -> bool:
    return type(reply) is bytes


def _is_text_or_nothing(_command: Sequence[Argument], reply: Any) -> bool:
    return reply is None or type(reply) is bytes


def _are_texts(_command: Sequence[Argument], reply: Any) -> bool:
    return type(reply) is list and _BYTES.issuperset(map(type, reply))


def _are_pairs(command: Sequence[Argument], reply: Any) -> bool:
    return _are_texts(command, reply) and len(reply) % 2 == 0


def _are_codes(_command: Sequence[Argument], reply: Any) -> bool:
    return type(reply) is list and _BYTES_OR_INTEGERS.issuperset(map(type, reply))


def _of_add(_command: Sequence[Argument], reply: Any) -> bool:
    return type(reply) is list and _OF_ADD.issuperset(map(type, reply))


def _of_settle(_command: Sequence[Argument], reply: Any) -> bool:
    """Codes; after them the error, if one of them is REFUSED."""
    codes = reply[:-1] if type(reply) is list and _REFUSED in reply[:-1] else reply
    is_list = type(reply) is list and _BYTES_OR_INTEGERS.issuperset(map(type, reply[-1:]))
    return is_list and _INTEGERS.issuperset(map(type, codes))


def _are_lists(_command: Sequence[Argument], reply: Any) -> bool:
    return type(reply) is list and all(type(row) is list and row for row in reply)


def _of_sweep(_command: Sequence[Argument], reply: Any) -> bool:
    is_pair = type(reply) is list and len(reply) == 2  # noqa: PLR2004 - cursor, number removed
    return is_pair and type(reply[0]) is bytes and type(reply[1]) is int


def _are_values(reply: Any, count: int) -> bool:
    return (
        type(reply) is list and len(reply) == count and _BYTES_OR_NONE.issuperset(map(type, reply))
    )


def _of_mget(command: Sequence[Argument], reply: Any) -> bool:
    return _are_values(reply, len(command) - 1)


def _of_hmget(command: Sequence[Argument], reply: Any) -> bool:
    return _are_values(reply, len(command) - 2)


def _of_time(command: Sequence[Argument], reply: Any) -> bool:
    is_pair = _are_texts(command, reply) and len(reply) == 2  # noqa: PLR2004 - seconds, microseconds
    return is_pair and reply[0].isdigit() and reply[1].isdigit()


def _of_pop(command: Sequence[Argument], reply: Any) -> bool:
    return reply is None or (_are_texts(command, reply) and len(reply) == 3)  # noqa: PLR2004 - key, member, score


def _of_read(command: Sequence[Argument], reply: Any) -> bool:
    """One stream at most, and its entries."""
    if reply is None:
        return True
    is_stream = type(reply) is list and len(reply) == 1 and type(reply[0]) is list
    return is_stream and len(reply[0]) == 2 and _are_entries(command, reply[0][1])  # noqa: PLR2004 - key, entries


def _are_entries(_command: Sequence[Argument], reply: Any) -> bool:
    """Return whether these are entries of a stream: each an id, and names and values in turns."""
    if type(reply) is not list or not _LISTS.issuperset(map(type, reply)):
        return False
    if not _PAIRS_ONLY.issuperset(map(len, reply)):
        return False
    fields = [entry[1] for entry in reply]
    return (
        _BYTES.issuperset(map(type, map(itemgetter(0), reply)))
        and _LISTS.issuperset(map(type, fields))
        and _BYTES.issuperset(map(type, chain.from_iterable(fields)))
        and not any(len(each) % 2 for each in fields)
    )


def _of_claim(_command: Sequence[Argument], reply: Any) -> bool:
    if type(reply) is not list or tuple(map(type, reply)) != _OF_CLAIM:
        return False
    rows, _, _, _, time = reply
    if not time.isdigit() or len(time) > _DIGITS_OF_TIMES:
        return False
    if not _LISTS.issuperset(map(type, rows)):
        return False
    return all(map(_is_row, rows))


def _is_row(row: list[Any]) -> bool:
    if len(row) == _FRESH:
        return _BYTES.issuperset(map(type, row))
    if row and type(row[0]) is int:
        is_run = row[0] == 0 and len(row) > _IN_COMMON and (len(row) - _IN_COMMON) % _OF_EACH == 0
        return is_run and _BYTES.issuperset(map(type, row[1:]))
    is_whole = len(row) == _WHOLE and _BYTES_OR_NONE.issuperset(map(type, row))
    return is_whole and None not in row[:2]


_OF_COMMANDS: dict[str, Check] = {
    **dict.fromkeys(("DEL", "EXISTS", "EXPIRE", "HEXISTS", "HLEN", "HSET", "LLEN"), _is_integer),
    **dict.fromkeys(("PUBLISH", "RPUSH", "SCARD", "UNLINK", "XTRIM", "ZADD", "ZCARD"), _is_integer),
    **dict.fromkeys(("ZCOUNT",), _is_integer),
    "INFO": _is_text,
    **dict.fromkeys(("GET", "LPOP"), _is_text_or_nothing),
    **dict.fromkeys(("LRANGE", "SMEMBERS", "ZRANGE"), _are_texts),
    "HGETALL": _are_pairs,
    "MGET": _of_mget,
    "HMGET": _of_hmget,
    "TIME": _of_time,
    "BZPOPMIN": _of_pop,
    "XREAD": _of_read,
    "XREVRANGE": _are_entries,
}
_OF_SCRIPTS: dict[str, Check] = {
    "add": _of_add,
    "add_usage": _is_integer,
    "advance_scheduler": _are_codes,
    "cancel": _is_text,
    "claim": _of_claim,
    "extend": _are_texts,
    "finished": _are_lists,
    "publish": _is_text,
    "report": _are_codes,
    "settle": _of_settle,
    "stalled": _are_texts,
    "states": _are_texts,
    "sweep_binaries": _of_sweep,
}


@functools.cache
def _checks() -> dict[Argument, Check]:
    checks: dict[Argument, Check] = dict(_OF_COMMANDS.items())
    return checks | {load(name).sha: check for name, check in _OF_SCRIPTS.items()}
