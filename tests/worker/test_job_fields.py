"""What a processor can ask of its job beside its data, as Node's can of theirs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from sandboxq import Deduplication, Queue, Repeat, Worker
from tests.conftest import run_async
from tests.pool.caller import processor_file
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from pathlib import Path

PROCESSOR = """
def process(job):
    if job.name == "twice" and job.attempts_made == 0:
        raise ValueError("the first time")
    return {
        "prefix": job.prefix,
        "queue": job.queue_name,
        "qualified": job.queue_qualified_name,
        "processed_on": job.processed_on_ms,
        "same": [job.processed_on == job.processed_on_ms, job.timestamp == job.timestamp_ms],
        "times": [job.timestamp_ms, job.delay_ms],
        "scheduler": job.scheduler_id,
        "deduplication": job.deduplication_id,
        "failed_reason": job.failed_reason,
    }
"""


def test_what_a_job_knows_of_itself(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Where it is, when it was claimed, who made it, and why the attempt before failed."""
    processor = tmp_path / "fields.py"
    processor.write_text(PROCESSOR)

    async def main() -> None:
        place: dict[str, Any] = {"url": server_url, "prefix": "my:app"}
        async with (
            Queue(queue_name, **place) as queue,
            Worker(queue_name, str(processor), procs=1, **place) as worker,
        ):
            running = asyncio.create_task(worker.run())
            plain = await queue.add("plain", {})
            twice = await queue.add("twice", {}, attempts=2)
            only = await queue.add("only", {}, deduplication=Deduplication("x:1"))
            made = await queue.upsert_scheduler("s", Repeat(every=3600))
            values = [await job.result(60) for job in (plain, twice, only, made)]
            stored = [await job.refresh() for job in (plain, twice, only, made)]
            worker.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await running

        for value, job in zip(values, stored, strict=True):
            assert value["qualified"] == f"my:app:{queue_name}"
            assert (value["prefix"], value["queue"]) == ("my:app", queue_name)
            assert value["processed_on"] == job.processed_on_ms
            assert value["same"] == [True, True]
            assert value["times"] == [job.timestamp_ms, job.delay_ms]
        assert [value["scheduler"] for value in values] == [None, None, None, "s"]
        assert [value["deduplication"] for value in values] == [None, None, "x:1", None]
        assert [value["failed_reason"] for value in values] == [None, "the first time", None, None]

    run_async(main())


def test_fields_for_a_logger(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Which job, which attempt and, where it carries one, which trace."""
    path = processor_file(tmp_path, "def process(job):\n    return job.log_fields\n")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"

    async def main() -> list[Any]:
        async with running(server_url, queue_name, processor=str(path)) as (queue, _):
            carrier = f'{{"traceparent":"00-{trace}-00f067aa0ba902b7-01"}}'
            jobs = [
                await queue.add("traced", {}, trace_context=carrier),
                await queue.add("not", {}),
            ]
            return [(job.id, await job.result(timeout=30)) for job in jobs]

    (first, traced), (second, other) = run_async(main())
    assert other == {"job_id": second, "queue": queue_name, "attempt": 1}
    assert traced == {"job_id": first, "queue": queue_name, "attempt": 1, "trace_id": trace}
