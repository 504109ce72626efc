"""The worker on a real server with real children: what becomes of jobs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Backoff, JobCrashed, JobExited, JobFailed, Queue, UsageError, Worker
from sandboxq.observe.telemetry import LocksLost, Telemetry
from sandboxq.worker.attempt import Attempt
from tests.conftest import SOON, Gate, run_async, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")


@contextlib.asynccontextmanager
async def running(url: str, queue_name: str, **options: Any) -> AsyncIterator[tuple[Queue, Worker]]:
    """Yield a queue and a worker that runs for the duration of the block."""
    async with Queue(queue_name, url=url) as queue, _worker(url, queue_name, **options) as worker:
        running = asyncio.create_task(worker.run())
        try:
            yield queue, worker
        finally:
            worker.stop()
            worker.stop()
            await running


def _worker(url: str, queue_name: str, **options: Any) -> Worker:
    return Worker(queue_name, url=url, **{"processor": PROCESSOR, "procs": 2, **options})


def with_worker(
    url: str, name: str, body: Callable[[Queue, Worker], Awaitable[None]], **options: Any
) -> None:
    """Run an async test body beside a worker."""

    async def main() -> None:
        async with running(url, name, **options) as (queue, worker):
            await body(queue, worker)

    run_async(main())


async def _has_completed(worker: Worker, number: int) -> bool:
    return worker.counters.completed == number


def test_every_job_runs_once_and_its_value_arrives(server_url: str, queue_name: str) -> None:
    """The main job: add, run in a child, read the value."""

    async def body(queue: Queue, worker: Worker) -> None:
        jobs = await queue.add_bulk([("echo", {"value": number}) for number in range(300)])
        values = await asyncio.gather(*(job.result(timeout=60) for job in jobs))
        assert values == list(range(300))
        # Told a moment after Redis has it.
        await wait_until_async(lambda: _has_completed(worker, 300))
        counts = await queue.counts()
        assert (counts["completed"], counts["active"], counts["waiting"]) == (300, 0, 0)

    with_worker(server_url, queue_name, body)


def test_retries_until_it_works(server_url: str, queue_name: str) -> None:
    """Failed attempts count, at once and with back-off, and leave their traces."""

    async def body(queue: Queue, _worker: Worker) -> None:
        data = {"do": "fail-until", "times": 2}
        at_once = await queue.add("now", data, attempts=3)
        later = await queue.add("later", data, attempts=3, backoff=Backoff.fixed(0.05))
        assert await at_once.result(timeout=60) == 2
        assert await later.result(timeout=60) == 2
        job = await queue.get_job(later.id)
        assert job is not None
        assert (job.attempts_made, job.attempts_started) == (3, 3)
        assert len(job.stacktrace) == 2
        assert "attempt 0" in job.stacktrace[0]

    with_worker(server_url, queue_name, body)


def test_failure_says_why(server_url: str, queue_name: str) -> None:
    """The reason is the exception's text, the trace ends in the user's file."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("fail", {"do": "fail", "message": "no such photo"})
        with pytest.raises(JobFailed, match="no such photo"):
            await job.result(timeout=60)
        stored = await queue.get_job(job.id)
        assert stored is not None
        assert stored.failed_reason == "no such photo"
        assert "processors_for_tests.py" in stored.stacktrace[0]
        assert await stored.state() == "failed"

    with_worker(server_url, queue_name, body)


def test_unrecoverable_uses_no_further_attempt(server_url: str, queue_name: str) -> None:
    """A processor that knows better is believed."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("give up", {"do": "give-up"}, attempts=5)
        with pytest.raises(JobFailed, match="no use"):
            await job.result(timeout=60)
        stored = await queue.get_job(job.id)
        assert stored is not None
        assert stored.attempts_made == 1

    with_worker(server_url, queue_name, body)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ({"do": "exit", "code": 7}, JobExited, "7"),
        ({"do": "segv"}, JobCrashed, "SIGSEGV"),
        ({"do": "kill", "signal": "SIGKILL"}, JobCrashed, "SIGKILL"),
    ],
)
def test_death_of_a_child_costs_one_job(
    server_url: str, queue_name: str, data: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The job fails with the cause, soon, and its neighbours never notice."""

    async def body(queue: Queue, worker: Worker) -> None:
        neighbours = await queue.add_bulk(
            [("sleep", {"do": "sleep", "seconds": 0.02}) for _ in range(20)]
        )
        killed = await queue.add("killed", data, attempts=2)
        with pytest.raises(error, match=text):
            await killed.result(timeout=60)
        values = await asyncio.gather(*(job.result(timeout=60) for job in neighbours))
        assert values == ["slept"] * 20
        stored = await queue.get_job(killed.id)
        assert stored is not None
        assert stored.attempts_made == 2
        assert worker.counters.failed == 1
        assert worker.pool.size == 2

    with_worker(server_url, queue_name, body)


