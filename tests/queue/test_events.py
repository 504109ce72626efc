"""The events of a queue: each once and in order, whatever is in it, whatever happens."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import QueueEvent, QueueEvents
from sandboxq.broker.commands.attempts import Report, report
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.resolve import ENVIRONMENT
from sandboxq.broker.embedded import server as embedded
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import BrokerUnavailable, UsageError
from sandboxq.queue import custom_events
from sandboxq.queue.queue import Queue
from tests.broker.proxy import Proxy
from tests.broker.servers import StoppableServer
from tests.conftest import run_async, wait_until_async
from tests.queue.bench import completed, failed, finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.queue.bench import Bench

SECONDS = 10.0


@asynccontextmanager
async def following(bench: Bench, **options: Any) -> AsyncIterator[QueueEvents]:
    """Follow the bench's queue."""
    async with QueueEvents(bench.name, bench.url, **options) as events:
        yield events


async def take(events: QueueEvents, count: int) -> list[QueueEvent]:
    """Return the next events; fail when one does not come."""
    taken = []
    for _ in range(count):
        event = await events.read(SECONDS)
        assert event is not None
        taken.append(event)
    return taken


def told(events: list[QueueEvent]) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return events without their ids."""
    return [(event.name, event.job_id, event.fields) for event in events]


async def blocked_reader(bench: Bench) -> dict[str, str]:
    """Wait until the reader of this queue blocks in Redis and return its row of CLIENT LIST."""
    name = f"{bench.keys.client_name}:qe"

    async def row() -> Any:
        rows = [row for row in bench.redis.client_list() if row["name"] == name]
        return next((row for row in rows if "b" in row["flags"]), None)

    found: dict[str, str] = await wait_until_async(row)
    return found


def test_the_life_of_a_job(bench: Bench) -> None:
    """Names are BullMQ's, values are decoded, numbers are numbers."""

    async def body() -> list[QueueEvent]:
        async with Queue(bench.name, bench.url) as queue, following(bench) as events:
            await queue.add("n", {})
            await finish(bench.url, bench.name, completed(b'{"width":[320]}'))
            await queue.add("late", {}, timestamp_ms=1_900_000_000_000, delay=1)
            return await take(events, 7)

    assert told(run_async(body())) == [
        ("added", "1", {"name": "n"}),
        ("waiting", "1", {}),
        ("active", "1", {"prev": "waiting"}),
        ("completed", "1", {"returnvalue": {"width": [320]}, "prev": "active"}),
        ("drained", None, {}),
        ("added", "2", {"name": "late"}),
        ("delayed", "2", {"delay": 1_900_000_001_000}),
    ]


def test_failure_and_progress(bench: Bench) -> None:
    """A reason is text even when it looks like JSON; progress is any JSON."""

    async def body() -> list[QueueEvent]:
        broker = await Broker.connect(bench.url)
        async with Queue(bench.name, broker=broker) as queue, following(bench) as events:
            job = await queue.add("n", {})
            progress = Report(job.id.encode(), b"0", "progress", b'{"p":[50]}')
            await report(broker, bench.keys, [progress])
            await finish(bench.url, bench.name, failed('{"a":1}'))
            found = await take(events, 6)
        await broker.close()
        return found

    assert told(run_async(body()))[2:] == [
        ("progress", "1", {"data": {"p": [50]}}),
        ("active", "1", {"prev": "waiting"}),
        (
            "failed",
            "1",
            {
                "failedReason": '{"a":1}',
                "prev": "active",
                "sq:attempt": "1",
                "sq:cause": "",
            },
        ),
        ("retries-exhausted", "1", {"attemptsMade": 1}),
    ]


def test_a_malformed_entry_does_not_end_the_loop(bench: Bench) -> None:
    """Node's consumer dies of the first of these (protocol.md, G1); ours hands over the text."""
    nested = "[" * 100_000
    entries: list[dict[str, Any]] = [
        {"event": "completed", "jobId": "1", "returnvalue": "not JSON", "prev": "active"},
        {"event": "completed", "jobId": "2"},
        {"event": "completed", "jobId": "3", "returnvalue": nested},
        {"event": "progress", "jobId": "4", "data": "NaN"},
        {"event": "progress", "jobId": "5", "data": b"\xff"},
        {"event": "delayed", "jobId": "6", "delay": ""},
        {"jobId": "7"},
        {"event": "good"},
    ]

    async def body() -> list[QueueEvent]:
        async with following(bench) as events:
            for entry in entries:
                bench.redis.xadd(bench.keys["events"], entry)
            return await take(events, len(entries))

    assert told(run_async(body())) == [
        ("completed", "1", {"returnvalue": "not JSON", "prev": "active"}),
        ("completed", "2", {}),
        ("completed", "3", {"returnvalue": nested}),
        ("progress", "4", {"data": "NaN"}),
        ("progress", "5", {"data": "\ufffd"}),
        ("delayed", "6", {"delay": ""}),
        ("", "7", {}),
        ("good", None, {}),
    ]


