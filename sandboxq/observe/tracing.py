"""OpenTelemetry spans of producers and workers, as bullmq-otel makes them in Node.

    Queue.add ─ span "add <queue>.<name>" (producer) ── its context ──► the job's option `tm`
                                                                            │
    worker ── span "process <queue>" (consumer), child of what `tm` says ◄──┘
                    └── its context ──► job.trace_context, for spans of the processor's own

Made only by a Queue or Worker that was given a Tracing; opentelemetry is imported by its first one.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider

# The library that made the spans, for whoever looks at them.
TRACER_NAME = "sandboxq"

_Attributes = dict[str, Any]


class Tracing:
    """Makes spans for the Queue or Worker that it is given to.

    They go to ``tracer_provider``, the global one when it is left out. Contexts travel as the
    global propagator writes them: W3C trace context, unless it was changed.
    Raises: UsageError when opentelemetry-api is not installed (``pip install opentelemetry-api``).
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        """Take the tracer."""
        try:
            from opentelemetry import propagate, trace  # noqa: PLC0415 - only where it is used
        except ImportError as error:
            message = "tracing needs opentelemetry-api: pip install opentelemetry-api"
            raise UsageError(message) from error
        self._trace = trace
        self._propagate = propagate
        self._tracer = trace.get_tracer(TRACER_NAME, tracer_provider=tracer_provider)

    @contextmanager
    def adding(self, queue: str, name: str) -> Iterator[AddSpan]:
        """Span the add of one job."""
        attributes = _attributes(queue, "add", "send") | {"bullmq.job.name": name}
        with self._producing(f"add {queue}.{name}", attributes) as span:
            yield span

    @contextmanager
    def adding_bulk(self, queue: str, names: Sequence[str]) -> Iterator[AddSpan]:
        """Span the add of many jobs at once; all of them get this span's context."""
        attributes = _attributes(queue, "addBulk", "send") | {
            "bullmq.job.bulk.names": list(names),
            "bullmq.job.bulk.count": len(names),
            "messaging.batch.message_count": len(names),
        }
        with self._producing(f"addBulk {queue}", attributes) as span:
            yield span

    @contextmanager
    def adding_flows(self, queues: Sequence[str]) -> Iterator[AddSpan]:
        """Span the add of flows, named by the queues of their roots."""
        if len(queues) == 1:
            name, queue = f"addFlow {queues[0]}", queues[0]
        else:
            name, queue = "addBulkFlows", ""
        with self._producing(name, _attributes(queue, name.split()[0], "send")) as span:
            yield span

    def start_process(
        self, queue: str, *, job_id: str, job_name: str, worker: str, metadata: str | None
    ) -> ProcessSpan:
        """Begin the span of one attempt, as a child of what the job's ``tm`` says, if anything."""
        attributes = _attributes(queue, "process", "process") | {
            "bullmq.job.id": job_id,
            "bullmq.job.name": job_name,
            "bullmq.worker.name": worker,
            "messaging.message.id": job_id,
        }
        span = self._tracer.start_span(
            f"process {queue}",
            self._context_from(metadata),
            kind=self._trace.SpanKind.CONSUMER,
            attributes=attributes,
        )
        return ProcessSpan(span, self._metadata_of(span), self._trace)

    @contextmanager
    def _producing(self, span_name: str, attributes: _Attributes) -> Iterator[AddSpan]:
        kind = self._trace.SpanKind.PRODUCER
        with self._tracer.start_as_current_span(
            span_name, kind=kind, attributes=attributes
        ) as span:
            yield AddSpan(span, self._metadata_of(span))

    def _metadata_of(self, span: Span) -> str | None:
        """Return the span's context as BullMQ stores it; None when nothing is to be propagated."""
        carrier: dict[str, str] = {}
        self._propagate.inject(carrier, self._trace.set_span_in_context(span))
        return metadata_from_carrier(carrier) if carrier else None

    def _context_from(self, metadata: str | None) -> Context:
        # From an empty context: a worker's own surroundings are no cause of its jobs.
        from opentelemetry.context import Context  # noqa: PLC0415 - only where it is used

        return self._propagate.extract(carrier_from_metadata(metadata) or {}, Context())


class AddSpan:
    """The span of an add; ``metadata`` is what the jobs carry on."""

    def __init__(self, span: Span, metadata: str | None) -> None:
        """Wrap a span that its maker ends."""
        self._span = span
        self.metadata = metadata

    def added(self, job_id: str) -> None:
        """Say which id the job got."""
        self._span.set_attributes({"bullmq.job.id": job_id, "messaging.message.id": job_id})


class ProcessSpan:
    """The span of one attempt, until it is ended; ``metadata`` is for what the processor spans."""

    __slots__ = ("_span", "_trace", "metadata")

    def __init__(self, span: Span, metadata: str | None, trace: Any) -> None:
        """Wrap a span that has begun."""
        self._span = span
        self._trace = trace
        self.metadata = metadata

    def end(self, *, attempts_made: int, event: str, failure: Mapping[str, str] | None) -> None:
        """End it with an event; ``failure`` has the reason, type and stack of an error."""
        self._span.set_attribute("bullmq.job.attempts.made", attempts_made)
        if failure is None:
            self._span.add_event(event)
        else:
            self._fail(event, failure)
        self._span.end()

    def _fail(self, event: str, failure: Mapping[str, str]) -> None:
        reason = failure["reason"]
        self._span.add_event(event, {"bullmq.job.failed.reason": reason})
        # What record_exception writes; the error itself stayed in the child.
        described = {"exception.type": failure["type"], "exception.message": reason}
        self._span.add_event("exception", {**described, "exception.stacktrace": failure["stack"]})
        self._span.set_attribute("error.type", failure["type"])
        self._span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, reason))


def metadata_from_carrier(carrier: Mapping[str, str]) -> str:
    """Return a trace context as bullmq-otel stores it in a job."""
    return json.dumps(dict(carrier), ensure_ascii=False, separators=(",", ":"))


def carrier_from_metadata(metadata: str | None) -> dict[str, str] | None:
    """Return the trace context in a job's ``tm``, None when there is none that can be read."""
    try:
        carrier = json.loads(metadata or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(carrier, dict):
        return None
    return {name: value for name, value in carrier.items() if isinstance(value, str)}


def _attributes(queue: str, operation: str, kind: str) -> _Attributes:
    """Return BullMQ's attributes and those of the messaging conventions."""
    return {
        "bullmq.queue.name": queue,
        "bullmq.queue.operation": operation,
        "messaging.system": "bullmq",
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }
