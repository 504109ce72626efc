"""A reply that is lost after Redis has run the command; an outcome that Redis does not take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue, Worker
from sandboxq.broker.commands.settings import read_usage
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.script import load
from sandboxq.observe.telemetry import (
    Event,
    JobsSettled,
    OutcomesDropped,
    Telemetry,
)
from tests.broker.servers import FaultProxy, StoppableServer
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running, with_worker

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.broker.keys import QueueKeys


@pytest.mark.parametrize("script", ["settle", "report"])
def test_what_redis_has_done_is_neither_repeated_nor_denied(
    tmp_path: Path, queue_name: str, script: str
) -> None:
    """One log row, one progress event, one job that is told and counted as completed."""
    events: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(events.append, JobsSettled, OutcomesDropped)

    async def main(server: StoppableServer) -> None:
        broker = await Broker.connect(server.url)
        await broker.command("SCRIPT", "LOAD", load(script).text)
        async with (
            FaultProxy(server, cut_at=load(script).sha.encode(), cuts=1) as proxy,
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=proxy.url, procs=1, telemetry=telemetry) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("report", {"do": "report"})
            assert await job.result(timeout=60) == "reported"
            await wait_until_async(lambda: _holds(worker, 0))
            rows = [row.split()[-1] for row in await job.logs()]
            stream = await broker.command("XRANGE", worker.keys["events"], "-", "+")
            kinds = [fields[fields.index(b"event") + 1] for _, fields in stream]
            assert sorted(rows) == sorted(set(rows))
            assert (kinds.count(b"progress"), kinds.count(b"completed")) == (1, 1)
            assert worker.counters.completed == 1
            worker.stop()
            await run
        assert await broker.command("KEYS", "*:mark:*") == []
        await broker.close()

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
    assert not [event for event in events if isinstance(event, OutcomesDropped)]


def test_what_jobs_have_used_is_added_once(tmp_path: Path, queue_name: str) -> None:
    """Also when the answer is lost: `stats --usage` counts each attempt once."""

    async def main(server: StoppableServer) -> None:
        broker = await Broker.connect(server.url)
        script = load("add_usage")
        await broker.command("SCRIPT", "LOAD", script.text)
        async with (
            FaultProxy(server, cut_at=script.sha.encode(), cuts=1) as proxy,
            Queue(queue_name, url=server.url) as queue,
        ):
            async with Worker(queue_name, PROCESSOR, url=proxy.url, procs=1) as worker:
                run = asyncio.create_task(worker.run())
                await (await queue.add("echo", {})).result(timeout=60)
                await wait_until_async(lambda: _has_counted(broker, worker.keys, 1))
                await (await queue.add("echo", {})).result(timeout=60)
                worker.stop()
                await run
            assert (await read_usage(broker, worker.keys)).attempts == 2
        assert await broker.command("KEYS", "*:mark:*") == []
        await broker.close()

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_outcomes_wait_while_redis_has_no_memory(tmp_path: Path, queue_name: str) -> None:
    """It refuses for now: none is given up, none is run again, and none is told as failed."""

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=server.url, procs=2) as worker,
        ):
            run = asyncio.create_task(worker.run())
            await worker.pause()
            rows = [("fail", {"do": "fail"})] * 2 + [("echo", {"value": 1})] * 2
            jobs = await queue.add_bulk(rows)
            await worker.broker.command("CONFIG", "SET", "maxmemory", "1")
            worker.resume()
            await asyncio.sleep(0.5)  # the settler has tried, if jobs were claimed at all
            await worker.broker.command("CONFIG", "SET", "maxmemory", "0")
            await wait_until_async(lambda: _has_ended(queue, 4))
            seen = [await queue.get_job(job.id) for job in jobs]
            ends = [(each.failed_reason, each.attempts_started) for each in seen if each]
            assert ends == [("boom", 1)] * 2 + [(None, 1)] * 2
            assert not worker.running
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_an_outcome_that_cannot_be_settled_is_given_up_alone(
    server_url: str, queue_name: str
) -> None:
    """Its neighbours are settled, it is said once, and its lock is not renewed for ever."""
    dropped: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(dropped.append, OutcomesDropped)

    async def body(queue: Queue, worker: Worker) -> None:
        await worker.pause()
        jobs = await queue.add_bulk([("echo", {"value": n}) for n in range(12)])
        bad = jobs[5]
        # Its deduplication key is a list: no script can release it.
        await worker.broker.command("HSET", worker.keys[bad.id], "deid", "d")
        await worker.broker.command("LPUSH", worker.keys["de:d"], "no string")
        worker.resume()
        # The bad one too, if it can be completed without that key.
        await wait_until_async(lambda: _has_completed(queue, (11, 12)))
        await wait_until_async(lambda: _holds(worker, 0))
        assert worker.counters.completed in {11, 12}

    with_worker(server_url, queue_name, body, procs=1, telemetry=telemetry)
    assert len(dropped) <= 1


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, ValueError])
def test_a_listener_that_raises_ends_nothing(
    server_url: str, queue_name: str, error: type[BaseException]
) -> None:
    """Whatever it raises: the settler calls it, and goes on."""

    def listen(_: Event) -> None:
        raise error

    telemetry = Telemetry()
    telemetry.subscribe(listen)

    async def body(queue: Queue, worker: Worker) -> None:
        for n in range(3):
            job = await queue.add("echo", {"value": n})
            assert await job.result(timeout=60) == n
        assert not [each for each in worker._services if each._task is None or each._task.done()]

    async def main() -> None:
        async with running(server_url, queue_name, telemetry=telemetry) as (queue, worker):
            await body(queue, worker)

    run_async(main())


async def _holds(worker: Worker, number: int) -> bool:
    return worker.running == number


async def _has_counted(broker: Broker, keys: QueueKeys, attempts: int) -> bool:
    return (await read_usage(broker, keys)).attempts >= attempts


async def _has_ended(queue: Queue, number: int) -> bool:
    counts = await queue.counts()
    return counts["completed"] + counts["failed"] == number


async def _has_completed(queue: Queue, numbers: tuple[int, ...]) -> Any:
    return (await queue.counts())["completed"] in numbers
