"""Sentry: spans of adds and jobs in one trace, errors of jobs, and deaths of children.

    Queue(tracing=SentryTracing()).add ── span queue.publish ── its trace headers ──► the job
    child: @monitored process(job) ── transaction queue.process, continues it ── errors
    worker: Worker(on_failed=report_death) ── what ended a child, which cannot tell itself

``sentry_sdk.init`` is called in ``setup()`` of the processor: its thread must not be made before
children are forked.
"""

from __future__ import annotations

import inspect
import time
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import sentry_sdk
from sentry_sdk.consts import OP, SPANDATA
from sentry_sdk.tracing import TransactionSource

from sandboxq.observe.tracing import Tracing, metadata_from_carrier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sentry_sdk.tracing import Span

    from sandboxq.child.job import Job
    from sandboxq.observe.telemetry import AttemptFailed

_ORIGIN = "auto.queue.sandboxq"
# A child may be ended soon after its job: what it has to tell goes out first, if Sentry answers.
_FLUSH_SECONDS = 2.0


class SentryTracing(Tracing):
    """Give it to a Queue: each add is a span ``queue.publish``, and its jobs continue the trace."""

    def __init__(self) -> None:
        """Need nothing: ``sentry_sdk.init`` says where spans go."""

    @contextmanager
    def adding(self, queue: str, name: str) -> Iterator[SentryAdd]:  # type: ignore[override]
        """Span the add of one job."""
        with _publishing(queue, name) as add:
            yield add

    @contextmanager
    def adding_bulk(self, queue: str, names: Sequence[str]) -> Iterator[SentryAdd]:  # type: ignore[override]
        """Span the add of many jobs at once."""
        with _publishing(queue, f"{len(names)} jobs") as add:
            yield add

    @contextmanager
    def adding_flows(self, queues: Sequence[str]) -> Iterator[SentryAdd]:  # type: ignore[override]
        """Span the add of flows."""
        with _publishing(", ".join(queues), "flow") as add:
            yield add


class SentryAdd:
    """The span of an add; ``metadata`` is what the jobs carry on."""

    def __init__(self, span: Span) -> None:
        """Wrap a span that its maker ends."""
        self._span = span
        carrier = dict(span.iter_headers())
        if trace := carrier.get("sentry-trace"):
            parts = trace.split("-")
            carrier["traceparent"] = f"00-{parts[0]}-{parts[1]}-0{int(parts[2:] == ['1'])}"
        self.metadata = metadata_from_carrier(carrier) if carrier else None

    def added(self, job_id: str) -> None:
        """Say which id the job got."""
        self._span.set_data(SPANDATA.MESSAGING_MESSAGE_ID, job_id)


@contextmanager
def _publishing(queue: str, what: str) -> Iterator[SentryAdd]:
    with sentry_sdk.start_span(op=OP.QUEUE_PUBLISH, name=what, origin=_ORIGIN) as span:
        span.set_data(SPANDATA.MESSAGING_SYSTEM, "bullmq")
        span.set_data(SPANDATA.MESSAGING_DESTINATION_NAME, queue)
        yield SentryAdd(span)


def monitored(process: Callable[[Job], Any]) -> Callable[[Job], Any]:
    """Have a processor's jobs be transactions ``queue.process``, and its errors events of them.

    ``process`` may be `async def`. What it raises is raised on.
    """
    if inspect.iscoroutinefunction(process):

        @wraps(process)
        async def run_async(job: Job) -> Any:
            with _processing(job):
                return await process(job)

        return run_async

    @wraps(process)
    def run(job: Job) -> Any:
        with _processing(job):
            return process(job)

    return run


@contextmanager
def _processing(job: Job) -> Iterator[None]:
    carrier = job.trace_context or {}
    with sentry_sdk.isolation_scope() as scope:
        transaction = sentry_sdk.continue_trace(
            carrier, op=OP.QUEUE_PROCESS, name=f"{job.queue_name}.{job.name}",
            source=TransactionSource.TASK, origin=_ORIGIN,
        )  # fmt: skip
        scope.set_context("sandboxq", job.log_fields)
        scope.set_tag("sandboxq.queue", job.queue_name)
        with sentry_sdk.start_transaction(transaction) as span:
            span.set_data(SPANDATA.MESSAGING_SYSTEM, "bullmq")
            span.set_data(SPANDATA.MESSAGING_MESSAGE_ID, job.id)
            span.set_data(SPANDATA.MESSAGING_DESTINATION_NAME, job.queue_name)
            span.set_data(SPANDATA.MESSAGING_MESSAGE_RETRY_COUNT, job.attempts_made)
            latency = max(0, int(time.time() * 1000) - job.timestamp - job.delay)
            span.set_data(SPANDATA.MESSAGING_MESSAGE_RECEIVE_LATENCY, latency)
            try:
                yield
            except Exception as error:
                sentry_sdk.capture_exception(error)
                span.set_status("internal_error")
                raise
    if span.status == "internal_error":
        sentry_sdk.flush(_FLUSH_SECONDS)


def report_death(event: AttemptFailed) -> None:
    """Report a job that ended its child, or whose child had to be ended: ``Worker(on_failed=…)``.

    What a processor raised its child has reported.
    """
    from sandboxq.worker.metrics import CAUSES  # noqa: PLC0415 - children have no worker

    if event.cause not in CAUSES:
        return
    with sentry_sdk.new_scope() as scope:
        scope.set_tag("sandboxq.queue", event.queue)
        scope.set_tag("sandboxq.cause", event.cause)
        scope.fingerprint = ["sandboxq", event.queue, event.job_name, event.cause]
        facts = {"job_id": event.job_id, "queue": event.queue, "attempt": event.attempt}
        scope.set_context("sandboxq", {**facts, "stack": event.stack})
        sentry_sdk.capture_message(f"{event.cause}: {event.reason}", level="error")
