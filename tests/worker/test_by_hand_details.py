"""By hand as in Node: the next job with the last outcome, children, duties, and what is told."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue, Worker
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.script import load
from sandboxq.errors import (
    BrokerUnavailable,
    JobHasFailedChildren,
    JobNotFound,
    LockMissing,
    UsageError,
)
from sandboxq.observe.telemetry import (
    AttemptFailed,
    Event,
    JobClaimed,
    JobCompleted,
    JobMoved,
    JobProgressed,
    Telemetry,
)
from tests.broker.servers import FaultProxy, StoppableServer
from tests.conftest import run_async
from tests.worker.test_by_hand import by_hand

if TYPE_CHECKING:
    from pathlib import Path


def test_the_next_job_comes_with_the_last_outcome(server_url: str, queue_name: str) -> None:
    """As Node's fetchNext, under the same token, from either end; None when nothing waits."""

    async def body(queue: Queue, worker: Worker) -> None:
        first, second, third = await queue.add_bulk([("a", {}), ("b", {}), ("c", {})])
        job = await worker.get_next_job("mine")
        assert job is not None
        assert await job.move_to_completed(1) is None
        job = await worker.get_next_job("mine")
        assert job is not None
        assert job.id == second.id
        following = await job.move_to_failed("no", fetch_next=True)
        assert following is not None
        assert (following.id, following.token) == (third.id, "mine")
        assert await following.move_to_completed(3, fetch_next=True) is None
        assert [await each.state() for each in (first, second, third)] == [
            "completed",
            "failed",
            "completed",
        ]

    by_hand(server_url, queue_name, body)


@pytest.mark.parametrize("token", [5, "", "\ud800"])
def test_a_token_that_is_none_claims_nothing(
    server_url: str, queue_name: str, token: object
) -> None:
    """Refused too late, it left a job under a lock that nobody could name."""

    async def body(queue: Queue, worker: Worker) -> None:
        await queue.add("a", {})
        with pytest.raises(UsageError, match="token"):
            await worker.get_next_job(token)  # type: ignore[arg-type]  # what is tried
        assert (await queue.counts("waiting"))["waiting"] == 1
        with pytest.raises(UsageError, match="grace"):
            worker.cancel("1", grace=float("nan"))

    by_hand(server_url, queue_name, body)


def test_jobs_that_their_caller_has_dropped_are_forgotten(server_url: str, queue_name: str) -> None:
    """Whoever never ends his jobs must not fill the memory."""

    async def body(queue: Queue, worker: Worker) -> None:
        await queue.add_bulk([("a", {})] * 3)
        kept = await worker.get_next_job()
        for _ in range(2):
            await worker.get_next_job()
        gc.collect()
        assert worker._by_hand is not None
        assert kept is not None
        assert list(worker._by_hand._given) == [kept.id.encode()]

    by_hand(server_url, queue_name, body)


def test_whether_children_are_pending_is_answered_as_by_node(
    server_url: str, queue_name: str
) -> None:
    """A failed child and a missing job are errors, whether anything is pending or not."""

    async def body(queue: Queue, worker: Worker) -> None:
        command, keys = worker.broker.command, worker.keys
        await queue.add("a", {})
        job = await worker.get_next_job()
        assert job is not None
        assert await job.move_to_waiting_children() is False
        await command("ZADD", keys[f"{job.id}:unsuccessful"], 1, "bull:elsewhere:2")
        with pytest.raises(JobHasFailedChildren):
            await job.move_to_waiting_children()
        await command("DEL", keys[job.id])
        with pytest.raises(JobNotFound):
            await job.move_to_waiting_children()

    by_hand(server_url, queue_name, body)


