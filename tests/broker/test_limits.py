"""Limits of a whole queue, its settings and metrics (protocol.md 1.3, 3.12, 3.25)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands import change_job, settings
from sandboxq.broker.commands.jobs import counts_per_priority, delayed_count
from sandboxq.config import RateLimit
from tests.broker.case import NOW

if TYPE_CHECKING:
    from tests.broker.case import Case


def set_limits(case: Case, **values: int | None) -> int:
    """Set limits; return how many fields were added or removed."""
    return int(case.run(lambda broker: settings.set_limits(broker, case.keys, **values)))


def window_ttl_ms(case: Case, max_jobs: int | None = None) -> int:
    """Return how long the rate limit window is closed."""
    return int(
        case.run(lambda broker: settings.window_ttl_ms(broker, case.keys, max_jobs=max_jobs))
    )


def test_limits_come_and_go(case: Case) -> None:
    """What is set is what Node reads; removing twice is no error."""
    assert set_limits(case, concurrency=3) == 1
    assert set_limits(case, max=10, duration=1500) == 2
    stored = case.redis.hgetall(case.keys["meta"])
    assert (stored["concurrency"], stored["max"], stored["duration"]) == ("3", "10", "1500")

    assert set_limits(case, concurrency=None) == 1
    assert set_limits(case, max=None, duration=None) == 2
    assert set_limits(case, concurrency=None) == 0
    assert case.redis.hgetall(case.keys["meta"]) == {"opts.maxLenEvents": "10000"}


def test_room_that_a_limit_gives_is_told(case: Case) -> None:
    """Node lets the workers sleep until they ask by themselves, up to five seconds."""
    set_limits(case, concurrency=1)
    case.active("a")
    case.waiting("w")
    assert case.claim().is_blocked
    assert case.scores("marker") == {}

    set_limits(case, concurrency=1)
    assert case.scores("marker") == {}
    set_limits(case, concurrency=2)
    assert case.scores("marker") == {"0": 0.0}


def test_an_idle_or_paused_queue_is_not_marked(case: Case) -> None:
    """There would be nothing to claim."""
    set_limits(case, concurrency=1)
    case.waiting("w")
    case.redis.hset(case.keys["meta"], "paused", 1)
    set_limits(case, concurrency=2)

    assert case.scores("marker") == {}


def test_is_maxed(case: Case) -> None:
    """As Node says it: without a limit, never."""

    def is_maxed() -> bool:
        return bool(case.run(lambda broker: settings.is_maxed(broker, case.keys)))

    case.active("a", "b")
    assert not is_maxed()
    set_limits(case, concurrency=3)
    assert not is_maxed()
    set_limits(case, concurrency=2)
    assert is_maxed()


def test_a_closed_window_is_closed_for_all(case: Case) -> None:
    """Whatever their maximum, for the time given; and may be opened before."""
    assert window_ttl_ms(case) == 0
    assert not case.run(lambda broker: settings.open_window(broker, case.keys))

    case.run(lambda broker: settings.close_window(broker, case.keys, duration_ms=60_000))
    assert case.redis.get(case.keys["limiter"]) == "9007199254740991"
    for max_jobs in (None, 5):
        assert 59_000 < window_ttl_ms(case, max_jobs) <= 60_000
    case.waiting("w")
    assert case.claim(limiter=(5, 1000)).rate_limit_ms > 59_000

    assert case.run(lambda broker: settings.open_window(broker, case.keys))
    assert window_ttl_ms(case, 5) == 0


@pytest.mark.parametrize(
    ("own", "max_jobs", "is_closed"),
    [
        (None, None, True),
        (None, 3, True),
        (None, 4, False),
        (3, None, True),
        (4, None, False),
        (4, 2, True),
    ],
)
def test_a_window_is_closed_when_it_is_full(
    case: Case,
    own: int | None,
    max_jobs: int | None,
    is_closed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Which maximum counts: the one asked for, else the queue's, else none."""
    case.redis.set(case.keys["limiter"], 3, px=60_000)
    if own is not None:
        set_limits(case, max=own, duration=60_000)

    assert (window_ttl_ms(case, max_jobs) > 0) == is_closed


# ── settings and metrics ────────────────────────────────────────────────────


