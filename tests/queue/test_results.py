"""Waiting for results: nothing is missed, whoever finishes the job, whatever the stream drops."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import (
    JobCancelled,
    JobCrashed,
    JobExited,
    JobFailed,
    JobMemoryExceeded,
    JobNotFound,
    JobTimeout,
    LockLost,
    QueueError,
    RemoteError,
    ResultTimeout,
    ResultTooLarge,
    SandboxViolation,
    SignatureRefused,
    UsageError,
)
from sandboxq.model.job import KEEP_NONE
from sandboxq.queue.queue import Queue
from tests.broker.proxy import Passage, Proxy
from tests.broker.servers import StoppableServer
from tests.conftest import run_async, wait_until_async
from tests.queue.bench import completed, failed, finish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.queue.bench import Bench

SECONDS = 10.0
VALUES: list[Any] = [None, True, 1.5, 2**70, "é☃", [1, {"a": None}], {"deep": [[]]}]


async def readers(bench: Bench) -> int:
    """Return how many connections of this queue read events."""
    names = [row["name"] for row in bench.redis.client_list()]
    return names.count(f"{bench.keys.client_name}:qe")


async def reading(bench: Bench) -> None:
    """Wait until the reader blocks in Redis."""

    async def is_blocked() -> bool:
        name = f"{bench.keys.client_name}:qe"
        rows = [row for row in bench.redis.client_list() if row["name"] == name]
        return any("b" in row["flags"] for row in rows)

    await wait_until_async(is_blocked)


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("when", ["before", "while"])
def test_the_value(bench: Bench, value: Any, when: str) -> None:
    """It is the same whether the job finished before anybody asked or while somebody waited."""

    async def body(queue: Queue) -> Any:
        job = await queue.add("n", {})
        finishing = finish(bench.url, bench.name, completed(json.dumps(value).encode()))
        if when == "before":
            await finishing
            return await job.result(SECONDS)
        waiting = asyncio.create_task(job.result(SECONDS))
        await reading(bench)
        await finishing
        return await waiting

    assert bench.run(body) == value


@pytest.mark.parametrize("when", ["before", "while"])
@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        ("JobCrashed", JobCrashed),
        ("JobTimeout", JobTimeout),
        ("ValueError", JobFailed),
        ("UsageError", JobFailed),
        ("__doc__", JobFailed),
        ("", JobFailed),
    ],
)
def test_a_failure_has_its_class(
    bench: Bench, when: str, cause: str, kind: type[Exception]
) -> None:
    """Only what happened to the child gets a class of its own; foreign names are not looked up."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {})
        finishing = finish(bench.url, bench.name, failed("it broke", cause))
        waiting = asyncio.ensure_future(job.result(SECONDS)) if when == "while" else None
        if waiting:
            await reading(bench)
        await finishing
        with pytest.raises(JobFailed) as caught:
            await (waiting or job.result(SECONDS))
        error = caught.value
        assert type(error) is kind
        assert (error.reason, error.cause, error.job_id) == ("it broke", cause, job.id)
        assert (error.queue_name, error.attempts_made) == (bench.name, 1)
        assert error.stacktrace == (f"{cause or 'Error'}: it broke",)
        where = f"(job {job.id} of queue {bench.name!r}, attempt 1)"
        assert error.described() == f"{cause or 'JobFailed'}: it broke {where}"
        assert str(error) in {error.described(), f"it broke {where}"}

    bench.run(body)


@pytest.mark.parametrize("when", ["before", "while"])
def test_jobs_that_are_removed_when_they_finish(bench: Bench, when: str) -> None:
    """The event is all that is left of them, and it is enough."""

    async def body(queue: Queue) -> None:
        jobs = await queue.add_bulk([("a", 1), ("b", 2)])
        finishing = finish(
            bench.url,
            bench.name,
            completed(b'"v"', KEEP_NONE),
            failed("why", "JobTimeout", keep=KEEP_NONE),
        )
        tasks = []
        if when == "while":
            tasks = [asyncio.create_task(job.result(SECONDS)) for job in jobs]
            await reading(bench)
        await finishing
        assert not bench.redis.exists(bench.keys["1"], bench.keys["2"])
        tasks = tasks or [asyncio.create_task(job.result(SECONDS)) for job in jobs]
        assert await tasks[0] == "v"
        with pytest.raises(JobTimeout, match=r"why .job 2 of .*, attempt 1") as caught:
            await tasks[1]
        assert caught.value.cause == "JobTimeout"

    bench.run(body)