def test_begins_at_the_end_unless_told_otherwise(bench: Bench) -> None:
    """What happened before is not news; who resumes gets exactly what came after."""
    ids = [bench.redis.xadd(bench.keys["events"], {"event": f"e{i}"}) for i in range(4)]

    async def body() -> list[list[str]]:
        async with following(bench) as events:
            assert events.last_id == ids[-1]
            assert await events.read(0) is None
        found = []
        for last_id in ("0", ids[1]):
            async with following(bench, last_id=last_id) as events:
                first = await take(events, 1)
                resumed = events.last_id
            async with following(bench, last_id=resumed) as events:
                rest = await take(events, int(last_id == "0") * 2 + 1)
                found.append([event.name for event in [*first, *rest]])
                assert await events.read(0.01) is None
        return found

    assert run_async(body()) == [["e0", "e1", "e2", "e3"], ["e2", "e3"]]


def test_a_killed_connection_is_made_anew(bench: Bench) -> None:
    """Dashboards live for months; nothing may be lost or told twice when a proxy cuts them off."""

    async def body() -> list[str]:
        async with following(bench) as events:
            names = []
            for number in range(4):
                reading = asyncio.create_task(take(events, 1))
                reader = await blocked_reader(bench)
                bench.redis.client_kill_filter(_id=reader["id"])
                bench.redis.xadd(bench.keys["events"], {"event": f"e{number}"})
                names += [event.name for event in await reading]
            return names

    assert run_async(body()) == ["e0", "e1", "e2", "e3"]


def test_a_restarted_server_that_lost_everything(tmp_path: Path, queue_name: str) -> None:
    """The reader waits until it is back, says that there is a gap, and goes on."""

    async def body(server: StoppableServer) -> list[QueueEvent]:
        keys = QueueKeys(queue_name)
        async with (
            Queue(queue_name, server.url) as queue,
            QueueEvents(queue_name, server.url) as events,
        ):
            await queue.publish_event("before")
            found = await take(events, 1)
            server.stop()
            assert await events.read(0.2) is None
            server.start()
            broker = await Broker.connect(server.url)
            await broker.command("XADD", keys["events"], "*", "event", "after")
            await broker.close()
            return found + await take(events, 2)

    with StoppableServer(tmp_path) as server:
        found = run_async(body(server))

    assert [(event.name, event.fields) for event in found] == [
        ("before", {}),
        ("gap", {"missed": None}),
        ("after", {}),
    ]


def test_what_was_trimmed_before_it_was_read_is_a_gap(bench: Bench) -> None:
    """A slow reader of a busy queue must know that it has not seen everything, and how much."""

    async def body() -> list[QueueEvent]:
        async with following(bench) as events:
            bench.redis.xadd(bench.keys["events"], {"event": "seen"})
            found = await take(events, 1)
            for number in range(30):
                bench.redis.xadd(bench.keys["events"], {"event": f"e{number}"})
            bench.redis.xtrim(bench.keys["events"], maxlen=2, approximate=False)
            found += await take(events, 3)
            assert events.last_id == found[-1].id
            return found

    found = run_async(body())

    assert [event.name for event in found] == ["seen", "gap", "e28", "e29"]
    assert found[1].fields == {"missed": 28}
    assert found[1].id == found[0].id


def test_pages_larger_than_one_read(bench: Bench) -> None:
    """A backlog comes in pages, and none of them counts as a gap."""
    with bench.redis.pipeline() as pipe:
        for number in range(2500):
            pipe.xadd(bench.keys["events"], {"event": "e", "n": number})
        pipe.execute()

    async def body() -> list[str]:
        async with following(bench, last_id="0") as events:
            return [event.fields["n"] for event in await take(events, 2500)]

    assert run_async(body()) == [str(number) for number in range(2500)]


def test_filters(bench: Bench) -> None:
    """Only what is asked for comes, and resuming does not begin with what was left out."""

    async def body() -> tuple[list[str], str, str]:
        async with (
            Queue(bench.name, bench.url) as queue,
            following(bench, names=["added"], job_ids=["2", "3"]) as events,
        ):
            for name in "abc":
                await queue.add(name, {})
            found = await take(events, 2)
            assert await events.read(0.01) is None
            newest = bench.redis.xinfo_stream(bench.keys["events"])["last-generated-id"]
            return [event.fields["name"] for event in found], events.last_id, newest

    names, last_id, newest = run_async(body())
    assert names == ["b", "c"]
    assert last_id == newest


