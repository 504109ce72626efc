"""OpenTelemetry metrics, by the names that BullMQ's own have: one dashboard shows both sides.

    worker ── JobMoved ──► Metering ──► bullmq.jobs.completed, …, bullmq.job.duration
    Queue.record_job_counts_metric ──► bullmq.queue.jobs, by state

It counts in the worker's loop; exporters send from threads of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.errors import UsageError
from sandboxq.observe.telemetry import JobMoved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import MeterProvider

    from sandboxq.observe.telemetry import Event, Telemetry

# The instrumentation scope of the metrics.
METER_NAME = "sandboxq"

_COUNTERS = {
    "completed": "bullmq.jobs.completed",
    "failed": "bullmq.jobs.failed",
    "delayed": "bullmq.jobs.delayed",
    "retried": "bullmq.jobs.retried",
    "waiting": "bullmq.jobs.waiting",
    "waiting-children": "bullmq.jobs.waiting_children",
}


class Metering:
    """Metrics of queues and workers; give it to ``Worker`` or to a queue's counts.

    They go to ``meter_provider``, the global one when it is left out.
    Raises: UsageError when opentelemetry-api is not installed (``pip install opentelemetry-api``).
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        """Make the instruments."""
        try:
            from opentelemetry import metrics  # noqa: PLC0415 - only where it is used
        except ImportError as error:
            message = "metering needs opentelemetry-api: pip install opentelemetry-api"
            raise UsageError(message) from error
        meter = metrics.get_meter(METER_NAME, meter_provider=meter_provider)
        self._counters = {
            state: meter.create_counter(name, "1", f"Number of jobs {state}")
            for state, name in _COUNTERS.items()
        }
        self._duration = meter.create_histogram(
            "bullmq.job.duration", "ms", "Job processing duration"
        )
        self._jobs = meter.create_gauge(
            "bullmq.queue.jobs", "{jobs}", "Number of jobs in the queue by state"
        )

    def listen(self, telemetry: Telemetry, queue: str) -> None:
        """Count what the worker of this queue does that tells it to ``telemetry``."""

        def on_event(event: Event) -> None:
            match event:
                case JobMoved():
                    self._moved(queue, event)
                case _:
                    pass

        telemetry.subscribe(on_event, JobMoved)

    def record_counts(self, queue: str, counts: Mapping[str, int]) -> None:
        """Record how many jobs a queue has in each state."""
        for state, count in counts.items():
            attributes = {"bullmq.queue.name": queue, "bullmq.queue.jobs.state": state}
            self._jobs.set(count, attributes)

    def _moved(self, queue: str, event: JobMoved) -> None:
        attributes = {
            "bullmq.queue.name": queue,
            "bullmq.job.name": event.job_name,
            "bullmq.job.state": event.state,
        }
        self._counters[event.state].add(1, attributes)
        self._duration.record(event.seconds * 1000, attributes)
