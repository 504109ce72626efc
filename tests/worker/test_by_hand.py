"""Jobs that their caller runs itself: Node's manual processing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Backoff, Queue, RateLimit, UnrecoverableError, UsageError, Worker
from sandboxq.errors import JobHasFailedChildren, JobNotInState, LockMismatch, LockMissing
from tests.conftest import SOON, run_async, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def by_hand(
    url: str, name: str, body: Callable[[Queue, Worker], Awaitable[None]], **options: Any
) -> None:
    """Run an async test body with a queue, and a worker that has no processor."""

    async def main() -> None:
        async with Queue(name, url=url) as queue, Worker(name, url=url, **options) as worker:
            await body(queue, worker)

    run_async(main())


def test_a_job_from_claim_to_end(server_url: str, queue_name: str) -> None:
    """What the caller gets is the job; what it says of it stands in Redis."""

    async def body(queue: Queue, worker: Worker) -> None:
        added = await queue.add("resize", {"width": 320}, priority=2)
        job = await worker.get_next_job("my token")
        assert job is not None
        assert (job.id, job.name, job.data, job.token) == (
            added.id,
            "resize",
            {"width": 320},
            "my token",
        )
        assert (job.attempts_started, job.priority, await added.state()) == (1, 2, "active")
        await job.update_progress(40)
        await job.update_data({"width": 640})
        await job.log("half way")
        await job.move_to_completed({"ok": True})
        stored = await added.refresh()
        assert (stored.progress, stored.data, stored.returnvalue) == (
            40,
            {"width": 640},
            {"ok": True},
        )
        assert await added.logs() == ["half way"]
        assert await added.result(timeout=60) == {"ok": True}
        assert await worker.get_next_job() is None

    by_hand(server_url, queue_name, body)


def test_failures_follow_the_jobs_options(server_url: str, queue_name: str) -> None:
    """Attempts, back-off and unrecoverable errors mean what they mean to a worker with children."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("a", {}, attempts=3, backoff=Backoff.custom("mine"))
        held = await worker.get_next_job()
        assert held is not None
        await held.move_to_failed(ValueError("boom"))
        stored = await job.refresh()
        assert (await job.state(), stored.failed_reason, stored.cause) == (
            "delayed",
            "boom",
            "ValueError",
        )
        held = await worker.get_next_job(timeout=5)
        assert held is not None
        await held.move_to_failed("in words")
        held = await worker.get_next_job(timeout=5)
        assert held is not None
        await held.move_to_failed(UnrecoverableError("no use"))
        assert await job.state() == "failed"
        assert (await job.refresh()).attempts_made == 3

    strategies = {"mine": lambda *_: 0.05}
    by_hand(server_url, queue_name, body, backoff_strategies=strategies)


