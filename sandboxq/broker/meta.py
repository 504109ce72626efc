"""What is stored about a queue as a whole: settings, metrics (bullmq-wire.md 1.3, 3.12)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandboxq.config import RateLimit
from sandboxq.limits import LONGEST_WAIT, count_from_wire, whole_from_wire

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys


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
