"""Spans of producers, and the trace context that jobs carry on."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from sandboxq.errors import BulkAddFailed, ParentNotFound, UsageError
from sandboxq.model.job import Parent
from sandboxq.observe.tracing import carrier_from_metadata, metadata_from_carrier
from sandboxq.queue.flow import FlowProducer
from sandboxq.queue.queue import Queue
from tests.conftest import run_async
from tests.spans import Spans, ids_of, parent_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.queue.options import AddOptions
    from tests.queue.bench import Bench

CARRIER = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
METADATA = '{"traceparent":"00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"}'


def run_traced(bench: Bench, spans: Spans, body: Callable[[Queue], Awaitable[Any]]) -> Any:
    """Run a body with a queue that makes spans."""

    async def main() -> Any:
        async with Queue(bench.name, bench.url, tracing=spans.tracing) as queue:
            return await body(queue)

    return run_async(main())


def stored_opts(bench: Bench, job_id: str) -> dict[str, Any]:
    """Return the options as they stand in Redis."""
    opts: dict[str, Any] = json.loads(bench.redis.hget(bench.keys[job_id], "opts"))
    return opts


def test_add_makes_a_producer_span(bench: Bench) -> None:
    """Named and described as Node's, child of the caller's span, and carried on by the job."""
    spans = Spans()

    async def body(queue: Queue) -> str:
        with spans.provider.get_tracer("app").start_as_current_span("request"):
            return (await queue.add("resize", {})).id

    job_id = run_traced(bench, spans, body)

    (added,), (request,) = spans.finished(f"add {bench.name}.resize"), spans.finished("request")
    assert added.kind is SpanKind.PRODUCER
    assert parent_of(added) == ids_of(request)[1]
    assert added.attributes is not None
    assert {
        "bullmq.queue.name": bench.name,
        "bullmq.queue.operation": "add",
        "bullmq.job.name": "resize",
        "bullmq.job.id": job_id,
        "messaging.system": "bullmq",
        "messaging.message.id": job_id,
    }.items() <= added.attributes.items()
    trace_id, span_id = ids_of(added)
    carrier = carrier_from_metadata(stored_opts(bench, job_id)["tm"])
    assert carrier is not None
    assert carrier["traceparent"].startswith(f"00-{trace_id}-{span_id}-")


def test_one_span_for_a_bulk(bench: Bench) -> None:
    """All its jobs carry that span on, except those that bring their own or want none."""
    spans = Spans()

    async def body(queue: Queue) -> list[str]:
        jobs = await queue.add_bulk(
            [
                ("a", {}),
                ("b", {}, {"trace_context": CARRIER}),
                ("c", {}, {"omit_trace_context": True}),
            ]
        )
        return [job.id for job in jobs]

    ids = run_traced(bench, spans, body)

    (added,) = spans.finished()
    assert added.name == f"addBulk {bench.name}"
    assert added.attributes is not None
    assert added.attributes["bullmq.job.bulk.names"] == ("a", "b", "c")
    assert added.attributes["bullmq.job.bulk.count"] == 3
    first, second, third = [stored_opts(bench, job_id) for job_id in ids]
    assert ids_of(added)[1] in first["tm"]
    assert second["tm"] == METADATA
    assert (third["omc"], "tm" in third) == (True, False)


def test_one_span_for_a_flow(bench: Bench) -> None:
    """Every job of the tree carries it on."""
    spans = Spans()

    async def main() -> list[Any]:
        async with FlowProducer(bench.url, tracing=spans.tracing) as producer:
            children: Any = [{"name": "c", "queue": bench.name, "data": {}}]
            flow = await producer.add(name="p", queue=bench.name, data={}, children=children)
            return [flow.job.id, flow.children[0].job.id]

    ids = run_async(main())

    (added,) = spans.finished()
    assert added.name == f"addFlow {bench.name}"
    assert all(ids_of(added)[1] in stored_opts(bench, job_id)["tm"] for job_id in ids)


def test_an_add_that_is_refused_says_so(bench: Bench) -> None:
    """The trace shows why nothing was added."""
    spans = Spans()
    orphan = Parent("nobody", bench.name)

    async def body(queue: Queue) -> None:
        with pytest.raises(ParentNotFound):
            await queue.add("n", {}, parent=orphan)
        with pytest.raises(BulkAddFailed):
            await queue.add_bulk([("n", {}, {"parent": orphan})])
        with pytest.raises(UsageError):
            await queue.add("n", {}, delay=-1)

    run_traced(bench, spans, body)

    assert [span.status.status_code for span in spans.finished()] == [StatusCode.ERROR] * 3


def test_the_blocking_twin_belongs_to_its_callers_span(bench: Bench) -> None:
    """The work is done in another thread; its spans are still those of the caller."""
    spans = Spans()
    with Queue.sync(bench.name, bench.url, tracing=spans.tracing) as queue:
        with spans.provider.get_tracer("app").start_as_current_span("request") as request:
            queue.add("n", {})
        expected = f"{request.get_span_context().span_id:016x}"
    (added,) = spans.finished(f"add {bench.name}.n")
    assert parent_of(added) == expected


def test_a_queue_whose_jobs_carry_nothing_on_is_heeded(bench: Bench) -> None:
    """What the queue's defaults say of the context was overruled by the span of the add."""

    async def main() -> list[str | None]:
        defaults: AddOptions = {"omit_trace_context": True}
        tracing = Spans().tracing
        async with Queue(
            bench.name, bench.url, tracing=tracing, default_job_options=defaults
        ) as queue:
            jobs = [await queue.add("n", {}), *await queue.add_bulk([("n", {})])]
            return [(await job.refresh()).opts.trace_context for job in jobs]

    assert run_async(main()) == [None, None]