def test_every_way_in_which_a_job_ends_is_a_failure() -> None:
    """One except clause is enough, also where the error has come from another process."""
    for kind in (JobCrashed, JobExited, JobTimeout, JobMemoryExceeded, JobCancelled, LockLost):
        assert issubclass(kind, JobFailed)
    for other in (ResultTooLarge, SandboxViolation, SignatureRefused, RemoteError):
        assert issubclass(other, JobFailed)
    error = JobTimeout("too long")
    assert str(error) == "too long"
    error.job_id, error.queue_name, error.attempts_made = "7", "q", 2
    assert str(pickle.loads(pickle.dumps(error))) == "too long (job 7 of queue 'q', attempt 2)"  # noqa: S301 - our own


def test_a_job_that_is_gone(bench: Bench) -> None:
    """It is told at once, also to those who wait already."""

    async def body(queue: Queue) -> None:
        with pytest.raises(JobNotFound):
            await queue.result("nobody", SECONDS)
        job = await queue.add("n", {})
        waiting = asyncio.create_task(job.result(SECONDS))
        await reading(bench)
        await job.remove()
        with pytest.raises(JobNotFound):
            await waiting

    bench.run(body)


def test_timeout(bench: Bench) -> None:
    """It is both ours and Python's TimeoutError; the job is left alone."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {})
        with pytest.raises(ResultTimeout, match=r"0\.05 s"):
            await job.result(0.05)
        with pytest.raises(TimeoutError):
            await job.result(0)
        with pytest.raises(UsageError, match="timeout"):
            await job.result(-1)
        assert await queue.count() == 1

    bench.run(body)


def test_a_thousand_waiters_share_one_reader(bench: Bench) -> None:
    """Connections are scarce; each waiter gets its own value."""

    async def body(queue: Queue) -> None:
        jobs = await queue.add_bulk([("n", i) for i in range(1000)])
        waiting = [asyncio.create_task(job.result(SECONDS)) for job in [*jobs, jobs[0]]]
        await reading(bench)
        await finish(bench.url, bench.name, *(completed(b"%d" % i) for i in range(100)))
        assert await readers(bench) == 1
        for first in range(100, 1000, 100):
            values = [completed(b"%d" % i) for i in range(first, first + 100)]
            await finish(bench.url, bench.name, *values)
        assert await asyncio.gather(*waiting) == [*range(1000), 0]

    bench.run(body)


def test_malformed_entries_stop_nobody(bench: Bench) -> None:
    """Node's QueueEvents dies of such an entry (G1); the hash still has the value."""

    async def body(queue: Queue) -> None:
        first, second = await queue.add_bulk([("a", 1), ("b", 2)])
        waiting = [asyncio.create_task(job.result(SECONDS)) for job in (first, second)]
        await reading(bench)
        events = bench.keys["events"]
        bench.redis.xadd(events, {"event": "completed", "jobId": first.id, "returnvalue": "{oops"})
        bench.redis.xadd(events, {"event": "completed", "jobId": first.id})
        bench.redis.xadd(events, {"nonsense": "x"})
        await finish(bench.url, bench.name, completed(b"1"), completed(b"2"))
        assert await asyncio.gather(*waiting) == [1, 2]

    bench.run(body)


def test_a_value_that_is_no_json(bench: Bench) -> None:
    """It is an error of its own, not a hang, and not a value."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {})
        await finish(bench.url, bench.name, completed(b"{oops"))
        with pytest.raises(QueueError, match="not JSON"):
            await job.result(SECONDS)

    bench.run(body)


def test_a_lost_connection_loses_nothing(bench: Bench) -> None:
    """Whatever happened while the reader was away is asked for when it is back."""

    async def body(queue: Queue) -> None:
        first, second = await queue.add_bulk([("a", 1), ("b", 2)])
        waiting = [asyncio.create_task(job.result(SECONDS)) for job in (first, second)]
        await reading(bench)
        bench.redis.client_kill_filter(_type="normal", skipme=True)
        await finish(bench.url, bench.name, completed(b"1"))
        bench.redis.delete(bench.keys["events"])
        assert await waiting[0] == 1
        await finish(bench.url, bench.name, completed(b"2"))
        assert await waiting[1] == 2

    bench.run(body)


def test_closing_tells_who_waits(bench: Bench) -> None:
    """A task that waits must not hang when another closes the queue."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {})
        waiting = asyncio.create_task(job.result())
        await reading(bench)
        await queue.close()
        with pytest.raises(QueueError, match="closed"):
            await waiting

    bench.run(body)