def test_many_consumers_each_see_everything(bench: Bench) -> None:
    """They share a broker, not a place in the stream."""

    async def body() -> list[list[str]]:
        broker = await Broker.connect(bench.url)
        consumers = [QueueEvents(bench.name, broker=broker) for _ in range(3)]
        for consumer in consumers:
            await consumer.connect()
        async with Queue(bench.name, broker=broker) as queue:
            await queue.add_bulk([("n", {})] * 20)
            found = [await take(consumer, 40) for consumer in consumers]
        for consumer in consumers:
            await consumer.close()
            await consumer.close()
        assert not broker.is_closed
        await broker.close()
        return [[event.id for event in events] for events in found]

    first, second, third = run_async(body())
    assert first == second == third
    assert len(set(first)) == 40


def test_a_look_without_waiting(bench: Bench) -> None:
    """What is there is told, however short the time; also beside one that waits."""

    async def body() -> None:
        async with following(bench) as events, following(bench) as other:
            bench.redis.xadd(bench.keys["events"], {"event": "e"})
            event = await events.read(0)
            assert event is not None
            assert await events.read(0) is None
            waiting = asyncio.create_task(events.read(SECONDS))
            await blocked_reader(bench)
            assert await other.read(0) == event
            assert await other.read(0) is None
            bench.redis.xadd(bench.keys["events"], {"event": "f"})
            assert (await waiting) == (await take(other, 1))[0]

    run_async(body())


