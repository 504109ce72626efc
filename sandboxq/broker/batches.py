"""Runs one script over any number of rows, a hundred in a call, in one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.broker.replies import check_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.broker.marks import Mark
    from sandboxq.broker.script import Script
    from sandboxq.broker.wire import Argument

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
