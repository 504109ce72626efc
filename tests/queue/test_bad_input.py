"""Arguments that cannot be right: a UsageError that names them, before anything is written."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import (
    Backoff,
    Deduplication,
    FlowProducer,
    Keep,
    Parent,
    ParentNotFound,
    Queue,
    QueueEvents,
    RateLimit,
    Repeat,
    UsageError,
    Worker,
)
from tests.conftest import run_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.queue.bench import Bench


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "resize", "data": {"width": 320}},
        {"name": "resize", "data": {}, "opts": {}},
        "ab",
        ("resize",),
        ("resize", 1, {}, 2),
        None,
    ],
)
def test_an_entry_of_a_bulk_add_is_not_taken_apart_into_something_else(
    bench: Bench, entry: Any
) -> None:
    """A dict of two members, as Node takes it, was added as the job "name" with data "data"."""
    with pytest.raises(UsageError, match="entry 1 must be"):
        bench.run(lambda queue: queue.add_bulk([("fine", 1), entry]))

    assert not bench.redis.exists(bench.keys["wait"])


@pytest.mark.parametrize("options", [[1], "attempts", 5])
def test_options_must_be_a_mapping(bench: Bench, options: Any) -> None:
    """Positional options of the wrong kind must be named, not end in an AttributeError."""
    with pytest.raises(UsageError, match="options of a job must be a dict"):
        bench.run(lambda queue: queue.add_bulk([("resize", 1, options)]))
    with pytest.raises(UsageError, match="options of a job must be a dict"):
        Queue("images", default_job_options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": 10**400}, "delay must be"),
        ({"backoff": Backoff("fixed", 1, "x")}, "jitter must be"),  # type: ignore[arg-type]  # wrong on purpose
        ({"remove_on_complete": Keep(age=-1)}, "age must be"),
        ({"deduplication": Deduplication("d", ttl=1, extend="no")}, "extend must be"),  # type: ignore[arg-type]  # wrong on purpose
        ({"job_id": "metrics"}, "a key of the queue itself"),
        ({"job_id": "de"}, "a key of the queue itself"),
    ],
)
def test_wrong_options_are_usage_errors(bench: Bench, options: Any, message: str) -> None:
    """Each of these used to be something else: a TypeError, an OverflowError, or a job."""
    with pytest.raises(UsageError, match=message):
        bench.run(lambda queue: queue.add("resize", 1, **options))

    assert not bench.redis.exists(bench.keys["wait"])


def test_durations_may_be_timedeltas_wherever_they_stand(bench: Bench) -> None:
    """``delay`` takes one; what is nested in a Backoff or a Keep must not be different."""
    minute = dt.timedelta(minutes=1)
    options: Any = {"backoff": Backoff.fixed(minute), "remove_on_fail": Keep(age=minute)}  # type: ignore[arg-type]  # read as such at run time

    job = bench.run(lambda queue: queue.add("resize", 1, **options))

    assert (job.opts.backoff.delay, job.opts.remove_on_fail.age) == (60.0, 60.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff.fixed("1"),  # type: ignore[arg-type]  # wrong on purpose, as all here
        lambda: Backoff.fixed(1, jitter="x"),  # type: ignore[arg-type]
        lambda: RateLimit(5, float("inf")),
        lambda: Queue(5),  # type: ignore[arg-type]
        lambda: Queue("images", prefix=5),  # type: ignore[arg-type]
        lambda: Worker("images", None, remove_on_complete="5"),  # type: ignore[arg-type]
        lambda: Worker("images", None, remove_on_fail=-5),
        lambda: Worker("images", None, remove_on_fail=Keep(age=-5)),
        lambda: Worker("images", None, lock_duration=float("inf")),
        lambda: Worker("images", None, concurrency=1.5),  # type: ignore[arg-type]
    ],
)
def test_what_would_fail_later_is_refused_when_it_is_made(make: Callable[[], object]) -> None:
    """A worker that cannot write an outcome would find out with the first job."""
    with pytest.raises(UsageError):
        make()


def test_the_queues_own_keys_are_no_jobs(bench: Bench) -> None:
    """remove("meta") deleted the settings of the queue, and a pause with them."""

    async def body(queue: Queue) -> list[bool]:
        await queue.upsert_scheduler("nightly", Repeat(every=60))
        await queue.add("resize", 1)
        await queue.pause()
        return [await queue.remove(name) for name in ("meta", "wait", "repeat:nightly")]

    assert bench.run(body) == [False, False, False]
    assert bench.redis.hget(bench.keys["meta"], "paused") == "1"
    assert bench.redis.exists(bench.keys["repeat:nightly"])


@pytest.mark.parametrize(
    "ask",
    [
        lambda queue: queue.get_job(5),
        lambda queue: queue.job_state(None),
        lambda queue: queue.result(5),
        lambda queue: queue.logs(""),
        lambda queue: queue.children_values(None),
        lambda queue: queue.dependencies(5, count=10),
        lambda queue: queue.remove(5),
    ],
)
def test_the_id_of_a_job_is_text(bench: Bench, ask: Any) -> None:
    """The id 5 is not the id "5" in any event: whoever waited for it would wait for long."""
    with pytest.raises(UsageError, match="job_id must be text"):
        bench.run(ask)


def test_the_job_of_an_add_knows_its_deduplication_id(bench: Bench) -> None:
    """Without it, it could not remove its key: job.remove_deduplication_key() did nothing."""

    async def body(queue: Queue) -> tuple[bool, str | None]:
        job = await queue.add("resize", 1, deduplication=Deduplication("album"))
        return await job.remove_deduplication_key(), await queue.deduplication_job_id("album")

    assert bench.run(body) == (True, None)


def test_a_time_beyond_the_calendar_is_refused(bench: Bench) -> None:
    """The search for the next time ends where Python's years end."""
    end = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
    repeat = Repeat(cron="0 0 1 1 *", tz="UTC", start_date=end)

    with pytest.raises(UsageError, match="never comes"):
        bench.run(lambda queue: queue.upsert_scheduler("far", repeat))


