"""Runs one script over any number of rows, a hundred in a call, in one round trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.broker.script import Script

# One script call must not keep Redis from its other clients for more than a few milliseconds.
BATCH = 100

Value = bytes | str | int | float


async def run_batches(
    broker: Broker,
    script: Script,
    keys: QueueKeys,
    head: Sequence[Value],
    rows: Sequence[Sequence[Value]],
) -> list[Any]:
    """Return the reply of each call; the arguments of one are ``head`` and then its rows, flat."""
    calls = [
        [*head, *(value for row in rows[start : start + BATCH] for value in row)]
        for start in range(0, len(rows), BATCH)
    ]
    if len(calls) <= 1:
        return [await broker.script(script, (keys.base,), args) for args in calls]
    # A pipeline cannot wait to hear that Redis does not know the script; so it brings the text.
    commands: list[list[Value]] = [["SCRIPT", "LOAD", script.text]]
    commands += [["EVALSHA", script.sha, 1, keys.base, *args] for args in calls]
    replies = await broker.pipeline(commands)
    return replies[1:]