def test_what_happens_by_hand_is_told(server_url: str, queue_name: str) -> None:
    """A worker without a processor is seen by the same listeners."""
    events: list[Event] = []
    telemetry = Telemetry()
    kinds = (JobClaimed, JobCompleted, JobProgressed, AttemptFailed, JobMoved)
    telemetry.subscribe(events.append, *kinds)

    async def body(queue: Queue, worker: Worker) -> None:
        await queue.add_bulk([("a", {}), ("b", {})])
        job = await worker.get_next_job()
        assert job is not None
        await job.update_progress(7)
        job = await job.move_to_completed("x", fetch_next=True)
        assert job is not None
        await job.move_to_failed("no")
        assert (worker.counters.completed, worker.counters.failed) == (1, 1)

    by_hand(server_url, queue_name, body, telemetry=telemetry)
    assert [type(event) for event in events] == [
        JobClaimed,
        JobProgressed,
        JobCompleted,
        JobMoved,
        JobClaimed,
        AttemptFailed,
        JobMoved,
    ]


@pytest.mark.parametrize("skip", [True, False])
def test_the_stalled_check_can_be_left_to_others(
    server_url: str, queue_name: str, *, skip: bool
) -> None:
    """Also by a worker without a processor."""

    async def body(_: Queue, worker: Worker) -> None:
        names = {service.name for service in worker._services}
        assert ("stalled checker" in names) is not skip

    by_hand(server_url, queue_name, body, skip_stalled_check=skip)


@pytest.mark.parametrize("field", [("atm", "abc"), ("opts", "["), ("stc", "1e400")])
def test_a_row_that_cannot_be_read_fails_on_the_way(
    server_url: str, queue_name: str, field: tuple[str, str]
) -> None:
    """Who asks for a job gets the one behind it."""

    async def body(queue: Queue, worker: Worker) -> None:
        bad, good = await queue.add_bulk([("a", {}), ("b", {})])
        await worker.broker.command("HSET", worker.keys[bad.id], *field)
        job = await worker.get_next_job()
        assert job is not None
        assert (job.id, await bad.state()) == (good.id, "failed")

    by_hand(server_url, queue_name, body)


def test_what_a_lost_answer_brought_goes_back(tmp_path: Path, queue_name: str) -> None:
    """Nobody has seen it; what the caller holds under the same token stays the caller's."""

    async def main(server: StoppableServer) -> None:
        broker = await Broker.connect(server.url)
        script = load("claim")
        await broker.command("SCRIPT", "LOAD", script.text)
        async with (
            FaultProxy(server, cut_at=b"cut-here", cuts=1) as proxy,
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, url=proxy.url) as worker,
        ):
            await queue.add_bulk([("a", {}), ("b", {})])
            mine = await worker.get_next_job("token-cut")
            assert mine is not None
            proxy.cut_at = script.sha.encode()
            with pytest.raises(BrokerUnavailable):
                await worker.get_next_job("token-cut")
            other = await asyncio.wait_for(worker.get_next_job("token-cut", timeout=10), 20)
            assert other is not None
            assert other.id != mine.id
            await mine.move_to_completed(1)
            await other.move_to_completed(2)
            assert (await queue.counts())["completed"] == 2
        await broker.close()

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_an_outcome_may_be_said_again_when_its_answer_was_lost(
    tmp_path: Path, queue_name: str
) -> None:
    """The caller cannot know whether Redis has it; to say it twice is no error, and told once."""

    async def main(server: StoppableServer) -> None:
        broker = await Broker.connect(server.url)
        script = load("settle")
        await broker.command("SCRIPT", "LOAD", script.text)
        async with (
            FaultProxy(server, cut_at=script.sha.encode(), cuts=1) as proxy,
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, url=proxy.url) as worker,
        ):
            added = await queue.add("a", {})
            job = await worker.get_next_job()
            assert job is not None
            with pytest.raises(BrokerUnavailable):
                await job.move_to_completed(5)
            assert await added.state() == "completed"
            await job.move_to_completed(5)
            assert worker.counters.completed == 1
            with pytest.raises(LockMissing):
                await job.log("too late")
        await broker.close()

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
