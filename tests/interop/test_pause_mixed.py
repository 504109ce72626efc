"""Pausing with BullMQ 5 and 6 on one Redis: they lose jobs, with ours none is lost (wire 9.2)."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import pytest
import redis

from sandboxq.broker.commands.attempts import Settlement, settle
from sandboxq.broker.commands.claim import claim
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.model.job import KEEP_ALL
from sandboxq.model.outcome import (
    Complete,
    Failed,
    HandBack,
    RetryNow,
)
from sandboxq.queue.queue import Queue
from tests.broker.case import NOW, TOKEN
from tests.interop.node_driver import NodeDriver, NodeSide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandboxq.model.outcome import Transition

# By letter, what an older (o) and a newer (n) client do: pause (p), resume (r) or add a job (a).
SCENARIOS = {
    "a": "op oa na or",
    "b": "np oa na op",
    "c": "np oa na nr",
    "d": "np na or",
}
# What is gone when both are Node's, as 9.2 describes it.
LOST = {"a": 1, "b": 1, "c": 0, "d": 0}


class Side(Protocol):
    """One client of a queue."""

    async def pause(self) -> None:
        """Pause the queue."""

    async def resume(self) -> None:
        """Resume the queue."""

    async def add(self) -> str:
        """Add a job and return its id."""


@dataclass(frozen=True)
class NodeClient:
    """Node's Queue."""

    node: NodeSide

    async def pause(self) -> None:
        """Pause the queue."""
        await self.node.queue("pause")

    async def resume(self) -> None:
        """Resume the queue."""
        await self.node.queue("resume")

    async def add(self) -> str:
        """Add a job."""
        return await self.node.add("n", {})


@dataclass(frozen=True)
class OurClient:
    """Our Queue."""

    queue: Queue

    async def pause(self) -> None:
        """Pause the queue."""
        await self.queue.pause()

    async def resume(self) -> None:
        """Resume the queue."""
        await self.queue.resume()

    async def add(self) -> str:
        """Add a job."""
        return (await self.queue.add("n", {})).id


class Stage:
    """One queue, and every kind of client for it."""

    def __init__(self, url: str, name: str, drivers: dict[str, NodeDriver]) -> None:
        """Name the queue."""
        self.keys = QueueKeys(name)
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.url = url
        self._drivers = drivers
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close our clients; Node's are closed by their fixture."""
        await self._stack.aclose()
        self.redis.close()

    async def client(self, kind: str) -> Side:
        """Return a client that has connected, which is when Node's write their version."""
        if kind == "ours":
            return OurClient(
                await self._stack.enter_async_context(Queue(self.keys.queue, self.url))
            )
        node = NodeSide(self._drivers[kind], self.keys.queue, kind)
        await node.queue("getMeta")
        return NodeClient(node)

    async def broker(self) -> Broker:
        """Return a broker, for what only a worker does."""
        broker = await Broker.connect(self.url)
        self._stack.push_async_callback(broker.close)
        return broker

    def waiting(self) -> list[str]:
        """Return the ids that wait, next first, whichever list holds them."""
        both = [self.redis.lrange(self.keys[name], 0, -1) for name in ("wait", "paused")]
        return [*both[1][::-1], *both[0][::-1]]


@pytest.fixture(scope="session")
def both_drivers(new_driver: Callable[[str], NodeDriver]) -> dict[str, NodeDriver]:
    """Return a running Node of each version, for tests that need both at once."""
    return {"5": new_driver("5.81"), "6": new_driver("6.7")}


@pytest.fixture
def stage(server_url: str, queue_name: str, both_drivers: dict[str, NodeDriver]) -> Iterator[Stage]:
    """Yield an empty queue."""
    yield Stage(server_url, queue_name, both_drivers)
    for driver in both_drivers.values():
        driver.ask("leave", queue=queue_name).result(60)


async def play(scenario: str, older: Side, newer: Side) -> list[str]:
    """Do what the scenario says and return the ids of the jobs that were added."""
    added = []
    for step in scenario.split():
        who, what = step[0], step[1]
        side = older if who == "o" else newer
        if what == "a":
            added.append(await side.add())
        else:
            await (side.pause() if what == "p" else side.resume())
    return added


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_node_loses(stage: Stage, name: str) -> None:
    """The losses are real; when Node mends them, the rule that avoids them can go."""
    async with stage:
        newer, older = await stage.client("6"), await stage.client("5")
        added = await play(SCENARIOS[name], older, newer)

        assert len(set(added) - set(stage.waiting())) == LOST[name]
        assert all(stage.redis.exists(stage.keys[job_id]) for job_id in added)


@pytest.mark.parametrize(
    ("older", "newer"), [("5", "ours"), ("ours", "6"), ("ours", "5"), ("6", "ours")]
)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_with_ours_nothing_is_lost(stage: Stage, name: str, older: str, newer: str) -> None:
    """Ours in the place of either side: every job waits, and after a resume a worker is told so."""
    async with stage:
        clients = [await stage.client(older), await stage.client(newer)]
        added = await play(SCENARIOS[name], *clients)

        assert sorted(stage.waiting()) == sorted(added)
        if SCENARIOS[name].endswith("r"):
            assert stage.redis.lrange(stage.keys["paused"], 0, -1) == []
            assert stage.redis.zrange(stage.keys["marker"], 0, -1) == ["0"]


@pytest.mark.parametrize("node", ["5", "6"])
async def test_whatever_order(stage: Stage, node: str) -> None:
    """Random sequences by both sides: each job is there once at every moment, and comes out."""
    chosen = random.Random(node)
    async with stage:
        theirs, ours = await stage.client(node), await stage.client("ours")
        added: list[str] = []
        for _ in range(150):
            step = chosen.choice("on") + chosen.choice("aaapr")
            added += await play(step, theirs, ours)
            assert sorted(stage.waiting()) == sorted(added), step
        await ours.resume()
        assert sorted(stage.redis.lrange(stage.keys["wait"], 0, -1)) == sorted(added)


@pytest.mark.parametrize("node", ["5", "6"])
async def test_our_worker_hands_back_into_a_paused_queue(stage: Stage, node: str) -> None:
    """What running jobs push on a paused queue follows the same rule."""
    async with stage:
        theirs, ours = await stage.client(node), await stage.client("ours")
        added = [await theirs.add() for _ in range(3)]
        broker = await stage.broker()
        held = await claim(broker, stage.keys, limit=3, token=TOKEN, lock_ms=60_000, now_ms=NOW)
        assert [job.id.decode() for job in held.jobs] == added
        await theirs.pause()
        added.append(await ours.add())
        retry = RetryNow(Failed("x"), None, lifo=False)
        transitions: list[Transition] = [HandBack(), retry, Complete(b"1", KEEP_ALL)]
        endings = zip(held.jobs, transitions, strict=True)
        rows = [Settlement(job.id, TOKEN.encode(), each) for job, each in endings]
        assert await settle(broker, stage.keys, rows, now_ms=NOW) == [0, 0, 0]

        await theirs.resume()

        waits = [added[0], added[3], added[1]]
        assert stage.waiting() == waits
        assert stage.redis.lrange(stage.keys["wait"], 0, -1)[::-1] == waits
