"""OpenTelemetry metrics by Node's names, collected by the real SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from sandboxq import JobFailed, Metering, Queue
from sandboxq.observe.telemetry import Telemetry
from tests.conftest import run_async
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.job import QueuedJob


def test_a_worker_counts_what_became_of_its_attempts(server_url: str, queue_name: str) -> None:
    """One completed, one failed after a retry: counters by name and state, durations in ms."""
    reader, telemetry = InMemoryMetricReader(), Telemetry()
    Metering(MeterProvider([reader])).listen(telemetry, queue_name)

    async def main() -> None:
        async with running(server_url, queue_name, telemetry=telemetry) as (queue, _):
            await (await queue.add("nap", {"do": "sleep", "seconds": 0.05})).result(timeout=60)
            await _ended(await queue.add("bad", {"do": "fail"}, attempts=2))

    run_async(main())
    points = list(_points(reader))
    counted = {
        (name, p.attributes["bullmq.job.state"]): p.value for name, p in points if "jobs" in name
    }
    assert counted == {
        ("bullmq.jobs.completed", "completed"): 1,
        ("bullmq.jobs.retried", "retried"): 1,
        ("bullmq.jobs.failed", "failed"): 1,
    }
    (nap,) = [
        p
        for name, p in points
        if name == "bullmq.job.duration" and p.attributes["bullmq.job.name"] == "nap"
    ]
    assert nap.attributes["bullmq.queue.name"] == queue_name
    assert 50 <= nap.sum < 5000


def test_a_queue_records_how_many_jobs_are_where(server_url: str, queue_name: str) -> None:
    """As Node's recordJobCountsMetric: a gauge by state, and the counts themselves."""
    reader = InMemoryMetricReader()
    metering = Metering(MeterProvider([reader]))

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk([("job", {})] * 3)
            counts = await queue.record_job_counts_metric(metering, ["waiting", "failed"])
            assert counts == {"waiting": 3, "failed": 0}

    run_async(main())
    found = {p.attributes["bullmq.queue.jobs.state"]: p.value for _, p in _points(reader)}
    assert found == {"waiting": 3, "failed": 0}


async def _ended(job: QueuedJob) -> None:
    try:
        await job.result(timeout=60)
    except JobFailed:
        return


def _points(reader: InMemoryMetricReader) -> Iterator[tuple[str, Any]]:
    found = reader.get_metrics_data()
    assert found is not None
    for resource in found.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    yield metric.name, point