@pytest.mark.parametrize("by", ["url", "broker"])
def test_a_hundred_share_two_connections(bench: Bench, by: str) -> None:
    """An application has one for each browser; a slow one harms nobody, and misses nothing."""

    def connections() -> int:
        return len(bench.redis.client_list())

    async def all_but_slowly(events: QueueEvents, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            found += [(await take(events, 1))[0].id]
            await asyncio.sleep(0.001 * (len(found) % 3))
        return found

    async def body() -> None:
        broker = await Broker.connect(bench.url)
        queue = Queue(bench.name, broker=broker)
        await queue.add("before", {})
        before = connections()
        crowd = [
            QueueEvents(bench.name, bench.url, broker=broker if by == "broker" else None)
            for _ in range(100)
        ]
        await asyncio.gather(*(events.connect() for events in crowd))
        reading = [asyncio.create_task(all_but_slowly(events, 60)) for events in crowd]
        for _ in range(3):
            await queue.add_bulk([("n", {})] * 10)
        found = await asyncio.gather(*reading)
        assert connections() <= before + 2
        assert all(ids == found[0] for ids in found)
        assert len(set(found[0])) == 60
        early = QueueEvents(bench.name, bench.url, last_id="0")
        waiting = asyncio.create_task(crowd[0].read(SECONDS))
        await blocked_reader(bench)
        assert [event.id for event in await take(early, 62)][2:] == found[0]
        await asyncio.gather(*(events.close() for events in (*crowd[1:], early)))
        await queue.add("after", {})
        event = await waiting
        assert event is not None
        assert event.name == "added"
        await crowd[0].close()

        async def are_gone() -> bool:
            return connections() == before

        await wait_until_async(are_gone, timeout=SECONDS)
        await broker.close()

    run_async(body())


def reads_of(bench: Bench) -> int:
    """Return how often events were asked for, in all."""
    found: Any = bench.redis.info("commandstats")
    return int(found.get("cmdstat_xread", {"calls": 0})["calls"])


def test_who_is_left_by_all_entries_before_the_end_waits_for_the_next(bench: Bench) -> None:
    """It must not ask again and again for what was trimmed."""

    async def body() -> None:
        key = bench.keys["events"]
        bench.redis.xadd(key, {"event": "e"})
        async with following(bench) as at_the_end, following(bench, last_id="0") as behind:
            bench.redis.xtrim(key, 0, approximate=False)
            other = asyncio.create_task(at_the_end.read(SECONDS))
            await blocked_reader(bench)
            asked = reads_of(bench)
            assert [event.name for event in await take(behind, 1)] == ["gap"]
            assert await behind.read(0.5) is None
            assert reads_of(bench) - asked < 10
            bench.redis.xadd(key, {"event": "f"})
            assert [event.name for event in await take(behind, 1)] == ["f"]
            assert (await other) is not None

    run_async(body())


@pytest.mark.parametrize("whose", ["events", "broker"])
def test_closing_ends_a_loop_that_waits(bench: Bench, whose: str) -> None:
    """Whoever stops a program must not have to wait for the next event."""

    async def body() -> list[QueueEvent]:
        broker = await Broker.connect(bench.url)
        events = QueueEvents(bench.name, broker=broker)
        looping = asyncio.create_task(_all_of(events))
        await blocked_reader(bench)
        await (events.close() if whose == "events" else broker.close())
        async with asyncio.timeout(SECONDS):
            found = await looping
        await broker.close()
        return found

    assert run_async(body()) == []


async def _all_of(events: QueueEvents) -> list[QueueEvent]:
    return [event async for event in events]


def test_a_cancelled_read_loses_nothing(bench: Bench) -> None:
    """``asyncio.timeout`` around a read is what people write."""

    async def body() -> list[str]:
        async with following(bench) as events:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await anext(events)
            bench.redis.xadd(bench.keys["events"], {"event": "e"})
            return [event.name for event in await take(events, 1)]

    assert run_async(body()) == ["e"]


def test_a_cancelled_loop_leaves_no_connection(bench: Bench) -> None:
    """Nobody closes what was never entered; who reads on misses nothing."""

    async def body() -> None:
        before = len(bench.redis.client_list())
        events = QueueEvents(bench.name, bench.url)
        looping = asyncio.create_task(_all_of(events))
        await blocked_reader(bench)
        looping.cancel()
        await asyncio.wait({looping})
        assert len(bench.redis.client_list()) == before
        bench.redis.xadd(bench.keys["events"], {"event": "e"})
        assert [event.name for event in await take(events, 1)] == ["e"]
        await events.close()

    run_async(body())


def test_a_cancelled_loop_leaves_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded one, which its last user stops."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)

    async def body() -> None:
        looping = asyncio.create_task(_all_of(QueueEvents("images")))
        await wait_until_async(is_running, timeout=30)
        looping.cancel()
        await asyncio.wait({looping})
        await wait_until_async(has_ended, timeout=30)

    async def has_ended() -> bool:
        return not await is_running()

    async def is_running() -> bool:
        return embedded.server_status(tmp_path / embedded.DIRECTORY).running

    run_async(body())


def test_one_reader_at_a_time(bench: Bench) -> None:
    """Two loops over one object would share out the events, which nobody wants."""

    async def body() -> None:
        async with following(bench) as events:
            looping = asyncio.create_task(_all_of(events))
            await blocked_reader(bench)
            with pytest.raises(UsageError, match="another QueueEvents"):
                await events.read(0)
            await events.close()
            await looping

    run_async(body())


def test_no_server_at_the_beginning() -> None:
    """A wrong address is said at once instead of being tried for ever."""

    async def body() -> None:
        events = QueueEvents("q", "redis://127.0.0.1:1")
        with pytest.raises(BrokerUnavailable):
            await anext(events)
        await events.close()

    run_async(body())


@pytest.mark.parametrize(
    "options",
    [
        {"last_id": "yesterday"},
        {"last_id": 0},
        {"names": "completed"},
        {"names": [1]},
        {"job_ids": "17"},
    ],
    ids=str,
)
def test_wrong_arguments(options: dict[str, Any]) -> None:
    """A filter that is one text would silently be a filter of letters."""
    with pytest.raises(UsageError):
        QueueEvents("q", **options)
    with pytest.raises(UsageError):
        QueueEvents.sync("q", **options)


# ── the blocking twin ───────────────────────────────────────────────────────


def test_a_plain_loop(bench: Bench) -> None:
    """The short form of the documentation, for scripts."""
    with (
        Queue.sync(bench.name, bench.url) as queue,
        QueueEvents.sync(bench.name, bench.url) as events,
    ):
        queue.add("n", {})
        queue.publish_event("end")
        names = []
        for event in events:
            names.append(event.name)
            if event.name == "end":
                break
        assert names == ["added", "waiting", "end"]
        assert events.last_id == event.id
        assert events.read(0.01) is None
        events.close()
        assert list(events) == []


def test_a_forked_child_goes_on_where_its_parent_stood(bench: Bench) -> None:
    """It must not read from its parent's connection, and needs no new object."""
    with QueueEvents.sync(bench.name, bench.url) as events:
        for number in range(3):
            bench.redis.xadd(bench.keys["events"], {"event": f"e{number}"})
        assert next(events).name == "e0"
        pid = os.fork()
        if pid == 0:
            os._exit(0 if [next(events).name, next(events).name] == ["e1", "e2"] else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert [next(events).name, next(events).name] == ["e1", "e2"]


# ── events of one's own ─────────────────────────────────────────────────────


def test_publish_event(bench: Bench) -> None:
    """Fields arrive as they were sent, numbers as text, and the id is the one that readers see."""

    async def body() -> tuple[str, list[QueueEvent]]:
        async with Queue(bench.name, bench.url) as queue, following(bench) as events:
            fields: dict[str, Any] = {"jobId": "7", "data": "{", "n": 1.5, "é": ""}
            entry_id = await queue.publish_event("frame", fields)
            return entry_id, await take(events, 1)

    entry_id, (event,) = run_async(body())
    assert event == QueueEvent(entry_id, "frame", "7", {"data": "{", "n": "1.5", "é": ""})


def test_publishing_trims_as_the_queue_is_set_to(bench: Bench) -> None:
    """Node cuts the whole stream to 1000 at each custom event (G18): other readers lose theirs."""

    async def body() -> list[int]:
        lengths = []
        async with Queue(bench.name, bench.url) as queue:
            await queue.add_bulk([("n", {})] * 1500)
            for max_len in (None, 200):
                await queue.publish_event("mine", max_len=max_len)
                lengths.append(bench.redis.xlen(bench.keys["events"]))
        return lengths

    kept, cut = run_async(body())
    assert kept == 3001
    # Trimming goes by whole pages of the stream.
    assert 200 <= cut <= 400


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "completed"},
        {"name": "completed:17"},
        {"name": "error"},
        {"name": ""},
        {"name": "\ud800"},
        {"name": None},
        {"fields": {"event": "x"}},
        {"fields": {"": "x"}},
        {"fields": {1: "x"}},
        {"fields": {"a": None}},
        {"fields": {"a": float("nan")}},
        {"fields": {"a": True}},
        {"fields": {"a": {"b": 1}}},
        {"fields": {"a": "\ud800"}},
        {"fields": {str(i): "" for i in range(custom_events.MAX_FIELDS + 1)}},
        {"max_len": 0},
        {"max_len": 1.0},
        {"max_len": True},
    ],
    ids=lambda arguments: repr(arguments)[:40],
)
def test_events_that_are_refused(bench: Bench, arguments: dict[str, Any]) -> None:
    """Nothing was written; a false ``completed:17`` would end the wait for job 17 in Node."""

    async def body() -> None:
        async with Queue(bench.name, bench.url) as queue:
            with pytest.raises(UsageError):
                await queue.publish_event(**{"name": "mine", **arguments})

    run_async(body())
    assert bench.redis.exists(bench.keys["events"]) == 0


