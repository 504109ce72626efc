"""Runs one script over any number of rows; a mark in Redis says which calls have run.

    scripts ──► Redis: they run, and leave a mark   ◄── the connection breaks
    marked  ──► which calls have run, and with what result; the others are sent again

Writing a log row, progress or an outcome twice would be seen. Asking costs a round trip, but only
after a loss; leaving the mark costs one SET for a hundred rows (lua/includes/mark.lua).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.connect.replies import check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.connect.script import Script
    from sandboxq.broker.keys import QueueKeys

# One script call must not keep Redis from its other clients for more than a few milliseconds.
BATCH = 100


async def run_batches(
    broker: Broker,
    script: Script,
    keys: QueueKeys,
    head: Sequence[Argument],
    rows: Sequence[Sequence[Argument]],
    *,
    mark: Mark | None = None,
    timeout: float | None = None,
) -> list[Any]:
    """Return the reply of each call; the arguments of one are ``head`` and then its rows, flat.

    With a ``mark`` its key and the call's entry come behind the head. ``timeout`` is how many
    seconds of silence are allowed when that is less than usual.
    """
    calls = []
    for start in range(0, len(rows), BATCH):
        args = list(head)
        if mark is not None:
            args += (mark.key, mark.entry(start // BATCH))
        for row in rows[start : start + BATCH]:
            args += row
        calls.append(((keys.base,), args))
    return await broker.scripts(script, calls, timeout=timeout)


async def run_rows(
    broker: Broker,
    script: Script,
    keys: QueueKeys,
    head: Sequence[Argument],
    rows: Sequence[Sequence[Argument]],
    *,
    mark: Mark | None = None,
) -> list[Any]:
    """Do the same with a script that answers each row; return the answers in order.

    Raises: BrokerUnavailable, also when there are fewer or more than rows.
    """
    replies = await run_batches(broker, script, keys, head, rows, mark=mark)
    check_number(script.name, replies, len(rows), BATCH)
    return [answer for reply in replies for answer in reply]


class Mark(NamedTuple):
    """Names one exchange: the key of its writer, and a number within it."""

    key: str
    number: int

    def entry(self, call: int) -> str:
        """Return what stands for a call of the exchange, counted from 0."""
        return f"{self.number}.{call}"


NO_MARK = Mark("", 0)


async def marked(broker: Broker, mark: Mark) -> dict[int, str]:
    """Return the calls of an exchange that have run: number, and the text that each has left.

    Raises: BrokerUnavailable.
    """
    raw: bytes | None = await broker.command("GET", mark.key)
    texts: dict[int, str] = {}
    for each in (raw or b"").decode(errors="replace").split(";"):
        entry, _, text = each.partition(":")
        number, _, call = entry.partition(".")
        if number == str(mark.number) and call.isdecimal():
            texts[int(call)] = text
    return texts
