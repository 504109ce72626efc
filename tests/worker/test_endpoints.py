"""What a worker tells by HTTP, asked over a real connection."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import JobFailed, Queue, Worker, WorkerGroup, WorkersFailed
from sandboxq.broker.commands.load import load_of
from sandboxq.broker.connect.broker import Broker
from sandboxq.observe.exposition import OPEN_TYPE
from sandboxq.observe.telemetry import AttemptsMeasured, Event, Telemetry
from sandboxq.worker.attempt import MOST_MEASURED
from sandboxq.worker.endpoints import Endpoints, Pulse
from tests.broker.servers import StoppableServer
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, _has_completed, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from prometheus_client import Metric


async def get(http: Endpoints, path: str, *, accept: str = "*/*") -> tuple[int, str]:
    """Return status and body."""
    reader, writer = await asyncio.open_connection(*http.address)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()


async def get_json(http: Endpoints, path: str) -> tuple[int, Any]:
    """Return status and what the body says."""
    status, body = await get(http, path)
    return status, json.loads(body)


async def until(http: Endpoints, path: str, is_so: Callable[[int, Any], bool]) -> Any:
    """Ask until the answer is as wanted; return what it says."""

    async def asked() -> Any:
        status, said = await get_json(http, path)
        return said if is_so(status, said) else None

    return await wait_until_async(asked)


def test_ready_from_its_run_until_it_stops(server_url: str, queue_name: str) -> None:
    """Before and after that nobody is ready; it is alive all the time."""

    async def main() -> None:
        async with Endpoints("0") as http:
            assert await get_json(http, "/readyz") == (503, {"ready": False, "workers": []})
            async with running(server_url, queue_name) as (_, worker):
                http.add(worker)
                said = await until(http, "/readyz", lambda status, _: status == 200)
                (row,) = said["workers"]
                assert row.pop("queue") == queue_name
                assert row.pop("paused") is False
                assert all(row.values())
                worker.stop()
                said = await until(http, "/readyz", lambda status, _: status == 503)
                assert all(not row["claiming"] for row in said["workers"])
            assert (await get_json(http, "/livez"))[0] == 200
            assert await get_json(http, "/readyz") == (503, {"ready": False, "workers": []})

    run_async(main())


def _has_one_ready(_status: int, said: Any) -> bool:
    return any(row["ready"] for row in said["workers"])


def test_a_queue_that_is_not_served_is_seen(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """Of several workers one could not start: the others run, and a rolling deploy stops here."""

    async def scenario() -> None:
        broken = Worker(f"{queue_name}-broken", tmp_path / "none.py", url=server_url)
        other = Worker(queue_name, PROCESSOR, url=server_url, procs=1)
        async with Endpoints("0") as http:
            http.add(broken, other)
            async with WorkerGroup([broken, other]) as group:
                going = asyncio.create_task(group.run(handle_signals=False))
                said = await until(http, "/readyz", _has_one_ready)
                rows = {row["queue"]: row["ready"] for row in said["workers"]}
                assert not said["ready"]
                assert rows == {f"{queue_name}-broken": False, queue_name: True}
                status, total = await get_json(http, "/v1/load")  # what scales the other sees
                assert (status, [row["queue"] for row in total["queues"]]) == (200, [queue_name])
                assert (await get(http, f"/v1/load?queue={queue_name}"))[0] == 200
                assert (await get(http, f"/v1/load?queue={queue_name}-broken"))[0] == 503
                group.stop()
                with pytest.raises(WorkersFailed):
                    await going

    run_async(scenario())


def values(families: Iterable[Metric], queue: str) -> dict[str, float]:
    """Return the values of a queue by name and further labels."""
    found = {}
    for sample in (each for family in families for each in family.samples):
        labels = dict(sample.labels)
        if labels.pop("queue", queue) == queue:
            found["/".join([sample.name, *labels.values()])] = sample.value
    return found


@pytest.mark.parametrize("is_open", [False, True])
def test_metrics_are_read_by_prometheus_own_parsers(
    server_url: str, queue_name: str, *, is_open: bool
) -> None:
    """In both formats: outcomes, distributions, deaths by cause, counts by Node's names."""
    pytest.importorskip("prometheus_client")
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as open_parser

    parse = (open_parser if is_open else parser).text_string_to_metric_families

    async def main() -> dict[str, float]:
        telemetry = Telemetry()
        async with (
            Endpoints("0") as http,
            running(server_url, queue_name, telemetry=telemetry, metrics_points=10) as (
                queue,
                worker,
            ),
        ):
            http.add(worker)
            await (await queue.add("nap", {"do": "sleep", "seconds": 0.3})).result(timeout=30)
            await _failed(await queue.add("bad", {"do": "fail"}, attempts=2))
            await _failed(await queue.add("dead", {"do": "exit", "code": 3}))
            await wait_until_async(lambda: _has_failed(worker, 2))
            accept = OPEN_TYPE if is_open else "text/plain"
            status, text = await get(http, "/metrics", accept=accept)
            # prometheus_client bears a blank there, and Prometheus itself does not in OpenMetrics.
            assert '", ' not in "".join(re.findall(r"{.*}", text))
            assert status == 200
            assert text.endswith("# EOF\n") == is_open
            return values(parse(text), queue_name)

    found = run_async(main())
    expected = {
        "sandboxq_jobs_total/completed": 1,
        "sandboxq_jobs_total/retried": 1,
        "sandboxq_jobs_total/failed": 2,
        "sandboxq_job_run_seconds_bucket/0.25": 3,
        "sandboxq_job_run_seconds_bucket/+Inf": 4,
        "sandboxq_job_run_seconds_count": 4,
        "sandboxq_job_wait_seconds_count": 3,
        "sandboxq_job_peak_rss_bytes_bucket/16777216.0": 0,
        "sandboxq_deaths_total/JobExited": 1,
        "sandboxq_deaths_total/JobTimeout": 0,
        "sandboxq_circuit_open": 0,
        "sandboxq_redis_up": 1,
        "sandboxq_worker_paused": 0,
        "bullmq_job_count/completed": 1,
        "bullmq_job_count/failed": 2,
        "bullmq_job_completed_total": 1,
        "bullmq_job_failed_total": 2,
        "sandboxq_queue_oldest_waiting_seconds": 0,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert 0.3 <= found["sandboxq_job_run_seconds_sum"] < 30
    assert found["sandboxq_job_cpu_seconds_count"] >= 3
    assert 0 <= found["sandboxq_worker_utilization"] <= 1
    assert found["sandboxq_lock_duration_seconds"] == 30


async def _has_failed(worker: Worker, number: int) -> bool:
    """Tell whether the worker knows, which hears of it after who waits for the result."""
    return worker.counters.failed == number


async def _failed(job: Any) -> None:
    with pytest.raises(JobFailed):
        await job.result(timeout=30)


def test_load_is_what_scales_workers(server_url: str, queue_name: str) -> None:
    """By BullMQ's counts, whatever state jobs wait in, and by how long the oldest has waited."""

    async def main() -> None:
        async with (
            Endpoints("0") as http,
            running(server_url, queue_name, telemetry=Telemetry(), procs=2) as (queue, worker),
        ):
            http.add(worker)
            await (await queue.add("nap", {"do": "sleep", "seconds": 0.2})).result(timeout=30)
            await worker.pause()
            await queue.add("waits", {})
            await queue.add("first", {}, priority=1)
            await queue.add("old", {}, priority=3, timestamp_ms=1_000)
            await queue.add("last", {}, priority=3)
            await queue.add("later", {}, delay=3600)
            status, row = await get_json(http, f"/v1/load?queue={queue_name}")
            assert status == 200
            assert row.pop("oldest_waiting_seconds") > 3600
            assert 0.3 < row.pop("predicted_wait_seconds") < 30
            assert row == {
                "queue": queue_name, "active": 0, "waiting": 4, "delayed": 1, "children": 2,
                "load": 2.0,
            }  # fmt: skip
            _, total = await get_json(http, "/v1/load")
            assert (total["waiting"], total["load"], len(total["queues"])) == (4, 2.0, 1)
            assert (await get(http, "/v1/load?queue=other"))[0] == 404

    run_async(main())


def test_a_score_that_is_no_priority_and_a_time_that_is_none(
    server_url: str, queue_name: str
) -> None:
    """Any client may write one: the rest of the load is told."""

    async def main() -> None:
        async with Queue(queue_name, server_url) as queue:
            await queue.add("old", {}, priority=3, timestamp_ms=1_000)
            forged = await queue.add("forged", {})
            broker = await Broker.connect(server_url)
            try:
                await broker.command("ZADD", queue.keys["prioritized"], "inf", "strange")
                key = f"{queue.keys.base}{forged.id}"
                await broker.command("HSET", key, "timestamp", "-9e99")
                load = await load_of(broker, queue.keys)
            finally:
                await broker.close()
            assert load.waiting == 3
            assert 3600 < load.oldest < time.time()

    run_async(main())


def test_many_attempts_are_counted_by_a_sample(server_url: str, queue_name: str) -> None:
    """What stands for others has their weight: none is missing in the sum."""
    heard: list[AttemptsMeasured] = []

    def hear(event: Event) -> None:
        assert isinstance(event, AttemptsMeasured)
        heard.append(event)

    async def main() -> None:
        telemetry = Telemetry()
        telemetry.subscribe(hear, AttemptsMeasured)
        async with running(server_url, queue_name, telemetry=telemetry) as (queue, worker):
            await queue.add_bulk([("job", {})] * 1000)
            await wait_until_async(lambda: _has_completed(worker, 1000))

    run_async(main())
    assert sum(each.count for each in heard) == 1000
    assert max(len(each.seconds) for each in heard) <= MOST_MEASURED


def test_a_loop_that_stood_still_is_told_afterwards() -> None:
    """A probe can only ask once it turns again."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pulse = Pulse(0.2)
        told = [pulse.is_steady]
        pulse.start()
        told.append(pulse.is_steady)
        stop = loop.time() + 1.5
        while loop.time() < stop:
            pass  # what blocks a loop: no await
        told.append(pulse.is_steady)
        await wait_until_async(lambda: _has_blocked(pulse))
        told.append(pulse.is_steady)
        assert told == [False, True, False, False]
        pulse.stop()

    run_async(main())


async def _has_blocked(pulse: Pulse) -> bool:
    return pulse.blocked > 0


def test_no_redis_no_figures(tmp_path: Path, queue_name: str) -> None:
    """While Redis does not answer: alive, not ready, and no 0 that would scale workers away."""

    async def main(server: StoppableServer) -> None:
        async with (
            Endpoints("0") as http,
            running(server.url, queue_name, telemetry=Telemetry()) as (_, worker),
        ):
            http.add(worker)
            await until(http, "/readyz", lambda status, _: status == 200)
            await asyncio.to_thread(server.stop)
            said = await until(http, "/readyz", lambda status, _: status == 503)
            (row,) = said["workers"]
            assert not row["redis"]
            assert row["children"]
            assert (await get(http, "/v1/load"))[0] == 503
            status, text = await get(http, "/metrics")
            assert status == 200
            assert f'sandboxq_redis_up{{queue="{queue_name}"}} 0\n' in text
            assert "bullmq_job_count" not in text
            assert (await get(http, "/livez"))[0] == 200
            await asyncio.to_thread(server.start)
            await until(http, "/readyz", lambda status, _: status == 200)

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
