"""One trace through both languages: bullmq-otel on one side, ours on the other."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import run_async
from tests.interop.node_install import NODE_FOLDER
from tests.spans import Spans, ids_of, parent_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.interop.node_install import NodeTools
    from tests.interop.our_side import OurSide

STEP_SECONDS = 20.0
# Of OpenTelemetry in JavaScript.
PRODUCER, CONSUMER = 3, 4


@pytest.fixture
def node_step(
    node_tools: NodeTools, node_modules: Path, server_url: str, queue_name: str
) -> Callable[[str], dict[str, Any]]:
    """Return a function that lets Node do one step of traced.mjs."""
    script, socket_path = str(NODE_FOLDER / "traced.mjs"), server_url.removeprefix("unix://")

    def run(step: str) -> dict[str, Any]:
        command = [node_tools.node, script, str(node_modules), socket_path, queue_name, step]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=STEP_SECONDS
        )
        report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return report

    return run


def test_a_trace_that_begins_in_node(
    node_step: Callable[[str], dict[str, Any]], ours: OurSide
) -> None:
    """Request, add, process: one trace, each span under the one before."""
    produced = node_step("produce")
    spans = Spans()

    async def work() -> None:
        async with ours.worker(tracing=spans.tracing), ours.queue() as queue:
            await queue.result(produced["id"], STEP_SECONDS)

    run_async(work())

    named = {span["name"]: span for span in produced["spans"]}
    added = named[f"add {ours.queue_name}.echo"]
    (processed,) = spans.finished()
    assert processed.name == f"process {ours.queue_name}"
    assert ids_of(processed)[0] == added["traceId"] == named["request"]["traceId"]
    assert (parent_of(processed), added["parent"]) == (added["spanId"], named["request"]["spanId"])


def test_a_trace_that_begins_with_us(
    node_step: Callable[[str], dict[str, Any]], ours: OurSide
) -> None:
    """Node's worker goes on with it, and spans inside of its job belong there too."""
    spans = Spans()

    async def produce() -> str:
        async with ours.queue(tracing=spans.tracing) as queue:
            return (await queue.add("echo", {})).id

    job_id = run_async(produce())
    consumed = node_step("consume")

    (added,) = spans.finished()
    named = {span["name"]: span for span in consumed["spans"]}
    processed, inside = named[f"process {ours.queue_name}"], named["in the job"]
    assert consumed["id"] == job_id
    assert {processed["traceId"], inside["traceId"]} == {ids_of(added)[0]}
    assert processed["parent"] == ids_of(added)[1]
    assert inside["parent"] == processed["spanId"]


def test_names_and_attributes_are_nodes(
    node_step: Callable[[str], dict[str, Any]], ours: OurSide
) -> None:
    """A dashboard made for BullMQ's spans shows ours: names, kinds and attributes are the same."""
    theirs = node_step("produce")["spans"] + node_step("consume")["spans"]
    spans = Spans()

    async def both() -> None:
        async with (
            ours.worker(tracing=spans.tracing, name="w"),
            ours.queue(tracing=spans.tracing) as queue,
        ):
            await (await queue.add("echo", {})).result(STEP_SECONDS)

    run_async(both())

    kinds = {f"add {ours.queue_name}.echo": PRODUCER, f"process {ours.queue_name}": CONSUMER}
    for name, kind in kinds.items():
        (our_span,) = spans.finished(name)
        their_span = next(span for span in theirs if span["name"] == name)
        assert their_span["kind"] == our_span.kind.value == kind
        assert set(their_span["attributes"]) - set(our_span.attributes or {}) <= {
            # Ids of Node's worker objects; times that a span has anyway.
            "bullmq.worker.id",
            "bullmq.job.attempt_finished_timestamp",
            "bullmq.job.processed.timestamp",
        }
