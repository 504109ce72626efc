"""Schedulers on a running worker: chains go on, whatever happens to a job or to Redis."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq import Queue, Repeat, Worker
from sandboxq.broker.commands.claim import ClaimedJob
from sandboxq.broker.connect.script import load
from sandboxq.errors import OptionsUnreadable, UsageError
from sandboxq.worker.scheduler import iteration_after
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
NOW = 1_795_360_570_000


# ── the decision ────────────────────────────────────────────────────────────


def claimed(opts: Any, scheduler_id: bytes = b"s") -> ClaimedJob:
    """Return a claimed job with these options."""
    text = opts if isinstance(opts, bytes) else json.dumps(opts).encode()
    return ClaimedJob(
        *(b"repeat:s:1", b"n", b"{}", text, b"1", b"0", b"0"), scheduler_id=scheduler_id
    )


@pytest.mark.parametrize("member", ["prevMillis", "startDate"])
def test_a_time_beyond_the_calendar_ends_the_scheduler_and_not_the_worker(member: str) -> None:
    """What stands in a job's options may be anything; every claim would meet it."""
    repeat = {"pattern": "0 0 3 * * *", "tz": "UTC", "count": 1}
    opts = {"repeat": {**repeat, member: 1e18}, member: 1e18}

    assert iteration_after(claimed(opts), NOW) is None


def test_what_the_next_job_is_told() -> None:
    """The whole chain is in the options of its newest job; nothing unknown may get lost."""
    repeat = {"pattern": "0 0 3 * * *", "tz": "Europe/Berlin", "limit": 3, "count": 1, "x": [1]}
    opts = {
        "repeat": repeat,
        "jobId": "repeat:s:1",
        "delay": 5,
        "prevMillis": NOW,
        "mine": {"a": 1},
    }

    found = iteration_after(claimed({**opts, "priority": 4, "lifo": True}), NOW)

    assert found is not None
    assert found.next_ms == 1_795_399_200_000
    assert (found.priority, found.lifo, found.every_ms) == (4, True, None)
    changed = {"repeat": {**repeat, "count": 2}, "prevMillis": found.next_ms, "timestamp": NOW}
    kept = {"mine": {"a": 1}, "priority": 4, "lifo": True, "attempts": 0}
    assert found.opts == {**kept, **changed, "repeatJobKey": "s"}


@pytest.mark.parametrize(
    "repeat",
    [
        {"every": 1000, "limit": 3, "count": 3},
        {"every": 1000, "endDate": NOW - 1},
        {"pattern": "0 0 3 * * *", "tz": "UTC", "endDate": NOW + 1000},
    ],
)
def test_where_a_chain_ends(repeat: dict[str, Any]) -> None:
    """At the limit and at the end date, as with Node."""
    assert iteration_after(claimed({"repeat": repeat}), NOW) is None


def test_the_next_time_is_after_the_present_one() -> None:
    """A worker whose clock is behind must not make the present job again."""
    repeat = {"pattern": "* * * * * *", "tz": "UTC", "startDate": NOW + 90_000}
    ahead = {"repeat": {**repeat, "startDate": None}, "prevMillis": NOW + 70_000}

    late, early = (
        iteration_after(claimed(ahead), NOW),
        iteration_after(claimed({"repeat": repeat}), NOW),
    )

    assert late is not None
    assert early is not None
    assert late.next_ms == NOW + 71_000
    assert early.next_ms == NOW + 91_000


def test_what_nobody_can_read() -> None:
    """Somebody else wrote it: the caller logs it and runs the job."""
    with pytest.raises(UsageError, match="hour"):
        iteration_after(claimed({"repeat": {"pattern": "0 0 99 * * *"}}), NOW)
    with pytest.raises(UsageError, match="day of month"):
        iteration_after(claimed({"repeat": {"pattern": "0 0 0 31 2,4 *"}}), NOW)
    with pytest.raises(UsageError, match="zone"):
        iteration_after(claimed({"repeat": {"pattern": "0 0 9 * * *", "tz": "Mars"}}), NOW)
    with pytest.raises(OptionsUnreadable):
        iteration_after(claimed(b"{"), NOW)
    assert iteration_after(claimed({"repeat": 5, "x": 1}), NOW) is not None


# ── chains ──────────────────────────────────────────────────────────────────


def with_worker(url: str, name: str, body: Callable[[Queue], Awaitable[None]]) -> None:
    """Run an async test body beside a worker."""

    async def main() -> None:
        async with (
            Queue(name, url=url) as queue,
            Worker(name, PROCESSOR, url=url, procs=1) as worker,
        ):
            running = asyncio.create_task(worker.run())
            await body(queue)
            worker.stop()
            await running

    run_async(main())


async def until_completed(queue: Queue, count: int) -> None:
    """Wait until so many jobs have completed."""

    async def have() -> bool:
        return (await queue.counts())["completed"] >= count

    await wait_until_async(have)


def test_failing_jobs_do_not_double_a_chain(server_url: str, queue_name: str) -> None:
    """Each attempt claims the job again, and each claim comes by the scheduler."""

    async def body(queue: Queue) -> None:
        data = {"do": "fail-until", "times": 2}
        repeat = Repeat(every=0.3, limit=3)
        await queue.upsert_scheduler("s", repeat, data=data, options={"attempts": 3})
        await until_completed(queue, 3)
        jobs = await queue.get_jobs("completed")
        assert [job.attempts_made for job in jobs] == [3, 3, 3]
        assert sorted(job.opts.extra["repeat"]["count"] for job in jobs) == [1, 2, 3]
        scheduler = await queue.get_scheduler("s")
        assert scheduler is not None
        assert scheduler.iterations == 3
        assert await queue.count() == 0

    with_worker(server_url, queue_name, body)