def test_a_context_is_passed_through_without_any_tracing(bench: Bench) -> None:
    """Who traces by other means hands it over by hand."""

    async def body(queue: Queue) -> list[Any]:
        one = await queue.add("n", {}, trace_context=CARRIER)
        two = await queue.add("n", {}, trace_context="anything", omit_trace_context=True)
        read = [await one.refresh(), await two.refresh()]
        return [(job.opts.trace_context, job.opts.omit_trace_context) for job in read]

    assert bench.run(body) == [(METADATA, False), ("anything", True)]
    assert stored_opts(bench, "1") == {"attempts": 0, "tm": METADATA}
    assert stored_opts(bench, "2") == {"attempts": 0, "tm": "anything", "omc": True}


@pytest.mark.parametrize("context", [{}, "", 5, {"a": 1}, {1: "a"}, {"": "a"}, "\ud800"], ids=repr)
def test_wrong_contexts(bench: Bench, context: Any) -> None:
    """Nothing was written."""

    async def body(queue: Queue) -> None:
        with pytest.raises(UsageError, match="trace_context"):
            await queue.add("n", {}, trace_context=context)

    bench.run(body)
    assert not bench.redis.exists(bench.keys["id"])


@pytest.mark.parametrize(
    "metadata", [None, "", "{", "[]", "5", "[" * 100_000], ids=lambda m: str(m)[:9]
)
def test_contexts_that_cannot_be_read(metadata: str | None) -> None:
    """Another library may have written anything there; then the trace begins anew."""
    assert carrier_from_metadata(metadata) is None
    spans = Spans()
    spans.tracing.start_process("q", job_id="1", job_name="n", worker="", metadata=metadata).end(
        attempts_made=1, event="job completed", failure=None
    )
    assert parent_of(spans.finished()[0]) is None


def test_metadata_there_and_back() -> None:
    """bullmq-otel stores a carrier as JSON text."""
    assert metadata_from_carrier(CARRIER) == METADATA
    assert carrier_from_metadata(METADATA) == CARRIER
    assert carrier_from_metadata('{"a":1,"b":"c"}') == {"b": "c"}


def test_nothing_is_imported_unless_asked_for() -> None:
    """Who does not trace pays nothing, and needs no opentelemetry."""
    code = """
import sys, sandboxq
sandboxq.Queue("q"), sandboxq.Worker("q", "x.py"), sandboxq.Tracing
# redis-py imports other parts of it, where they are installed.
assert "opentelemetry.propagate" not in sys.modules
sys.modules["opentelemetry"] = None
try:
    sandboxq.Tracing()
except sandboxq.UsageError as error:
    assert "pip install opentelemetry-api" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)
