"""Spans of attempts: whose trace they belong to, how they end, what children learn of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from sandboxq import JobCrashed, JobFailed, Queue, UsageError, Worker
from sandboxq.observe.tracing import carrier_from_metadata
from tests.conftest import run_async, wait_until_async
from tests.spans import Spans, ids_of, parent_of
from tests.worker.test_worker import PROCESSOR, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opentelemetry.sdk.trace import ReadableSpan

CONTEXT = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


def with_tracing_worker(
    url: str, queue_name: str, body: Callable[[Queue, Worker], Awaitable[None]], **options: Any
) -> list[ReadableSpan]:
    """Run a body beside a worker that makes spans, and return them."""
    spans = Spans()

    async def main() -> None:
        async with running(url, queue_name, tracing=spans.tracing, **options) as (queue, worker):
            await body(queue, worker)

    run_async(main())
    return spans.finished()


def test_an_attempt_goes_on_with_the_producers_trace(server_url: str, queue_name: str) -> None:
    """And what the processor spans itself belongs under the attempt."""
    contexts: list[Any] = []

    async def body(queue: Queue, _: Worker) -> None:
        job = await queue.add("echo", {"do": "trace-context"}, trace_context=CONTEXT)
        contexts.append(await job.result(timeout=60))

    (span,) = with_tracing_worker(server_url, queue_name, body, name="w")

    assert (span.name, span.kind) == (f"process {queue_name}", SpanKind.CONSUMER)
    trace_id, span_id = ids_of(span)
    assert (trace_id, parent_of(span)) == ("a" * 32, "b" * 16)
    assert contexts[0]["traceparent"].startswith(f"00-{trace_id}-{span_id}-")
    assert span.attributes is not None
    assert {
        "bullmq.queue.name": queue_name,
        "bullmq.queue.operation": "process",
        "bullmq.worker.name": "w",
        "bullmq.job.id": "1",
        "bullmq.job.name": "echo",
        "bullmq.job.attempts.made": 1,
        "messaging.system": "bullmq",
        "messaging.operation.type": "process",
    }.items() <= span.attributes.items()
    assert [event.name for event in span.events] == ["job completed"]


def test_without_a_context_a_trace_begins(server_url: str, queue_name: str) -> None:
    """Not one that hangs under whatever span the worker was started in."""
    spans = Spans()

    async def main() -> None:
        with spans.provider.get_tracer("app").start_as_current_span("main"):
            async with running(server_url, queue_name, tracing=spans.tracing) as (queue, _):
                jobs = await queue.add_bulk([("echo", {"value": i}) for i in range(3)])
                await asyncio.gather(*(job.result(timeout=60) for job in jobs))

    run_async(main())

    processed = spans.finished(f"process {queue_name}")
    assert [parent_of(span) for span in processed] == [None] * 3
    assert len({ids_of(span)[0] for span in processed}) == 3


def test_failures(server_url: str, queue_name: str) -> None:
    """Each attempt has a span, with what went wrong."""

    async def body(queue: Queue, _: Worker) -> None:
        job = await queue.add("n", {"do": "fail", "message": "no"}, attempts=2)
        with pytest.raises(JobFailed):
            await job.result(timeout=60)

    first, second = with_tracing_worker(server_url, queue_name, body)

    assert [event.name for event in first.events] == ["job retried", "exception"]
    assert [event.name for event in second.events] == ["job failed", "exception"]
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "no")
    told = second.events[1].attributes
    assert told is not None
    assert (told["exception.type"], told["exception.message"]) == ("ValueError", "no")
    assert "Traceback" in str(told["exception.stacktrace"])
    assert second.attributes is not None
    assert second.attributes["error.type"] == "ValueError"
    assert second.attributes["bullmq.job.attempts.made"] == 2


def test_a_killed_child_loses_no_span(server_url: str, queue_name: str) -> None:
    """The coordinator makes the span: nothing that the child does can take it along."""

    async def body(queue: Queue, _: Worker) -> None:
        job = await queue.add("n", {"do": "kill", "signal": "SIGKILL"})
        with pytest.raises(JobCrashed):
            await job.result(timeout=60)

    (span,) = with_tracing_worker(server_url, queue_name, body)

    assert span.attributes is not None
    assert span.attributes["error.type"] == "JobCrashed"


def test_what_is_handed_back_ends_without_error(server_url: str, queue_name: str) -> None:
    """A deploy is no failure."""

    async def body(queue: Queue, worker: Worker) -> None:
        await queue.add("n", {"do": "sleep", "seconds": 60})

        async def is_running() -> bool:
            return worker.pool.busy > 0

        await wait_until_async(is_running)

    (span,) = with_tracing_worker(server_url, queue_name, body, shutdown_timeout=0)

    assert [event.name for event in span.events] == ["job handed back"]
    assert span.status.status_code is StatusCode.UNSET


def test_without_tracing_the_producers_context_reaches_the_child(
    server_url: str, queue_name: str
) -> None:
    """A processor can go on with the trace by itself."""

    async def body(queue: Queue, _: Worker) -> list[Any]:
        data = {"do": "trace-context"}
        jobs = [
            await queue.add("n", data, trace_context=CONTEXT),
            await queue.add("n", data),
            await queue.add("n", data, trace_context="not JSON"),
            await queue.add("n", data, trace_context='{"sentry-trace":5,"traceparent":"x"}'),
        ]
        return [await job.result(timeout=60) for job in jobs]

    async def main() -> list[Any]:
        async with running(server_url, queue_name) as (queue, worker):
            return await body(queue, worker)

    assert run_async(main()) == [CONTEXT, None, None, {"traceparent": "x"}]
    assert carrier_from_metadata("not JSON") is None


def test_tracing_must_be_a_tracing() -> None:
    """``tracing=True`` is what people try first."""
    with pytest.raises(UsageError, match="tracing"):
        Worker("q", PROCESSOR, tracing=True)  # type: ignore[arg-type]  # the mistake