def test_meta(case: Case) -> None:
    """Everything by name; what we do not know is passed on; nonsense counts as nothing."""

    def read() -> settings.QueueMeta:
        found: settings.QueueMeta = case.run(lambda broker: settings.meta_of(broker, case.keys))
        return found

    assert read() == settings.QueueMeta(max_events=10_000)
    fields: dict[str, Any] = {"paused": 1, "version": "bullmq:6.7.0", "concurrency": 2}
    case.redis.hset(case.keys["meta"], mapping={**fields, "max": 5, "duration": 2500, "own": "x"})
    assert read() == settings.QueueMeta(
        is_paused=True,
        version="bullmq:6.7.0",
        max_events=10_000,
        concurrency=2,
        rate_limit=RateLimit(5, 2.5),
        extra={"own": "x"},
    )
    case.redis.hset(
        case.keys["meta"], mapping={"max": "many", "concurrency": "inf", "duration": -1}
    )
    assert (read().rate_limit, read().concurrency) == (None, None)
    case.redis.delete(case.keys["meta"])
    assert read() == settings.QueueMeta()


def test_metrics(case: Case) -> None:
    """A queue that nobody measures has none; minutes come newest first."""

    def read(start: int = 0, end: int = -1) -> settings.Metrics:
        found: settings.Metrics = case.run(
            lambda broker: settings.metrics_of(broker, case.keys, "failed", start=start, end=end)
        )
        return found

    assert read() == settings.Metrics(0, [], 0, 0, 0)
    case.redis.hset(
        case.keys["metrics:failed"], mapping={"count": 7, "prevCount": 5, "prevTS": NOW}
    )
    case.redis.rpush(case.keys["metrics:failed:data"], 3, 0, 2)
    assert read() == settings.Metrics(7, [3, 0, 2], 3, 5, NOW)
    assert read(1, 1).data == [0]


def test_events_are_trimmed(case: Case) -> None:
    """Redis trims whole nodes of about a hundred."""
    for _ in range(250):
        case.redis.xadd(case.keys["events"], {"event": "x"})

    went = case.run(lambda broker: settings.trim_events(broker, case.keys, 10))

    assert went > 0
    assert len(case.events()) == 250 - went >= 10


def test_counts_per_priority(case: Case) -> None:
    """The lower half of a score only keeps order; without priority both lists count."""
    case.waiting("a")
    case.redis.lpush(case.keys["paused"], "b")
    highest = 2**21 - 1
    scores = {"p": 5 * 2**32, "q": 6 * 2**32 - 1, "r": 6 * 2**32, "s": (highest + 1) * 2**32 - 1}
    case.redis.zadd(case.keys["prioritized"], scores)

    counts = case.run(lambda broker: counts_per_priority(broker, case.keys, [0, 5, 6, 7, highest]))

    assert counts == {0: 2, 5: 2, 6: 1, 7: 0, highest: 1}


def test_delayed_count(case: Case) -> None:
    """All, or those that are due until then, that millisecond included."""
    scores = {"a": NOW * 4096, "b": NOW * 4096 + 4095, "c": (NOW + 1) * 4096}
    case.redis.zadd(case.keys["delayed"], scores)

    def count(until_ms: int | None) -> int:
        return int(case.run(lambda broker: delayed_count(broker, case.keys, until_ms)))

    counts = [count(until_ms) for until_ms in (None, NOW, NOW - 1)]

    assert counts == [3, 2, 0]


def test_deduplication_keys(case: Case) -> None:
    """The owner alone, or anybody, may free the next add."""

    def release(job_id: str | None = None) -> bool:
        return bool(
            case.run(
                lambda broker: change_job.release_deduplication(
                    broker, case.keys, "D", job_id=job_id
                )
            )
        )

    def owner() -> str | None:
        found: str | None = case.run(
            lambda broker: change_job.deduplicated_job_id(broker, case.keys, "D")
        )
        return found

    assert (owner(), release(), release("1")) == (None, False, False)
    case.redis.set(case.keys["de:D"], "1")
    assert (owner(), release("2"), owner()) == ("1", False, "1")
    assert (release("1"), owner()) == (True, None)
    case.redis.set(case.keys["de:D"], "1")
    assert release()