def test_cancelling_a_waiter_leaves_the_others(bench: Bench) -> None:
    """A cancelled caller must not take the shared reader with it."""

    async def body(queue: Queue) -> Any:
        job = await queue.add("n", {})
        waiting = [asyncio.create_task(job.result(SECONDS)) for _ in range(2)]
        await reading(bench)
        waiting[0].cancel()
        await finish(bench.url, bench.name, completed(b"1"))
        return await waiting[1]

    assert bench.run(body) == 1


def test_the_reader_goes_to_rest_and_wakes_up(bench: Bench) -> None:
    """An idle producer must not read a busy queue's events for ever."""

    async def body(queue: Queue) -> None:
        async def is_at_rest() -> bool:
            assert queue._results is not None
            return queue._results.is_at_rest

        for value in (1, 2):
            job = await queue.add("n", {})
            waiting = asyncio.create_task(job.result(SECONDS))
            await reading(bench)
            await finish(bench.url, bench.name, completed(b"%d" % value))
            assert await waiting == value
            await wait_until_async(is_at_rest)

    bench.run(body)


def test_an_entry_that_is_on_its_way_counts_though_the_stream_has_lost_it(
    tmp_path: Path, queue_name: str
) -> None:
    """16 of 3,000 were told that their job does not exist: the stream was trimmed meanwhile."""

    async def main(server: StoppableServer) -> None:
        async with Proxy(server.port) as proxy, Queue(queue_name, proxy.url) as queue:
            other, job = await queue.add_bulk([("other", 0), ("job", 1)])
            waiting = asyncio.create_task(other.result(60))
            await wait_until_async(lambda: _is_read(proxy))
            (reader,) = proxy.living(b"XREAD")
            reader.answers_pass.clear()
            reader.is_stepwise = True
            await finish(server.url, queue_name, completed(b"1"), completed(b'"v"', KEEP_NONE))
            # The read that was under way ended with the first entry; the next brings the others.
            before = reader.answered
            reader.answers_pass.set()
            await wait_until_async(lambda: _has_answered(reader, before))
            broker = await queue._connected()
            await broker.command("XTRIM", queue.keys["events"], "MAXLEN", "=", 0)

            result = asyncio.create_task(job.result(60))
            await wait_until_async(lambda: _is_polled(proxy))
            assert not result.done()
            reader.is_stepwise = False
            reader.answers_pass.set()
            assert await result == "v"
            assert await waiting == 1

            # What no entry tells of is told at once, also when the stream was emptied.
            gone = await queue.add("gone", 1)
            await gone.remove()
            await broker.command("XTRIM", queue.keys["events"], "MAXLEN", "=", 0)
            with pytest.raises(JobNotFound):
                await gone.result(60)

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


async def _is_read(proxy: Proxy) -> bool:
    return len(proxy.living(b"XREAD")) == 1


async def _has_answered(passage: Passage, before: int) -> bool:
    return passage.answered > before + 200


async def _is_polled(proxy: Proxy) -> bool:
    return bool(proxy.living(b"XREVRANGE"))


@pytest.mark.parametrize("what", ["trimmed to nothing", "no stream"])
def test_events_that_cannot_be_read_end_nobody_s_wait(bench: Bench, what: str) -> None:
    """Redis answers with a stream and no entry, or refuses: that failed whoever waited."""
    events = bench.keys["events"]

    def spoil() -> None:
        if what == "no stream":
            bench.redis.delete(events)
            bench.redis.set(events, "x")
            return
        with bench.redis.pipeline(transaction=True) as both:
            both.xadd(events, {"event": "other"})
            both.xtrim(events, maxlen=0, approximate=False)
            both.execute()

    async def body(queue: Queue) -> Any:
        job = await queue.add("n", {})
        waiting = asyncio.create_task(job.result(SECONDS))
        await reading(bench)
        spoil()
        await finish(bench.url, bench.name, completed(b"7"))
        return await waiting

    assert bench.run(body) == 7