def test_bad_jobs_fail_alone(server_url: str, queue_name: str) -> None:
    """Data or options that are not JSON, and values that cannot be JSON, cost only their job."""

    async def body(queue: Queue, worker: Worker) -> None:
        keys = worker.keys
        bad = [await queue.add(name, {}, delay=60) for name in ("data", "opts")]
        await worker.broker.command("HSET", keys[bad[0].id], "data", "{not json")
        await worker.broker.command("HSET", keys[bad[1].id], "opts", "{not json")
        for job in bad:
            await worker.broker.command("ZREM", keys["delayed"], job.id)
            await worker.broker.command("LPUSH", keys["wait"], job.id)
        not_json = await queue.add("set", {"do": "not-json"})
        good = await queue.add("good", {"value": 1})
        assert await good.result(timeout=60) == 1
        with pytest.raises(JobFailed, match="set"):
            await not_json.result(timeout=60)
        await wait_until_async(lambda: _is_failed_count(queue, 3))
        for job, what in zip(bad, ("data", "opt"), strict=True):
            reason = await worker.broker.command("HGET", keys[job.id], "failedReason")
            assert what in reason.decode()
            assert "JSON" in reason.decode()

    with_worker(server_url, queue_name, body)


async def _is_failed_count(queue: Queue, number: int) -> bool:
    return (await queue.counts())["failed"] == number


def test_what_a_job_reports_is_kept(server_url: str, queue_name: str) -> None:
    """Progress, data, log rows and everything printed are found at the job afterwards."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("report", {"do": "report"})
        assert await job.result(timeout=60) == "reported"
        stored = await queue.get_job(job.id)
        assert stored is not None
        assert stored.progress == {"done": 40}
        assert stored.data == {"do": "echo", "seen": True}
        rows = await worker.broker.command("LRANGE", worker.keys[f"{job.id}:logs"], 0, -1)
        text = b"\n".join(rows).decode()
        for line in ("a row", "a printed line", "a line on stderr", "a warning"):
            assert line in text

    with_worker(server_url, queue_name, body)


def test_lost_lock_ends_the_run(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """When somebody else owns the job, our run must not go on beside theirs."""
    lost: list[str] = []
    telemetry = Telemetry()
    telemetry.subscribe(
        lambda event: lost.extend(event.job_ids) if isinstance(event, LocksLost) else None
    )
    marks = tmp_path / "marks"

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("mark", {"do": "mark", "path": str(marks), "seconds": 30})
        await wait_until_async(lambda: _exists(marks))
        pid = int(marks.read_text())
        await worker.broker.command("SET", worker.keys[f"{job.id}:lock"], "somebody else")
        await wait_until_async(lambda: _is_gone(pid))
        assert lost == [job.id]
        assert worker.running == 0
        assert await job.state() == "active"

    with_worker(server_url, queue_name, body, lock_duration=1, telemetry=telemetry)


async def _exists(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0  # noqa: ASYNC240 - a look at a local file


async def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()  # noqa: ASYNC240 - no disk is behind /proc


def test_short_locks_survive_jobs_that_compute(server_url: str, queue_name: str) -> None:
    """Jobs that outlast their lock many times over are renewed, and never stall."""

    async def body(queue: Queue, worker: Worker) -> None:
        jobs = [await queue.add("sleep", {"do": "sleep", "seconds": 2}) for _ in range(2)]
        await asyncio.gather(*(job.result(timeout=60) for job in jobs))
        assert worker.counters.locks_lost == 0
        assert worker.counters.heartbeats > 5
        for job in jobs:
            stored = await queue.get_job(job.id)
            assert stored is not None
            assert (stored.stalled_counter, stored.attempts_started) == (0, 1)

    with_worker(server_url, queue_name, body, lock_duration=0.8, stalled_interval=0.3)


def test_scaling_while_it_runs(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """More children take more jobs at once; fewer finish theirs first."""
    gate = Gate(tmp_path)

    async def body(queue: Queue, worker: Worker) -> None:
        assert await worker.scale(4) == 4
        data = {"do": "sleep", "until": gate.path}
        jobs = [await queue.add("sleep", data) for _ in range(4)]
        await wait_until_async(lambda: _is_busy(worker, 4))
        assert await worker.scale(1) == 1
        gate.open()
        assert await asyncio.gather(*(job.result(timeout=60) for job in jobs)) == ["slept"] * 4
        assert await (await queue.add("echo", {"value": 5})).result(timeout=60) == 5
        with pytest.raises(UsageError):
            await worker.scale(0)

    with_worker(server_url, queue_name, body, procs=1)


async def _is_busy(worker: Worker, number: int) -> bool:
    return worker.pool.busy == number


def test_stop_hands_back_what_does_not_finish(server_url: str, queue_name: str) -> None:
    """A deploy costs no attempt: jobs go back to the front, in order."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            jobs = [
                await queue.add("sleep", {"do": "sleep", "seconds": 60}, attempts=1)
                for _ in range(4)
            ]
            async with _worker(server_url, queue_name, shutdown_timeout=0.1) as worker:
                run = asyncio.create_task(worker.run())
                await wait_until_async(lambda: _is_busy(worker, 2))
                worker.stop()
                await asyncio.wait_for(run, 10)
            counts = await queue.counts()
            assert (counts["waiting"], counts["active"], counts["failed"]) == (4, 0, 0)
            for job in jobs:
                stored = await queue.get_job(job.id)
                assert stored is not None
                assert stored.attempts_made == 0
            waiting = await queue.get_jobs(["waiting"], ascending=True)
            assert [job.id for job in waiting] == [job.id for job in jobs]

    run_async(main())


