"""Settings of workers: what one of Node and one of sandboxq leave that were told the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq import Keep, RateLimit
from tests.conftest import wait_until_async
from tests.interop.conftest import NEWEST_ONLY

if TYPE_CHECKING:
    from tests.interop.pair import Pair

pytestmark = NEWEST_ONLY

FAILING = {"times": 9, "message": "zu groß"}
HOUR_MS = 3_600_000
# What driver.mjs makes of these kinds.
STRATEGIES: dict[str, Any] = {
    "at once": lambda *_: 0,
    "never": lambda *_: None,
    "soon": lambda made, *_: 0.01 * made,
}
Jobs = list[tuple[str, Any, dict[str, Any]]]

# Node's option and ours, and the jobs.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], Jobs]] = {
    "kept jobs": (
        {"removeOnComplete": {"count": 2}, "removeOnFail": {"count": 1}},
        {"remove_on_complete": Keep(2), "remove_on_fail": Keep(1)},
        [
            *[("echo", 1, {}), ("fail", FAILING, {})] * 3,
            ("echo", 1, {"removeOnComplete": False}),
            ("fail", FAILING, {"removeOnFail": False}),
            ("echo", 1, {"removeOnComplete": True}),
        ],
    ),
    "two starts": (
        {"maxStartedAttempts": 2},
        {"max_started_attempts": 2},
        [
            ("fail", FAILING, {"attempts": 5}),
            ("fail", FAILING, {"attempts": 2}),
            ("fail", FAILING, {"attempts": 5, "backoff": 20}),
            ("postpone", {"ms": 10}, {}),
        ],
    ),
    "one start": (
        {"maxStartedAttempts": 1},
        {"max_started_attempts": 1},
        [("postpone", {"ms": 10}, {}), ("put-back", {}, {}), ("fail", FAILING, {"attempts": 3})],
    ),
    "strategies": (
        {},
        {"backoff_strategies": STRATEGIES},
        [
            ("fail", FAILING, {"attempts": 3, "backoff": {"type": kind, "delay": 5}, **rest})
            for kind in STRATEGIES
            for rest in ({}, {"priority": 2})
        ],
    ),
    "moves": (
        {},
        {},
        [
            *[("postpone", {"ms": ms}, {}) for ms in (0, 1, 1.5)],
            ("postpone", {"ms": 20}, {"lifo": True}),
            ("postpone", {"ms": 20}, {"attempts": 3, "backoff": 50}),
            ("put-back", {}, {"lifo": True}),
        ],
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
async def test_settings_leave_the_same(pair: Pair, name: str) -> None:
    """A fleet of both kinds is set up alike, and then does alike."""
    theirs, ours, jobs = SETTINGS[name]
    ids = [await pair.add_to_both(*each) for each in jobs]

    await pair.node.start_worker(name="same", drainDelay=1, **theirs)
    async with pair.ours.worker(name="same", **ours):
        await pair.until_ended(ids)
    await pair.node.stop_workers()

    assert pair.differences(ran=True) == []


@pytest.mark.parametrize("limit", ["of workers", "of the queue"])
async def test_a_window_that_is_used_up(pair: Pair, limit: str) -> None:
    """What waits stays where it is, and the window lasts as long."""
    theirs: dict[str, Any] = {"limiter": {"max": 2, "duration": HOUR_MS}}
    ours: dict[str, Any] = {"limiter": RateLimit(2, 3600)}
    if limit == "of the queue":
        theirs, ours = {}, {}
        await pair.on_both(lambda side: side.queue("setGlobalRateLimit", 2, HOUR_MS))
    for number in range(4):
        await pair.add_to_both("echo", number, {"priority": number})

    await pair.node.start_worker(name="same", **theirs)
    async with pair.ours.worker(name="same", **ours):
        await wait_until_async(lambda: _have_completed(pair, 2))
        with redis.Redis.from_url(pair.url) as client:
            ttls = [int(client.pttl(f"bull:{s.queue_name}:limiter")) for s in pair.sides()]
    await pair.node.stop_workers()

    # Whether a marker is left is timing.
    found = [each for each in pair.differences(ran=True) if not each.startswith(" /marker")]
    assert found == []
    assert all(HOUR_MS - 60_000 < ttl <= HOUR_MS for ttl in ttls)


async def _have_completed(pair: Pair, count: int) -> bool:
    counts = [await side.queue("getCompletedCount") for side in pair.sides()]
    return counts == [count, count]


async def test_adds_to_a_queue_at_its_limit(pair: Pair) -> None:
    """Nobody is woken who could not claim; and somebody is, as soon as there is room."""
    for side in pair.sides():
        await side.queue("setGlobalConcurrency", 1)
        await side.add("echo", 1)
        await side.call("claim", holder="holder", lockDuration=60_000)
        with redis.Redis.from_url(pair.url) as client:
            client.delete(f"bull:{side.queue_name}:marker")
    async with pair.ours.queue() as queue:
        for theirs, ours in (({}, {}), ({"priority": 1}, {"priority": 1})):
            await pair.node.add("echo", 1, theirs)
            await queue.add("echo", 1, **ours)  # type: ignore[arg-type]
        await pair.node.add("echo", 1, {"delay": HOUR_MS})
        await queue.add("echo", 1, delay=3600)
        await pair.node.call("jobMethod", id="4", method="promote", args=[])
        await queue.promote("4")
        assert await queue.is_maxed() is await pair.node.queue("isMaxed") is True

    assert pair.differences() == []