def test_moves(server_url: str, queue_name: str) -> None:
    """Back to its queue, for later, or until its children are done: no attempt counts."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("a", {}, attempts=1)
        await queue.add("b", {})
        for _ in range(2):
            held = await worker.get_next_job()
            assert held is not None
            assert held.id == job.id
            await held.move_to_wait()
        held = await worker.get_next_job()
        assert held is not None
        assert not await held.move_to_waiting_children()
        dependencies = worker.keys[f"{job.id}:dependencies"]
        await worker.broker.command("SADD", dependencies, "bull:elsewhere:1")
        assert await held.move_to_waiting_children()
        assert await job.state() == "waiting-children"
        other = await worker.get_next_job()
        assert other is not None
        await other.move_to_delayed(0.2)
        again = await worker.get_next_job(timeout=5)
        assert again is not None
        assert (again.id, again.attempts_made, again.attempts_started) == (other.id, 0, 2)

    by_hand(server_url, queue_name, body)


def test_who_lost_the_job_is_told(server_url: str, queue_name: str) -> None:
    """Whatever the caller believes, Redis knows whose the job is."""

    async def body(queue: Queue, worker: Worker) -> None:
        keys, command = worker.keys, worker.broker.command
        await queue.add("a", {})
        job = await worker.get_next_job("mine")
        assert job is not None
        await job.extend_lock(60)
        assert int(await command("PTTL", keys[f"{job.id}:lock"])) > 50_000
        with pytest.raises(UsageError):
            await job.extend_lock(0)
        with pytest.raises(UsageError):
            await job.move_to_completed({1, 2})
        await command("SADD", keys[f"{job.id}:dependencies"], "bull:elsewhere:1")
        await command("ZADD", keys[f"{job.id}:unsuccessful"], 1, "bull:elsewhere:2")
        with pytest.raises(JobHasFailedChildren):
            await job.move_to_waiting_children()
        await command("SET", keys[f"{job.id}:lock"], "theirs")
        with pytest.raises(LockMismatch):
            await job.move_to_failed("x")
        with pytest.raises(LockMissing):
            await job.extend_lock()
        await command("DEL", keys[f"{job.id}:lock"])
        with pytest.raises(LockMissing):
            await job.log("x")
        await command("SET", keys[f"{job.id}:lock"], "mine")
        await command("DEL", keys["active"])
        with pytest.raises(JobNotInState):
            await job.move_to_failed("x")

    by_hand(server_url, queue_name, body)


def test_jobs_that_must_fail_are_not_handed_out(server_url: str, queue_name: str) -> None:
    """The caller sees only what it should run."""

    async def body(queue: Queue, worker: Worker) -> None:
        bad = [await queue.add("bad", {}) for _ in range(3)]
        good = await queue.add("good", {})
        await worker.broker.command("HSET", worker.keys[bad[0].id], "defa", "child failed")
        await worker.broker.command("HSET", worker.keys[bad[1].id], "opts", "{not json")
        await worker.broker.command("HSET", worker.keys[bad[2].id], "ats", 5)
        job = await worker.get_next_job(timeout=5)
        assert job is not None
        assert job.id == good.id
        assert [await each.state() for each in bad] == ["failed"] * 3

    by_hand(server_url, queue_name, body, max_started_attempts=5)


def test_waits_for_a_job_as_long_as_it_was_told(server_url: str, queue_name: str) -> None:
    """It wakes for a new job, and for one that becomes due, and no later than its time."""

    async def body(queue: Queue, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await worker.get_next_job(timeout=0.3) is None
        assert 0.3 <= loop.time() - started < SOON
        waiting = asyncio.create_task(worker.get_next_job(timeout=100))
        await queue.add("late", {}, delay=0.2)
        late = await asyncio.wait_for(waiting, SOON)
        assert late is not None
        waiting = asyncio.create_task(worker.get_next_job(timeout=100))
        await queue.add("now", {})
        job = await asyncio.wait_for(waiting, SOON)
        assert job is not None
        assert job.name == "now"

    by_hand(server_url, queue_name, body)


def test_limits_hold(server_url: str, queue_name: str) -> None:
    """A worker's limit is its queue's, whoever runs the jobs."""

    async def body(queue: Queue, worker: Worker) -> None:
        await queue.add_bulk([("a", {})] * 2)
        assert await worker.get_next_job() is not None
        assert await worker.get_next_job() is None
        assert await worker.get_next_job(timeout=5) is not None

    by_hand(server_url, queue_name, body, limiter=RateLimit(1, 0.3))


def test_without_a_processor_nothing_can_be_run(server_url: str, queue_name: str) -> None:
    """The mistake is said, not waited out."""

    async def body(_queue: Queue, worker: Worker) -> None:
        with pytest.raises(UsageError, match="no processor"):
            await worker.run()

    by_hand(server_url, queue_name, body)
    with pytest.raises(UsageError, match="not started"):
        run_async(Worker(queue_name).get_next_job())


def test_a_caller_who_gives_up_leaves_no_job_locked(server_url: str, queue_name: str) -> None:
    """``wait_for`` around it cancels between the claim and its reply: the job must go back."""

    async def body(queue: Queue, worker: Worker) -> None:
        for after in range(12):
            await queue.add("resize", {})
            taking = asyncio.create_task(worker.get_next_job())
            for _ in range(after):
                await asyncio.sleep(0)
            taking.cancel()
            (held,) = await asyncio.gather(taking, return_exceptions=True)
            if not isinstance(held, BaseException):
                assert held is not None
                await held.move_to_completed(None)
        await worker.close()
        counts = await queue.counts()
        assert counts["active"] == 0
        assert counts["waiting"] + counts["completed"] == 12

    by_hand(server_url, queue_name, body)


def test_a_job_whose_reply_came_goes_back_too(server_url: str, queue_name: str) -> None:
    """Between the claim and the job there is another question to Redis, which may be away."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("resize", {})
        hand = worker._by_hand
        assert hand is not None
        claimed = await hand._claim("my token")
        taking = asyncio.create_task(
            hand._taken_or_given_back(claimed, claimed.jobs[0], "my token")
        )
        await asyncio.sleep(0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await worker.close()
        assert await job.state() == "waiting"
        assert (await job.refresh()).attempts_started == 0

    by_hand(server_url, queue_name, body)


def test_a_delayed_job_does_not_hide_those_that_come(server_url: str, queue_name: str) -> None:
    """Its marker wakes whoever waits, and tells only when it is due."""

    async def body(queue: Queue, worker: Worker) -> None:
        await queue.add("later", {}, delay=600)
        taking = asyncio.create_task(worker.get_next_job(timeout=100))
        marker = queue.keys["marker"]

        async def has_taken_the_marker() -> bool:
            return not await worker.broker.command("EXISTS", marker)

        await wait_until_async(has_taken_the_marker)
        await queue.add("now", {})
        job = await asyncio.wait_for(taking, SOON)
        assert job is not None
        assert job.name == "now"

    by_hand(server_url, queue_name, body)


def test_a_job_that_has_to_fail_is_not_the_end_of_the_queue(
    server_url: str, queue_name: str
) -> None:
    """``while job := await get_next_job()`` would stop at the first that had stalled too often."""

    async def body(queue: Queue, worker: Worker) -> None:
        spoilt = await queue.add("spoilt", {})
        await queue.add("fine", {})
        await worker.broker.command("HSET", queue.keys[spoilt.id], "defa", "stalled too often")
        job = await worker.get_next_job()
        assert job is not None
        assert job.name == "fine"
        assert await spoilt.state() == "failed"

    by_hand(server_url, queue_name, body)