def test_events_closed_while_they_connect_end(bench: Bench) -> None:
    """The reader's connection came up after ``close``, and stayed."""

    async def main() -> None:
        events = QueueEvents(bench.name, bench.url)
        reading = asyncio.create_task(events.read())
        await asyncio.sleep(0)
        await events.close()
        assert await asyncio.wait_for(reading, 5) is None
        assert events._feed is None
        with pytest.raises(UsageError, match="were closed"):
            await events.connect()

    run_async(main())


def test_events_of_many_bytes_over_a_slow_link(tmp_path: Path, queue_name: str) -> None:
    """A page of a thousand events was read in one go, or dropped and read again for ever."""

    async def main(server: StoppableServer) -> None:
        async with Proxy(server.port, rate=4 << 20) as proxy:
            queue = Queue(queue_name, url=server.url)
            async with queue, QueueEvents(queue_name, proxy.url + "?socket_timeout=1") as events:
                text = "x" * 20_000
                for number in range(600):
                    await queue.publish_event("mine", {"n": number, "text": text})
                for number in range(600):
                    event = await events.read(20)
                    assert event is not None
                    assert event.fields["n"] == str(number)
                assert proxy.bytes_to_client < 600 * 20_000 * 1.2

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_events_that_are_cut_on_their_way_are_read_in_smaller_pieces(
    tmp_path: Path, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A link that breaks every megabyte brings them all the same, each once."""

    async def main(server: StoppableServer) -> None:
        async with Proxy(server.port) as proxy:
            queue = Queue(queue_name, url=server.url)
            async with queue, QueueEvents(queue_name, proxy.url) as events:
                text = "x" * 20_000
                for number in range(120):
                    await queue.publish_event("mine", {"n": number, "text": text})
                proxy.cut_after = 1 << 20
                for number in range(120):
                    event = await events.read(20)
                    assert event is not None
                    assert event.fields["n"] == str(number)

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
    assert "events were lost on their way" in caplog.text
