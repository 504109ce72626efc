"""What is stored for a queue as a whole: paused or not, limits, settings, metrics.

Pauses and resumes (protocol.md 3.19), limits for all workers (1.3, 3.25), and the usage totals of
its jobs, which workers write and ``stats`` reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandboxq.broker.connect.script import load
from sandboxq.config import RateLimit
from sandboxq.model.job import UsageTotals
from sandboxq.model.validation import LONGEST_WAIT, count_from_wire, whole_from_wire

if TYPE_CHECKING:
    from sandboxq.broker.commands.batches import Mark
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# Only queues shared with v5 clients move ids at all; so many take Redis about a millisecond.
_IDS_PER_CALL = 5000
# What Node writes into the window's counter to close it: more than any maximum.
_CLOSED = 2**53 - 1

_MICROSECONDS = 1e6
# Keys that one SCAN step looks at: some hundred microseconds of Redis's time.
KEYS_PER_SCAN = 1000
# What means something in a SCAN pattern.
_GLOB = re.compile(r"[][*?^\\]")


@dataclass(frozen=True, slots=True)
class QueueMeta:
    """The settings of a queue; ``version`` names the library that opened it last.

    ``max_events`` is about how many entries the event stream keeps. ``extra`` holds the fields that
    sandboxq does not know.
    """

    is_paused: bool = False
    version: str | None = None
    max_events: int | None = None
    concurrency: int | None = None
    rate_limit: RateLimit | None = None
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metrics:
    """How many jobs of a kind finished: ``count`` in all, ``data`` in each minute, newest first.

    The minute that is running is not in ``data`` yet. ``points`` is how many minutes are stored;
    ``previous_count`` was the count when the newest of them was written, at ``previous_ms``.
    """

    count: int
    data: list[int]
    points: int
    previous_count: int
    previous_ms: int


async def meta_of(broker: Broker, keys: QueueKeys) -> QueueMeta:
    """Return the settings of a queue."""
    reply = await broker.command("HGETALL", keys["meta"])
    texts = [part.decode(errors="replace") for part in reply]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    is_paused = fields.pop("paused", None) is not None
    return QueueMeta(
        is_paused=is_paused,
        version=fields.pop("version", None),
        max_events=_whole(fields, "opts.maxLenEvents"),
        concurrency=_whole(fields, "concurrency"),
        rate_limit=_rate_limit(_whole(fields, "max"), _whole(fields, "duration")),
        extra=fields,
    )


def _rate_limit(most: int | None, duration_ms: int | None) -> RateLimit | None:
    if most is None or duration_ms is None or min(most, duration_ms) < 1:
        return None
    return RateLimit(most, min(duration_ms / 1000, LONGEST_WAIT))


def _whole(fields: dict[str, str], name: str) -> int | None:
    text = fields.pop(name, "")
    return whole_from_wire(text)


async def metrics_of(
    broker: Broker, keys: QueueKeys, kind: str, *, start: int, end: int
) -> Metrics:
    """Return the metrics of ``completed`` or ``failed`` jobs, minutes ``start`` to ``end``."""
    key = keys[f"metrics:{kind}"]
    totals, data, points = await broker.pipeline(
        [
            ("HMGET", key, "count", "prevCount", "prevTS"),
            ("LRANGE", f"{key}:data", start, end),
            ("LLEN", f"{key}:data"),
        ]
    )
    count, previous_count, previous_ms = map(count_from_wire, totals)
    return Metrics(count, list(map(count_from_wire, data)), points, previous_count, previous_ms)


async def set_max_events(broker: Broker, keys: QueueKeys, count: int) -> None:
    """Set about how many entries the event stream keeps, whoever adds them."""
    await broker.command("HSET", keys["meta"], "opts.maxLenEvents", count)


async def trim_events(broker: Broker, keys: QueueKeys, max_length: int) -> int:
    """Shorten the event stream to about so many entries; return how many went."""
    return int(await broker.command("XTRIM", keys["events"], "MAXLEN", "~", max_length))


async def remove_deprecated_priority_key(broker: Broker, keys: QueueKeys) -> bool:
    """Remove the sorted set in which BullMQ before 4.0 kept priorities; False: there is none."""
    return bool(await broker.command("DEL", keys["priority"]))


async def pause(broker: Broker, keys: QueueKeys) -> None:
    """Stop the queue's workers from claiming."""
    await _until_moved(broker, keys, "pause")


async def resume(broker: Broker, keys: QueueKeys) -> None:
    """Let the queue's workers claim again, and wake one."""
    await _until_moved(broker, keys, "resume")


async def is_paused(broker: Broker, keys: QueueKeys) -> bool:
    """Tell whether the queue is paused."""
    return bool(await broker.command("HEXISTS", keys["meta"], "paused"))


async def _until_moved(broker: Broker, keys: QueueKeys, name: str) -> None:
    while await broker.script(load(name), [keys.base], [_IDS_PER_CALL]):
        pass


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
    """Begin a new window of the rate limit now; False when there was none."""
    return bool(await broker.command("DEL", keys["limiter"]))


async def window_ttl_ms(broker: Broker, keys: QueueKeys, *, max_jobs: int | None) -> int:
    """Return for how many ms the rate limit is still used up; 0: it is not.

    It is used up when ``max_jobs``, else the queue's own maximum, were claimed in the window;
    without either, as long as the window lasts.
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


def literal_pattern(text: str) -> str:
    """Return a SCAN pattern that matches this text and nothing else."""
    return _GLOB.sub(r"\\\g<0>", text)
