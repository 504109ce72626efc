"""Limits that hold for all workers of a queue: concurrency and rate (bullmq-wire.md 1.3, 3.25)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.script import load
from sandboxq.limits import count_from_wire, whole_from_wire

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

# What Node writes into the window's counter to close it: more than any maximum.
_CLOSED = 2**53 - 1


async def set_limits(broker: Broker, keys: QueueKeys, **limits: int | None) -> int:
    """Set ``concurrency``, ``max`` or ``duration`` (ms); None removes. Wakes a worker.

    Return how many fields were added or removed.
    """
    args = [part for name, value in limits.items() for part in (name, _value(value))]
    return int(await broker.script(load("limits"), [keys.base], args))


def _value(value: int | None) -> str:
    return "" if value is None else str(value)


async def close_window(broker: Broker, keys: QueueKeys, *, duration_ms: int) -> None:
    """Let no worker that has a rate limit claim for so long."""
    await broker.command("SET", keys["limiter"], _CLOSED, "PX", duration_ms)


async def open_window(broker: Broker, keys: QueueKeys) -> bool:
    """Begin a new window now; False when there was none."""
    return bool(await broker.command("DEL", keys["limiter"]))


async def window_ttl_ms(broker: Broker, keys: QueueKeys, *, max_jobs: int | None) -> int:
    """Return how long the window is still closed, 0 when it is open.

    It is closed when ``max_jobs``, else the queue's own maximum, were claimed in it; without
    either, as long as it lasts.
    """
    own, claimed, ttl_ms = await broker.pipeline(
        [("HGET", keys["meta"], "max"), ("GET", keys["limiter"]), ("PTTL", keys["limiter"])]
    )
    most = count_from_wire(own) if max_jobs is None else max_jobs
    is_open = bool(most) and count_from_wire(claimed) < most
    return 0 if is_open else max(int(ttl_ms), 0)


async def is_maxed(broker: Broker, keys: QueueKeys) -> bool:
    """Tell whether as many jobs are active as the queue's concurrency allows."""
    concurrency, active = await broker.pipeline(
        [("HGET", keys["meta"], "concurrency"), ("LLEN", keys["active"])]
    )
    most = whole_from_wire(concurrency)
    return most is not None and int(active) >= most
