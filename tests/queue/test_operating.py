"""Operating a queue and its jobs, as callers do it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.config import RateLimit
from sandboxq.errors import JobNotFound, JobNotInState, UsageError
from sandboxq.model.job import Deduplication, JobState
from sandboxq.queue.queue import SyncQueue
from sandboxq.queue.reading import prometheus_text
from tests.conftest import run_async
from tests.interop.dump import dump
from tests.queue.bench import completed, failed, finish

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue
    from tests.queue.bench import Bench

NAN = float("nan")

# By method: arguments that cannot be right, and what the error names.
WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("promote", ("",), {}, "job_id"),
    ("promote", (7,), {}, "job_id"),
    ("change_delay", ("1", -1), {}, "delay"),
    ("change_delay", ("1", NAN), {}, "delay"),
    ("change_delay", ("1", "5"), {}, "delay"),
    ("change_priority", ("1", -1), {}, "priority"),
    ("change_priority", ("1", 1.0), {}, "priority"),
    ("change_priority", ("1", True), {}, "priority"),
    ("change_priority", ("1", 2**21), {}, "2097151"),
    ("change_priority", ("1", 1), {"lifo": 1}, "lifo"),
    ("retry", ("1", "waiting"), {}, "failed, completed"),
    ("retry", ("1",), {"reset_attempts_made": 1}, "reset_attempts_made"),
    ("update_job_data", ("1", NAN), {}, "data"),
    ("update_job_data", ("1", {1: 2}), {}, "data"),
    ("update_job_progress", ("1", b"x"), {}, "progress"),
    ("add_job_log", ("1", None), {}, "line"),
    ("add_job_log", ("1", "\ud800"), {}, "line"),
    ("add_job_log", ("1", "x"), {"keep_logs": -1}, "keep_logs"),
    ("clear_job_logs", ("1",), {"keep_logs": -1}, "keep_logs"),
    ("drain", (), {"delayed": 1}, "delayed"),
    ("clean", (-1,), {}, "grace"),
    ("clean", (NAN,), {}, "grace"),
    ("clean", (0, "waiting-children"), {}, "state"),
    ("clean", (0, "wait"), {}, "waiting"),
    ("clean", (0,), {"limit": 0}, "limit"),
    ("clean", (0,), {"limit": 1.5}, "limit"),
    ("retry_jobs", ("delayed",), {}, "failed, completed"),
    ("retry_jobs", (), {"limit": 0}, "limit"),
    ("retry_jobs", (), {"until_ms": -1}, "until_ms"),
    ("retry_jobs", (), {"reset_attempts_started": "yes"}, "reset_attempts_started"),
    ("promote_jobs", (), {"limit": -1}, "limit"),
    ("remove_orphaned_jobs", (), {"limit": 0}, "limit"),
    ("trim_events", (-1,), {}, "max_length"),
    ("trim_events", (1.5,), {}, "max_length"),
    ("set_global_concurrency", (0,), {}, "concurrency"),
    ("set_global_concurrency", (1.5,), {}, "concurrency"),
    ("set_global_rate_limit", (0, 1), {}, "max_jobs"),
    ("set_global_rate_limit", (1, 0), {}, "duration"),
    ("set_global_rate_limit", (1, -1), {}, "duration"),
    ("rate_limit", (0,), {}, "duration"),
    ("rate_limit_ttl", (0,), {}, "max_jobs"),
    ("counts", ("sleeping",), {}, "a state must be one of"),
    ("counts_per_priority", ([1, -1],), {}, "priorities"),
    ("counts_per_priority", ([1.5],), {}, "priorities"),
    ("delayed_count", (-1,), {}, "until_ms"),
    ("get_metrics", ("active",), {}, "failed, completed"),
    ("export_prometheus_metrics", ({"a-b": "x"},), {}, "a-b"),
    ("deduplication_job_id", ("",), {}, "deduplication_id"),
    ("remove_deduplication_key", (None,), {}, "deduplication_id"),
]


@pytest.mark.parametrize(("method", "args", "options", "text"), WRONG)
def test_wrong_arguments_write_nothing(
    bench: Bench, method: str, args: tuple[Any, ...], options: dict[str, Any], text: str
) -> None:
    """The error names the argument; Node takes most of these and breaks something later."""

    async def body(queue: Queue) -> None:
        await queue.add("n", {}, delay=60)
        before = dump(bench.url, bench.name)
        with pytest.raises(UsageError, match=text):
            await getattr(queue, method)(*args, **options)
        assert dump(bench.url, bench.name) == before

    bench.run(body)


def test_one_job(bench: Bench) -> None:
    """Each method of a job does what its name says; the object itself stays as it was."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {"a": 1}, delay=dt.timedelta(hours=1), keep_logs=2)
        await job.change_delay(dt.timedelta(minutes=1))
        assert (await job.refresh()).delay_ms == 60_000
        await job.promote()
        assert await job.state() is JobState.WAITING
        await job.change_priority(5)
        assert await job.state() is JobState.PRIORITIZED
        assert (job.priority, (await job.refresh()).priority) == (0, 5)
        await job.update_data([1, "ü"])
        await job.update_progress({"step": 1})
        read = await job.refresh()
        assert (read.data, read.progress) == ([1, "ü"], {"step": 1})
        assert [await job.log(line) for line in ("a", "", "c")] == [1, 2, 2]
        assert await job.logs() == ["", "c"]
        await job.clear_logs(keep_logs=1)
        assert await job.logs() == ["c"]
        await job.clear_logs()
        assert await job.logs() == []
        with pytest.raises(JobNotInState):
            await job.retry()
        await job.remove()
        for call in (job.promote(), job.change_delay(1), job.change_priority(1), job.retry()):
            with pytest.raises(JobNotFound):
                await call
        for call in (job.update_data(1), job.update_progress(1)):
            with pytest.raises(JobNotFound):
                await call
        with pytest.raises(JobNotFound):
            await job.log("x")

    bench.run(body)

    # Nothing came back to life.
    assert bench.redis.keys(bench.keys["1*"]) == []


