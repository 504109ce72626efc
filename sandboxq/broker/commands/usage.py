"""What the jobs of a queue have used, all workers together: written by them, read by ``stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.connect.script import load
from sandboxq.model.job import UsageTotals
from sandboxq.model.validation import count_from_wire

if TYPE_CHECKING:
    from sandboxq.broker.commands.batches import Mark
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

_MICROSECONDS = 1e6


async def add_usage(broker: Broker, keys: QueueKeys, totals: UsageTotals, *, mark: Mark) -> None:
    """Add the totals of one worker since it last did so; under one mark they are added once."""
    args = (
        totals.attempts,
        totals.crashes,
        round(totals.wall * _MICROSECONDS),
        round(totals.cpu_user * _MICROSECONDS),
        round(totals.cpu_system * _MICROSECONDS),
        totals.peak_rss,
        mark.key,
        mark.entry(0),
    )
    await broker.script(load("add_usage"), (keys.usage_key,), args)


async def read_usage(broker: Broker, keys: QueueKeys) -> UsageTotals:
    """Return the totals since the queue was made, or obliterated."""
    names = ("attempts", "crashes", "wall", "user", "system", "peak")
    values = await broker.command("HMGET", keys.usage_key, *names)
    attempts, crashes, wall, user, system, peak = map(count_from_wire, values)
    return UsageTotals(
        attempts,
        crashes,
        wall / _MICROSECONDS,
        user / _MICROSECONDS,
        system / _MICROSECONDS,
        peak,
    )


async def forget_usage(broker: Broker, keys: QueueKeys) -> None:
    """Start anew."""
    await broker.command("UNLINK", keys.usage_key)