def test_a_queue_that_could_not_read_its_events_can_still_be_closed(bench: Bench) -> None:
    """What failed for those who waited must not keep the connections open for ever."""
    bench.redis.set(bench.keys["events"], "no stream")

    async def main() -> None:
        queue = Queue(bench.name, bench.url)
        with pytest.raises(Exception, match="WRONGTYPE"):
            await queue.result("17", timeout=5)
        await queue.close()

    run_async(main())


@pytest.mark.parametrize("entries", [None, 3, "abc", b"abc"])
def test_what_is_no_list_is_no_bulk(bench: Bench, entries: Any) -> None:
    """A forgotten return must be told by the argument's name, not as a TypeError of Python's."""
    with pytest.raises(UsageError, match="entries must be a list"):
        bench.run(lambda queue: queue.add_bulk(entries))

    async def main() -> None:
        async with FlowProducer(bench.url) as producer:
            with pytest.raises(UsageError, match="flows must be a list"):
                await producer.add_bulk(entries)

    run_async(main())


@pytest.mark.parametrize("url", [3, b"redis://localhost", ["redis://localhost"]])
def test_a_url_is_text(url: Any) -> None:
    """The first argument that a newcomer gets wrong is told with an example."""

    async def main() -> None:
        async with Queue("images", url) as queue:
            await queue.count()

    with pytest.raises(UsageError, match="url must be text such as 'redis://"):
        run_async(main())


@pytest.mark.parametrize("names", [3, [{}], "completed"])
def test_names_of_events_are_texts(names: Any) -> None:
    """A number would end in a TypeError when the first event comes."""
    with pytest.raises(UsageError, match="names must be"):
        QueueEvents("images", names=names)


def test_a_processor_is_named_by_text() -> None:
    """A function cannot be given: children import the processor."""
    with pytest.raises(UsageError, match="processor must be the path of a file"):
        Worker("images", lambda _: None)  # type: ignore[arg-type]  # wrong on purpose


def test_a_number_that_json_lacks_is_told_in_plain_words(bench: Bench) -> None:
    """The standard library's own words do not say what to do."""
    with pytest.raises(UsageError, match=r"contains NaN or Infinity.*use null"):
        bench.run(lambda queue: queue.add("resize", {"width": float("nan")}))


def test_a_parent_that_does_not_exist_is_told_without_its_wire_form(bench: Bench) -> None:
    """The raw fields of the job's hash help nobody."""
    with pytest.raises(ParentNotFound, match=r"its parent does not exist$"):
        bench.run(lambda queue: queue.add("page", {}, parent=Parent("none", bench.name)))


def test_an_unknown_state_is_told_with_those_that_exist(bench: Bench) -> None:
    """No name of a class of ours, and the state that was given."""
    with pytest.raises(UsageError, match=r"a state must be one of waiting, .* not 'done'"):
        bench.run(lambda queue: queue.counts(["done"]))