def test_burst_ends_when_nothing_is_left(server_url: str, queue_name: str) -> None:
    """A batch in cron or Kubernetes wants an end, and retries belong to the batch."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk([("echo", {"value": 1})] * 50)
            await queue.add("fail", {"do": "fail-until", "times": 1}, attempts=2)
            await queue.add("first", {}, priority=2)
            async with _worker(server_url, queue_name) as worker:
                await asyncio.wait_for(worker.run(burst=True), 20)
            assert (await queue.counts())["completed"] == 52

    run_async(main())


def test_a_settled_job_leaves_nothing_to_the_garbage_collector(
    server_url: str, queue_name: str
) -> None:
    """A ring of objects for each job cost a twelfth of the coordinator's time."""

    async def main() -> int:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk([("echo", {"value": 1})] * 50)
        async with _worker(server_url, queue_name) as worker:
            await worker.run(burst=True)
            return sum(isinstance(each, Attempt) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        assert run_async(main()) == 0
    finally:
        gc.enable()


def test_jobs_that_ran_at_a_renewal_are_not_kept(server_url: str, queue_name: str) -> None:
    """Their data can be large, and an idle worker renews nothing for hours."""

    async def main() -> int:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk([("sleep", {"do": "sleep", "seconds": 0.5})] * 4)
        async with _worker(server_url, queue_name, lock_duration=0.5) as worker:
            await worker.run(burst=True)
            return sum(isinstance(each, Attempt) for each in gc.get_objects())

    assert run_async(main()) == 0


def test_worker_of_an_empty_queue_wakes_at_once(server_url: str, queue_name: str) -> None:
    """An idle worker sleeps on the marker, not on a timer."""

    async def body(queue: Queue, _worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        await (await queue.add("echo", {})).result(timeout=60)
        started = loop.time()
        await (await queue.add("echo", {})).result(timeout=60)
        assert loop.time() - started < SOON

    with_worker(server_url, queue_name, body, drain_delay=60)


def test_delayed_jobs_run_when_due(server_url: str, queue_name: str) -> None:
    """The claimer knows when the next delayed job is due and wakes for it."""

    async def body(queue: Queue, _worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        job = await queue.add("echo", {"value": "late"}, delay=0.6)
        assert await job.result(timeout=60) == "late"
        assert 0.5 < loop.time() - started < SOON

    with_worker(server_url, queue_name, body, drain_delay=60)


def test_usage_errors_come_before_anything_starts(queue_name: str) -> None:
    """A worker that cannot work says so when it is made."""
    with pytest.raises(UsageError, match="procs"):
        Worker(queue_name, PROCESSOR, procs=0)
    with pytest.raises(UsageError, match=":"):
        Worker("a:b", PROCESSOR)


def test_deferred_failure_fails_without_running(server_url: str, queue_name: str) -> None:
    """A job that stalled too often, or whose child failed, is failed by whoever claims it."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("echo", {"value": 1}, delay=0.3, attempts=3)
        await worker.broker.command("HSET", worker.keys[job.id], "defa", "stalled too often")
        with pytest.raises(JobFailed, match="stalled too often"):
            await job.result(timeout=60)

    with_worker(server_url, queue_name, body)


def test_completed_value_is_the_text_that_the_child_wrote(server_url: str, queue_name: str) -> None:
    """Numbers beyond 2^53, umlauts and nesting pass through every hand unchanged."""
    value = {"big": 2**60, "name": "Grün", "nested": [1, {"a": None}]}

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("echo", {"value": value})
        assert await job.result(timeout=60) == value
        stored = await worker.broker.command("HGET", worker.keys[job.id], "returnvalue")
        assert json.loads(stored) == value

    with_worker(server_url, queue_name, body)


def test_job_id_that_is_no_text_is_run_like_others(server_url: str, queue_name: str) -> None:
    """A foreign producer may use any bytes; telling of the job must not stop the settler."""

    async def body(queue: Queue, worker: Worker) -> None:
        job_id = b"\xff\xfe"
        key = worker.keys.base.encode() + job_id
        fields = ("name", "echo", "data", '{"value": 1}', "opts", "{}", "timestamp", 1)
        await worker.broker.command("HSET", key, *fields, "delay", 0, "priority", 0)
        await worker.broker.command("LPUSH", worker.keys["wait"], job_id)
        await worker.broker.command("ZADD", worker.keys["marker"], 0, "0")
        await wait_until_async(lambda: worker.broker.command("HEXISTS", key, "finishedOn"))
        assert await worker.broker.command("HGET", key, "returnvalue") == b"1"
        job = await queue.add("echo", {"value": 2})
        assert await job.result(timeout=60) == 2

    with_worker(server_url, queue_name, body)
