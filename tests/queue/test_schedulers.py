"""Schedulers as producers see them: what is refused, and what can be read back."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue as PublicQueue
from sandboxq import Repeat, Scheduler
from sandboxq.errors import JobBelongsToScheduler, SchedulerSlotTaken, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.queue.queue import Queue
    from tests.queue.bench import Bench

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
FUTURE = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)
DAILY = "0 0 3 * * *"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "either cron or every"),
        ({"cron": DAILY, "every": 1}, "either cron or every"),
        ({"cron": ""}, "cron"),
        ({"cron": "0 0 25 * * *"}, "hour"),
        ({"cron": DAILY, "tz": "Mars/Olympus"}, "Mars/Olympus"),
        ({"cron": DAILY, "offset": 5}, "cron and offset"),
        ({"every": 1, "tz": "UTC"}, "every and tz"),
        ({"every": 0}, "every"),
        ({"every": -1}, "every"),
        ({"every": float("nan")}, "every"),
        ({"every": 0.0001}, "every"),
        ({"every": "1"}, "every"),
        ({"every": 10, "offset": 10}, "offset"),
        ({"every": 10, "offset": -1}, "offset"),
        ({"every": 1, "limit": 0}, "limit"),
        ({"every": 1, "limit": 1.5}, "limit"),
        ({"every": 1, "immediately": True, "start_date": FUTURE}, "immediately and start_date"),
        ({"every": 9, "immediately": True, "offset": 3}, "immediately and offset"),
        ({"every": 1, "immediately": 1}, "immediately"),
        ({"every": 1, "start_date": "2090-01-01"}, "start_date"),
        ({"every": 1, "end_date": dt.datetime(2090, 1, 1)}, "time zone"),  # noqa: DTZ001 - refused
        ({"every": 1, "start_date": FUTURE, "end_date": FUTURE}, "after start_date"),
    ],
)
def test_a_repeat_that_cannot_work(arguments: dict[str, Any], said: str) -> None:
    """It is usually written at the top of a module: said there, not when the worker runs."""
    with pytest.raises(UsageError, match=said):
        Repeat(**arguments)


@pytest.mark.parametrize(
    ("upsert", "said"),
    [
        (lambda q: q.upsert_scheduler("s", Repeat(every=1, end_date=PAST)), "end_date"),
        (lambda q: q.upsert_scheduler("s", Repeat(cron="0 0 0 31 2,4 *")), "at most 30 days"),
        (
            lambda q: q.upsert_scheduler(
                "s",
                Repeat(cron=DAILY, tz="UTC", start_date=FUTURE, end_date=FUTURE.replace(hour=1)),
            ),
            "never comes before",
        ),
        (lambda q: q.upsert_scheduler("", Repeat(every=1)), "scheduler id"),
        (lambda q: q.upsert_scheduler("s:123", Repeat(every=1)), "scheduler id"),
        (lambda q: q.upsert_scheduler("s", {"every": 1}), "Repeat"),
        (lambda q: q.upsert_scheduler("s", Repeat(every=1), name=""), "name"),
        (lambda q: q.upsert_scheduler("s", Repeat(every=1), data={1}), "JSON"),
        (lambda q: q.upsert_scheduler("s", Repeat(every=1), options={"delay": 1}), "delay"),
        (lambda q: q.upsert_scheduler("s", Repeat(every=1), options={"job_id": "a"}), "job_id"),
        (lambda q: q.upsert_scheduler("s", Repeat(every=1), options={"priority": -1}), "priority"),
        (lambda q: q.upsert_scheduler("s", Repeat(every=1), options={"bogus": 1}), "bogus"),
    ],
)
def test_what_is_refused_writes_nothing(
    bench: Bench, upsert: Callable[[Queue], Any], said: str
) -> None:
    """A scheduler that is half written would be found by a worker."""
    with pytest.raises(UsageError, match=said):
        bench.run(upsert)
    assert bench.redis.keys(bench.keys["*"]) == []


def test_a_scheduler_can_be_read_back(bench: Bench) -> None:
    """Deploy scripts compare what there is with what they want."""

    async def body(queue: Queue) -> None:
        repeat = Repeat(cron=DAILY, tz="Europe/Berlin", limit=9, end_date=FUTURE)
        job = await queue.upsert_scheduler(
            "nightly", repeat, name="report", data={"a": 1}, options={"priority": 2, "attempts": 3}
        )
        scheduler = await queue.get_scheduler("nightly")
        assert isinstance(scheduler, Scheduler)
        assert (scheduler.id, scheduler.name, scheduler.data) == ("nightly", "report", {"a": 1})
        assert (scheduler.cron, scheduler.tz, scheduler.limit) == (DAILY, "Europe/Berlin", 9)
        assert (scheduler.every, scheduler.offset, scheduler.iterations) == (None, None, 1)
        assert scheduler.end_date_ms == round(FUTURE.timestamp() * 1000)
        assert scheduler.options is not None
        assert (scheduler.options.priority, scheduler.options.attempts) == (2, 3)
        assert job.timestamp_ms + job.delay_ms == scheduler.next_ms
        assert (job.scheduler_id, job.priority) == ("nightly", 2)
        stored = await job.refresh()
        assert (stored.scheduler_id, stored.data) == ("nightly", {"a": 1})
        assert stored.delay_ms == job.delay_ms
        with pytest.raises(JobBelongsToScheduler):
            await job.remove()

    bench.run(body)


def test_many_schedulers_come_in_order(bench: Bench) -> None:
    """Pages of a dashboard."""

    async def body(queue: Queue) -> None:
        for number in range(5):
            start = FUTURE + dt.timedelta(hours=number)
            await queue.upsert_scheduler(f"s{number}", Repeat(every=5, start_date=start))
        bench.redis.zadd(bench.keys["repeat"], {"no record": 1})
        assert await queue.count_schedulers() == 6
        assert [each.id for each in await queue.get_schedulers()] == ["s4", "s3", "s2", "s1", "s0"]
        page = await queue.get_schedulers(1, 2, ascending=True)
        assert [each.id for each in page] == ["s0", "s1"]
        assert await queue.get_scheduler("nobody") is None
        assert await queue.remove_scheduler("s1")
        assert not await queue.remove_scheduler("s1")

    bench.run(body)


def test_upserting_again_changes_the_one_job(bench: Bench) -> None:
    """It is called at each start of a program."""

    async def body(queue: Queue) -> None:
        for cron in (DAILY, DAILY):
            await queue.upsert_scheduler("s", Repeat(cron=cron, tz="UTC"), data={"c": cron})
        later = Repeat(cron="0 0 4 * * *", tz="UTC")
        job = await queue.upsert_scheduler("s", later, data={"c": "0 0 4 * * *"})
        assert (await queue.counts())["delayed"] == 1
        assert (await job.refresh()).data == {"c": "0 0 4 * * *"}
        scheduler = await queue.get_scheduler("s")
        assert scheduler is not None
        assert (scheduler.cron, scheduler.iterations) == ("0 0 4 * * *", 1)

    bench.run(body)


def test_times_of_finished_jobs_are_skipped(bench: Bench) -> None:
    """A job that was promoted has run before its time, and still has its id."""

    async def body(queue: Queue) -> None:
        repeat = Repeat(cron=DAILY, tz="UTC")
        first = await queue.upsert_scheduler("s", repeat)
        bench.redis.zrem(bench.keys["delayed"], first.id)
        bench.redis.zadd(bench.keys["completed"], {first.id: 1})
        second = await queue.upsert_scheduler("s", repeat)
        assert second.delay_ms // 1000 - first.delay_ms // 1000 in (86_399, 86_400)
        assert (await queue.counts())["completed"] == 1
        bench.redis.zrem(bench.keys["delayed"], second.id)
        end = dt.datetime.fromtimestamp(second.timestamp_ms / 1000 + 86_400, dt.UTC)
        with pytest.raises(SchedulerSlotTaken):
            await queue.upsert_scheduler("s", Repeat(cron=DAILY, tz="UTC", end_date=end))

    bench.run(body)


def test_blocking(bench: Bench) -> None:
    """Scripts that set up schedules have no loop."""
    with PublicQueue.sync(bench.name, bench.url) as queue:
        job = queue.upsert_scheduler("s", Repeat(every=dt.timedelta(minutes=1)), data=5)
        assert (job.data, job.state().value, job.delay_ms) == (5, "waiting", 0)
        scheduler = queue.get_scheduler("s")
        assert scheduler is not None
        assert (scheduler.every, scheduler.data) == (60.0, 5)
        assert [each.id for each in queue.get_schedulers()] == ["s"]
        assert queue.count_schedulers() == 1
        assert queue.remove_scheduler("s")
