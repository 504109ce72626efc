"""Which hash slot of a cluster a key or a command belongs to (Redis Cluster specification)."""

from __future__ import annotations

import binascii
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connect.resp import Argument

SLOTS = 16384

# Commands that have no key: any node may answer them.
_KEYLESS = frozenset({"CLIENT", "CLUSTER", "ECHO", "INFO", "PING", "ROLE", "SCAN", "SCRIPT"})
_SCRIPT_CALLS = frozenset({"EVAL", "EVALSHA"})
_XINFO = frozenset({"XINFO", "OBJECT", "MEMORY"})


class Owner(NamedTuple):
    """The address of the master of some slots; an empty host is that of the node which said so."""

    host: str
    port: int


def slot_of_key(key: str | bytes) -> int:
    """Return the slot of a key by its hash tag.

    Raises: UsageError when it has no tag: the keys of its queue would lie in many slots.
    """
    text = key if isinstance(key, bytes) else key.encode()
    _, brace, rest = text.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    if not (brace and end and tag):
        shown = text.decode(errors="replace")
        message = (
            f"on a Redis Cluster all keys of a queue must lie in one slot, and {shown!r} has no "
            "hash tag: give prefix='{bull}' (on the command line --prefix '{bull}', in Node "
            "prefix: \"{bull}\"), or name the queue '{name}'"
        )
        raise UsageError(message)
    return _slot_of_tag(tag)


@functools.lru_cache(maxsize=1024)
def _slot_of_tag(tag: bytes) -> int:
    return binascii.crc_hqx(tag, 0) % SLOTS


def is_script_call(command: Sequence[Argument]) -> bool:
    """Whether the command runs a script, which may touch keys beyond those that it names."""
    return command[0] in _SCRIPT_CALLS


def slot_of_command(command: Sequence[Argument]) -> int | None:
    """Return the slot of a command's keys, None when it has none.

    Raises: UsageError when a key has no tag, or the keys of a script are in different slots.
    """
    keys = _keys_of(command)
    if not keys:
        return None
    slot = slot_of_key(keys[0])
    for key in keys[1:]:
        if slot_of_key(key) != slot:
            raise UsageError(_far_apart(keys[0], key))
    return slot


def first_key(command: Sequence[Argument]) -> str | bytes:
    """Return the first key of a command that has one."""
    return _keys_of(command)[0]


def refuse_other_slot(key: str, other: str) -> None:
    """Raise UsageError unless both keys are in one slot."""
    if slot_of_key(key) != slot_of_key(other):
        raise UsageError(_far_apart(key, other))


def _keys_of(command: Sequence[Argument]) -> list[str | bytes]:
    name = command[0]
    if name in _KEYLESS:
        return []
    if name in _SCRIPT_CALLS:
        return [_key(each) for each in command[3 : 3 + int(command[2])]]
    if name == "XREAD":
        return [_key(command[list(command).index("STREAMS") + 1])]
    return [_key(command[2 if name in _XINFO else 1])]


def _key(argument: Argument) -> str | bytes:
    return argument if isinstance(argument, (str, bytes)) else str(argument)


def _far_apart(key: str | bytes, other: str | bytes) -> str:
    one, two = (k if isinstance(k, str) else k.decode(errors="replace") for k in (key, other))
    return (
        f"{one!r} and {two!r} lie in different slots of the Redis Cluster: queues whose jobs are "
        "parents and children of each other need the same hash tag, as with one prefix='{bull}' "
        "for all of them; nothing was written"
    )


def owners_from_reply(reply: Sequence[Any]) -> list[tuple[range, Owner]]:
    """Return who has which slots, from the reply of CLUSTER SLOTS."""
    return [
        (range(int(row[0]), int(row[1]) + 1), owner_from_reply(row[2][0], row[2][1]))
        for row in reply
    ]


def owner_from_reply(host: bytes | str | None, port: int | str) -> Owner:
    """Return an address as Redis tells it: a node that knows no name of its own says ``?``."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    return Owner("" if name == "?" else name, int(port))
