"""The reading half of the queue for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.payload.binary import WHOLE
from sandboxq.queue.sync_part import SyncPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from sandboxq.broker.commands.settings import Metrics, QueueMeta
    from sandboxq.model.job import JobState
    from sandboxq.observe.metering import Metering
    from sandboxq.queue.sync_job import SyncJob


class SyncReading(SyncPart):
    """See Reading."""

    def get_job(self, job_id: str) -> SyncJob | None:
        """See Queue.get_job."""
        job = self._run(self._queue.get_job(job_id))
        return None if job is None else self._bound(job)

    def read_job(self, job_id: str) -> SyncJob:
        """See Queue.read_job."""
        return self._bound(self._run(self._queue.read_job(job_id)))

    def get_jobs(
        self, states: str | Iterable[str], start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[SyncJob]:
        """See Queue.get_jobs."""
        jobs = self._run(self._queue.get_jobs(states, start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def counts(self, states: str | Iterable[str] | None = None) -> dict[str, int]:
        """See Queue.counts."""
        return self._run(self._queue.counts(states))

    def count(self) -> int:
        """See Queue.count."""
        return self._run(self._queue.count())

    def job_state(self, job_id: str) -> JobState:
        """See Queue.job_state."""
        return self._run(self._queue.job_state(job_id))

    def result(self, job_id: str, timeout: float | timedelta | None = None) -> Any:
        """See Queue.result."""
        return self._run(self._queue.result(job_id, timeout))

    def job_array(self, job_id: str, name: str = WHOLE) -> Any:
        """See Queue.job_array."""
        return self._run(self._queue.job_array(job_id, name))

    def job_binary(self, job_id: str, name: str = WHOLE) -> bytes:
        """See Queue.job_binary."""
        return self._run(self._queue.job_binary(job_id, name))

    def logs(self, job_id: str, start: int = 0, end: int = -1) -> list[str]:
        """See Queue.logs."""
        return self._run(self._queue.logs(job_id, start, end))

    def get_workers(self) -> list[dict[str, str]]:
        """See Queue.get_workers."""
        return self._run(self._queue.get_workers())

    def record_job_counts_metric(
        self, metering: Metering, states: str | Iterable[str] | None = None
    ) -> dict[str, int]:
        """See Queue.record_job_counts_metric."""
        return self._run(self._queue.record_job_counts_metric(metering, states))

    def counts_per_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """See Queue.counts_per_priority."""
        return self._run(self._queue.counts_per_priority(priorities))

    def delayed_count(self, until_ms: int | None = None) -> int:
        """See Queue.delayed_count."""
        return self._run(self._queue.delayed_count(until_ms))

    def get_queue_events_clients(self) -> list[dict[str, str]]:
        """See Queue.get_queue_events_clients."""
        return self._run(self._queue.get_queue_events_clients())

    def get_meta(self) -> QueueMeta:
        """See Queue.get_meta."""
        return self._run(self._queue.get_meta())

    def version(self) -> str | None:
        """See Queue.version."""
        return self._run(self._queue.version())

    def get_metrics(self, kind: str = "completed", start: int = 0, end: int = -1) -> Metrics:
        """See Queue.get_metrics."""
        return self._run(self._queue.get_metrics(kind, start, end))

    def export_prometheus_metrics(self, labels: Mapping[str, str] | None = None) -> str:
        """See Queue.export_prometheus_metrics."""
        return self._run(self._queue.export_prometheus_metrics(labels))
