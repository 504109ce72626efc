"""Deduplication, rule by rule: added, claimed, ended and removed, by Node and by sandboxq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq.model.job import Deduplication
from tests.interop.conftest import NEWEST_ONLY

if TYPE_CHECKING:
    from tests.interop.pair import Pair

pytestmark = NEWEST_ONLY

HOUR_MS = 3_600_000
HOLDER = "holder"
# What a rule may say besides its id, in Node's words and in ours.
MEMBERS = {
    "ttl": ("ttl", 600_000, 600),
    "extend": ("extend", True, True),
    "replace": ("replace", True, True),
    "last": ("keepLastIfActive", True, True),
    "reschedule": ("reschedule", True, True),
}
OUR_NAMES = {"last": "keep_last_if_active"}
RULES = [
    "",
    *("ttl", "ttl extend", "ttl replace", "ttl replace extend", "replace"),
    *("last", "ttl last", "ttl extend last", "replace last"),
    *("reschedule", "ttl reschedule", "ttl extend reschedule"),
]
TTL_SLACK_MS = 20_000


class Adder:
    """Adds the same to both queues under one rule."""

    def __init__(self, pair: Pair, queue: Any, rule: str) -> None:
        """Take the rule apart."""
        self._pair, self._queue, words = pair, queue, rule.split()
        self._theirs = {"id": "größe", **{MEMBERS[w][0]: MEMBERS[w][1] for w in words}}
        ours: dict[str, Any] = {OUR_NAMES.get(word, word): MEMBERS[word][2] for word in words}
        self._ours = Deduplication("größe", **ours)

    async def add(self, theirs: dict[str, Any] | None = None, **ours: Any) -> None:
        """Add a job to each, and compare what was returned."""
        opts = {**(theirs or {}), "deduplication": self._theirs}
        job_id = await self._pair.node.add("echo", 1, opts)
        job = await self._queue.add("echo", 1, deduplication=self._ours, **ours)
        assert job.id == job_id

    def check(self) -> None:
        """Compare the queues, and how long the rule still holds."""
        assert self._pair.differences() == []
        with redis.Redis.from_url(self._pair.url) as client:
            sides = self._pair.sides()
            ttls = [int(client.pttl(f"bull:{s.queue_name}:de:größe")) for s in sides]
        assert abs(ttls[0] - ttls[1]) < TTL_SLACK_MS, ttls


@pytest.mark.parametrize("rule", RULES)
async def test_a_rule_from_add_to_end(pair: Pair, rule: str) -> None:
    """Which job counts depends on where the first one is; each of the places comes by."""
    async with pair.ours.queue() as queue:
        adder = Adder(pair, queue, rule)
        await adder.add({"delay": HOUR_MS}, delay=3600)
        await adder.add({"delay": 2 * HOUR_MS}, delay=7200)
        await adder.add({"priority": 2}, priority=2)
        await adder.add({"jobId": "mine"}, job_id="mine")
        await adder.add({"jobId": "mine"}, job_id="mine")
        adder.check()
        await _claim_all(pair)
        await adder.add()
        await adder.add({"delay": HOUR_MS}, delay=3600)
        await adder.add({"priority": 9, "jobId": "next"}, priority=9, job_id="next")
        adder.check()
        await _complete_all(pair)
        await adder.add()
        adder.check()
        owner = await pair.node.queue("getDeduplicationJobId", "größe")
        assert await queue.deduplication_job_id("größe") == owner
        for job_id in ("mine", "next"):
            await pair.node.queue("remove", job_id)
            await queue.remove(job_id)
        await pair.node.queue("drain", True)  # noqa: FBT003 - Node's signature
        await queue.drain(delayed=True)
        await adder.add()
        removed = await pair.node.queue("removeDeduplicationKey", "größe")
        assert await queue.remove_deduplication_key("größe") is bool(removed)
        await adder.add()
        adder.check()


async def _claim_all(pair: Pair) -> None:
    for side in pair.sides():
        await side.queue("promoteJobs")
        while await side.call("claim", holder=HOLDER, lockDuration=60_000):
            pass


async def _complete_all(pair: Pair) -> None:
    for side in pair.sides():
        active = await side.queue("getActive")
        for job_id in sorted(job["id"] for job in active):
            args = [1, HOLDER, False]
            await side.call("heldMethod", id=job_id, method="moveToCompleted", args=args)


async def test_workers_queue_the_last_one(pair: Pair) -> None:
    """Whoever ends the active job queues what was added meanwhile, in its own way."""
    await pair.on_both(lambda side: side.queue("pause"))
    ids: list[str] = []
    for rule in ("last", "ttl last", "ttl extend last", "replace last"):
        for end in ("completes", "fails", "goes"):
            theirs: dict[str, Any] = {"id": f"{rule}-{end}"}
            theirs |= {MEMBERS[word][0]: MEMBERS[word][1] for word in rule.split()}
            ids += await _add_while_active(pair, theirs, end)

    await pair.on_both(lambda side: side.queue("resume"))
    await pair.run_both(ids)

    assert pair.differences(ran=True) == []


async def _add_while_active(pair: Pair, theirs: dict[str, Any], end: str) -> list[str]:
    """Add a job, and others of its rule as if it were active; return the ids that are to end."""
    name, data = ("fail", {"times": 9, "message": "m"}) if end == "fails" else ("echo", 1)
    first = {"deduplication": theirs, "removeOnComplete": end == "goes"}
    last = {"deduplication": theirs, "priority": 3, "jobId": f"last {theirs['id']}", "delay": 20}
    job_id = await pair.add_to_both(name, data, first)
    _move(pair, job_id, "wait", "active")
    await pair.add_to_both("echo", "lost", last)
    await pair.add_to_both("echo", "kept", last)
    _move(pair, job_id, "active", "wait")
    return [job_id, str(last["jobId"])]


def _move(pair: Pair, job_id: str, source: str, target: str) -> None:
    with redis.Redis.from_url(pair.url) as client:
        for side in pair.sides():
            client.lrem(f"bull:{side.queue_name}:{source}", 1, job_id)
            client.lpush(f"bull:{side.queue_name}:{target}", job_id)
