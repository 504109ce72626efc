"""The span of one attempt: from when it is given to the pool until its outcome is known."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from sandboxq.broker.codec import json_value
from sandboxq.outcome import Complete, Fail, HandBack, RetryLater, RetryNow

if TYPE_CHECKING:
    from sandboxq.outcome import Failed, Transition
    from sandboxq.tracing import ProcessSpan, Tracing
    from sandboxq.worker.attempt import Attempt

_log = logging.getLogger("sandboxq.worker")


class AttemptSpan:
    """A span, and how the attempt's child learns of it."""

    __slots__ = ("span",)

    def __init__(self, span: ProcessSpan) -> None:
        """Wrap the span."""
        self.span = span

    def opts_for_child(self, opts: bytes) -> bytes:
        """Return the job's ``opts`` with this span's context in the place of the producer's."""
        if self.span.metadata is None:
            return opts
        members = json_value(opts)
        members["tm"] = self.span.metadata
        return json.dumps(members).encode()


def begin_span(attempt: Attempt, tracing: Tracing, queue: str, worker: str) -> None:
    """Begin the span of an attempt whose options could be read; without one the job runs too."""
    job = attempt.job
    try:
        span = tracing.start_process(
            queue,
            job_id=job.id.decode(errors="replace"),
            job_name=job.name.decode(errors="replace"),
            worker=worker,
            metadata=attempt.options.trace_context,
        )
    except Exception:  # noqa: BLE001 - whose spans these are must not end a job
        _log.exception("no span for job %s", job.id.decode(errors="replace"))
    else:
        attempt.span = AttemptSpan(span)


def end_span(attempt: Attempt, transition: Transition | None = None) -> None:
    """End it, by what is going to be written; None: the job belongs to somebody else by now."""
    held, attempt.span = attempt.span, None
    if held is None:
        return
    try:
        _end(held, attempt.job.attempts_made, transition)
    except Exception:  # noqa: BLE001 - as above
        _log.exception("the span of job %s was lost", attempt.job.id.decode(errors="replace"))


def _end(held: AttemptSpan, made: int, transition: Transition | None) -> None:
    match transition:
        case Complete():
            held.span.end(attempts_made=made + 1, event="job completed", failure=None)
        case Fail(failure):
            _end_failed(held.span, made + 1, "job failed", failure)
        case RetryNow(failure) | RetryLater(failure):
            _end_failed(held.span, made + 1, "job retried", failure)
        case HandBack():
            held.span.end(attempts_made=made, event="job handed back", failure=None)
        case None:
            held.span.end(attempts_made=made, event="job lost", failure=None)
        case _:
            held.span.end(attempts_made=made, event="job moved", failure=None)


def _end_failed(span: ProcessSpan, made: int, event: str, failure: Failed) -> None:
    described = {
        "reason": failure.reason,
        "type": failure.cause or "Error",
        "stack": failure.stack,
    }
    span.end(attempts_made=made, event=event, failure=described)