def test_a_job_keeps_its_size_limit(bench: Bench) -> None:
    """What could not be added cannot come in by the back door."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", "x", size_limit=5)
        with pytest.raises(UsageError, match="size"):
            await job.update_data("xxxxxxxxxx")
        await job.update_data("xx")
        assert (await job.refresh()).data == "xx"

    bench.run(body)


def test_a_retried_job_runs_again(bench: Bench) -> None:
    """Its value is the new one; the attempts go on, or begin anew."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {})
        await finish(bench.url, bench.name, failed("x", "JobCrashed"))
        await job.retry()
        assert (await job.refresh()).failed_reason is None
        await finish(bench.url, bench.name, completed(b"1"))
        await job.retry("completed", reset_attempts_made=True, reset_attempts_started=True)
        read = await job.refresh()
        assert (read.attempts_made, read.attempts_started, read.cause) == (0, 0, None)
        await finish(bench.url, bench.name, completed(b"2"))
        assert await job.result(60) == 2
        assert (await job.refresh()).attempts_made == 1

    bench.run(body)


def test_bulk_operations_say_how_far_they_are(bench: Bench) -> None:
    """Hundreds of jobs: the callback hears growing numbers, the last one is the result."""
    heard: list[int] = []

    async def body(queue: Queue) -> None:
        await queue.add_bulk([("n", {}, {"delay": 60})] * 250)
        assert await queue.promote_jobs(limit=230, progress=heard.append) == 230
        await finish(bench.url, bench.name, *[failed("x")] * 100)
        assert await queue.retry_jobs(progress=heard.append) == 100
        assert await queue.counts(["waiting", "delayed"]) == {"waiting": 230, "delayed": 20}
        assert len(await queue.clean(0, "waiting", limit=110, progress=heard.append)) == 110
        assert await queue.drain(delayed=True, progress=heard.append) == 140

    bench.run(body)

    assert heard == [*(100, 200, 230), 100, *(100, 110), *(100, 120, 140)]


def test_a_walk_can_be_given_up(bench: Bench) -> None:
    """What raises in the callback ends it; what was done is done."""

    def stop(done: int) -> None:
        raise RuntimeError(done)

    async def body(queue: Queue) -> None:
        await queue.add_bulk([("n", {})] * 250)
        with pytest.raises(RuntimeError, match="100"):
            await queue.drain(progress=stop)
        assert await queue.count() == 150

    bench.run(body)


def test_clean_is_announced_once(bench: Bench) -> None:
    """As Node does, also when there was nothing to clean."""

    async def body(queue: Queue) -> None:
        await queue.add_bulk([("n", {})] * 150)
        await queue.clean(0, "waiting")
        await queue.clean(dt.timedelta(seconds=5), "waiting")

    bench.run(body)

    events = [fields for _, fields in bench.redis.xrange(bench.keys["events"])]
    told = [fields["count"] for fields in events if fields["event"] == "cleaned"]
    assert told == ["150", "0"]


def test_deduplication_can_be_lifted(bench: Bench) -> None:
    """By the job that is in the way, or by anybody."""

    async def body(queue: Queue) -> None:
        rule = Deduplication("d", reschedule=True)
        first = await queue.add("n", 1, delay=60, deduplication=rule)
        again = await queue.add("n", 2, delay=90, deduplication=rule)
        assert (again.id, (await first.refresh()).delay_ms) == (first.id, 90_000)
        assert await queue.deduplication_job_id("d") == first.id
        read = await first.refresh()
        assert await read.remove_deduplication_key()
        assert not await read.remove_deduplication_key()
        plain = await queue.add("n", 3)
        assert not await plain.remove_deduplication_key()
        second = await queue.add("n", 4, delay=60, deduplication=rule)
        assert second.id != first.id
        assert await queue.remove_deduplication_key("d")

    bench.run(body)


def test_limits_and_settings(bench: Bench) -> None:
    """What was set is what is read."""

    async def body(queue: Queue) -> None:
        assert await queue.version() is None
        await queue.add("n", {})
        assert str(await queue.version()).startswith("bullmq:")
        assert (await queue.get_global_concurrency(), await queue.is_maxed()) == (None, False)
        await queue.set_global_concurrency(2)
        assert await queue.get_global_concurrency() == 2
        await queue.set_global_rate_limit(5, dt.timedelta(seconds=2))
        assert await queue.get_global_rate_limit() == RateLimit(5, 2.0)
        assert await queue.remove_global_concurrency()
        assert await queue.remove_global_rate_limit()
        assert await queue.get_global_rate_limit() is None
        await queue.rate_limit(30)
        assert 29 < await queue.rate_limit_ttl() <= 30
        assert await queue.remove_rate_limit_key()
        await queue.pause()
        assert (await queue.get_meta()).is_paused

    bench.run(body)


def test_prometheus_text() -> None:
    """What a scraper reads: a line that it cannot parse loses all of them."""
    text = prometheus_text('a"b', {"waiting": 3}, {"failed": 2}, {"room": "x\n"})

    assert text.splitlines() == [
        "# HELP bullmq_job_count Number of jobs in the queue by state",
        "# TYPE bullmq_job_count gauge",
        r'bullmq_job_count{queue="a\"b", state="waiting", room="x\n"} 3',
        "# HELP bullmq_job_failed_total Total number of failed jobs",
        "# TYPE bullmq_job_failed_total counter",
        r'bullmq_job_failed_total{queue="a\"b", room="x\n"} 2',
    ]
    with pytest.raises(UsageError, match="queue"):
        prometheus_text("q", {"waiting": 1}, {}, {"queue": "other"})


def test_the_blocking_twins_work(bench: Bench) -> None:
    """Each is one line of passing on, and each such line can be wrong."""
    queue = SyncQueue(bench.name, bench.url)
    job, _ = queue.add_bulk([("n", {}, {"delay": 60}), ("n", {}, {"delay": 90})])
    job.change_delay(70)
    job.promote()
    job.change_priority(3, lifo=True)
    job.update_data(1)
    job.update_progress(2)
    assert (job.log("a"), job.log("b")) == (1, 2)
    job.clear_logs(keep_logs=1)
    assert job.logs() == ["b"]
    read = job.refresh()
    assert (read.data, read.progress, read.priority) == (1, 2, 3)
    assert not job.remove_deduplication_key()
    assert queue.counts_per_priority([3]) == {3: 1}
    assert (queue.delayed_count(), queue.counts("delayed")) == (1, {"delayed": 1})
    run_async(finish(bench.url, bench.name, failed("x")))
    job.retry(reset_attempts_made=True)
    run_async(finish(bench.url, bench.name, failed("x")))
    heard: list[int] = []
    assert (queue.retry_jobs(progress=heard.append), heard) == (1, [1])
    assert queue.promote_jobs() == 1
    assert queue.clean(0, "waiting") == ["2"]
    assert queue.drain(delayed=True) == 1
    assert queue.remove_orphaned_jobs() == []
    assert (queue.get_metrics("failed").count, queue.trim_events(0) > 0) == (0, True)
    assert "bullmq_job_count" in queue.export_prometheus_metrics()
    assert (queue.get_queue_events_clients(), queue.get_meta().is_paused) == ([], False)
    assert queue.version() is not None
    queue.set_global_concurrency(1)
    assert (queue.get_global_concurrency(), queue.is_maxed()) == (1, False)
    assert queue.remove_global_concurrency()
    queue.set_global_rate_limit(1, 1)
    assert queue.get_global_rate_limit() == RateLimit(1, 1.0)
    assert queue.remove_global_rate_limit()
    queue.rate_limit(9)
    assert queue.rate_limit_ttl() > 8
    assert queue.remove_rate_limit_key()
    deduplicated = queue.add("n", {}, deduplication=Deduplication("d"))
    assert queue.deduplication_job_id("d") == deduplicated.id
    assert queue.get_jobs("waiting")[0].remove_deduplication_key()
    assert not queue.remove_deduplication_key("d")
    with pytest.raises(UsageError, match="size"):
        queue.add("n", "x", size_limit=5).update_data("xxxxxxxxxx")
    queue.close()