def test_a_bad_pattern_in_the_queue_runs_its_job(
    server_url: str, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Other programs write there too; one of their mistakes must not stop a worker."""
    caplog.set_level(logging.ERROR, "sandboxq.worker")

    async def body(queue: Queue) -> None:
        await queue.pause()
        bad = await queue.upsert_scheduler("bad", Repeat(every=60), data={"value": 1})
        await queue.upsert_scheduler("fine", Repeat(every=60), data={"value": 2})
        opts = {"repeat": {"pattern": "0 0 99 * * *"}, "repeatJobKey": "bad"}
        with redis.Redis.from_url(server_url) as client:
            client.hset(queue.keys[bad.id], "opts", json.dumps(opts))
        await queue.resume()
        await until_completed(queue, 2)
        found = {each.id: each.iterations for each in await queue.get_schedulers()}
        assert found == {"bad": 1, "fine": 2}

    with_worker(server_url, queue_name, body)
    assert "scheduler bad ends with job repeat:bad:" in caplog.text


def test_a_spoilt_record_ends_only_its_own_chain(server_url: str, queue_name: str) -> None:
    """A batch goes to Redis in one call, and one error there refuses all of it."""

    async def body(queue: Queue) -> None:
        await queue.pause()
        for name in ("a", "bad", "c"):
            await queue.upsert_scheduler(name, Repeat(every=60), data={"value": name})
        with redis.Redis.from_url(server_url) as client:
            client.set(f"bull:{queue_name}:repeat:bad", "no hash")
            await queue.resume()
            await until_completed(queue, 3)
            client.delete(f"bull:{queue_name}:repeat:bad")
        found = {each.id: each.iterations for each in await queue.get_schedulers()}
        assert found == {"a": 2, "c": 2}

    with_worker(server_url, queue_name, body)


# ── Redis goes away at the worst moment ─────────────────────────────────────


class Cutter:
    """Stands before a server, and cuts the first connection on which some words are said."""

    def __init__(self, server_path: str, words: bytes) -> None:
        """Cut at ``words``, once."""
        self._server_path = server_path
        self._words = words
        self.cuts = 0

    async def serve(self, path: str) -> asyncio.Server:
        """Listen."""
        return await asyncio.start_unix_server(self._accept, path)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._server_path)
        async for chunk in _both(reader, far_reader, writer):
            if self._words in chunk and not self.cuts:
                self.cuts += 1
                break
            far_writer.write(chunk)
        far_writer.close()
        writer.close()


async def _both(
    reader: asyncio.StreamReader, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncIterator[bytes]:
    """Pass on answers, and yield what is asked."""

    async def answer() -> None:
        while chunk := await far_reader.read(65_536):
            writer.write(chunk)

    answering = asyncio.create_task(answer())
    try:
        while chunk := await reader.read(65_536):
            yield chunk
    finally:
        answering.cancel()


def test_a_connection_lost_after_the_claim_ends_no_chain(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """The job goes back unstarted, so that no job ever runs whose successor could be missing."""
    cutter = Cutter(server_url.removeprefix("unix://"), load("advance_scheduler").sha.encode())
    path = tmp_path / "cut.sock"

    async def main() -> None:
        server = await cutter.serve(str(path))
        async with (
            server,
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, PROCESSOR, url=f"unix://{path}", procs=1) as worker,
        ):
            running = asyncio.create_task(worker.run())
            await queue.upsert_scheduler("s", Repeat(every=0.3, limit=3), data={"value": 1})
            await until_completed(queue, 3)
            jobs = await queue.get_jobs("completed")
            worker.stop()
            await running
        assert [job.attempts_made for job in jobs] == [1, 1, 1]
        assert [job.attempts_started for job in jobs] == [1, 1, 1]

    run_async(main())
    assert cutter.cuts == 1


def test_a_pattern_of_ones_own_language(server_url: str, queue_name: str) -> None:
    """Node's repeatStrategy: the same function here and there keeps the scheduler going."""

    def in_steps(pattern: str, after_ms: int) -> int | None:
        return after_ms + int(pattern.removeprefix("step "))

    async def main() -> None:
        settings = {"procs": 1, "repeat_strategy": in_steps}
        async with running(server_url, queue_name, **settings) as (queue, worker):
            repeat = Repeat(cron="step 300", strategy=in_steps, limit=3)
            await queue.upsert_scheduler("own", repeat, data={"do": "echo"})
            await wait_until_async(lambda: _has_completed(worker, 3))
            assert await queue.count_schedulers() in {0, 1}

    async def _has_completed(worker: Worker, number: int) -> bool:
        return worker.counters.completed == number

    run_async(main())


def test_a_strategy_that_goes_back_is_refused() -> None:
    """It would make jobs without end; so would one that answers with nonsense."""
    for strategy in (lambda _, after: after, lambda *_: "soon", lambda *_: 1 // 0):
        with pytest.raises(UsageError, match="repeat strategy"):
            Repeat(cron="x", strategy=strategy).next_ms(1000)  # type: ignore[arg-type]
