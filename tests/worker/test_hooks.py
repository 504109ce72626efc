"""What a listener hears of a worker: all that Node's worker events tell."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from sandboxq.observe.telemetry import (
    AttemptFailed,
    Event,
    JobClaimed,
    JobCompleted,
    JobEvent,
    JobLines,
    JobMoved,
    JobProgressed,
    QueueDrained,
    Telemetry,
    WorkerClosed,
    WorkerReady,
)
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from sandboxq import Queue, Worker


def test_the_life_of_a_worker_as_told(server_url: str, queue_name: str) -> None:
    """ready, active, progress, completed, failed, drained, closed."""
    telemetry = Telemetry()
    heard: list[Event] = []
    kinds = (JobEvent, WorkerReady, AttemptFailed, QueueDrained, WorkerClosed)
    telemetry.subscribe(heard.append, *kinds)

    async def main() -> None:
        async with running(server_url, queue_name, procs=1, telemetry=telemetry) as (queue, worker):
            assert heard == [WorkerReady(worker.name)]
            await (await queue.add("report", {"do": "report"})).result(timeout=60)
            await wait_until_async(lambda: _is_drained(1))
            await _failed(queue, worker)
            await wait_until_async(lambda: _is_drained(2))

    async def _is_drained(times: int) -> bool:
        return heard.count(QueueDrained()) == times

    run_async(main())
    moved = [event.state for event in heard if isinstance(event, JobMoved)]
    assert moved == ["completed", "failed"]
    # The value is told when Redis has it, by when the claimer may have looked for more.
    apart = QueueDrained | JobMoved | JobLines
    told = [event for event in heard if not isinstance(event, apart)]
    assert isinstance(told[3], JobCompleted)
    assert told[3].seconds > 0
    assert told[3].usage is not None
    assert isinstance(told[5], AttemptFailed)
    assert told[5].stack.endswith("ValueError: boom\n")
    assert told == [
        told[0],
        JobClaimed("1", "report"),
        JobProgressed("1", b'{"done":40}'),
        JobCompleted("1", "report", b'"reported"', told[3].seconds, told[3].usage),
        JobClaimed("2", "fail"),
        AttemptFailed(
            "2",
            "fail",
            "boom",
            "for good",
            told[5].seconds,
            "ValueError",
            told[5].usage,
            queue_name,
            1,
            1,
            told[5].stack,
        ),
        WorkerClosed(),
    ]
    # What a job printed is told before its end; which of two streams comes first is not promised.
    lines = [event for event in heard[: heard.index(told[3])] if isinstance(event, JobLines)]
    assert {(each.job_id, each.stream, *each.lines) for each in lines} == {
        ("1", "stdout", "a printed line"),
        ("1", "stderr", "a line on stderr"),
        ("1", "logging", "WARNING mine: a warning"),
    }
    assert sum(isinstance(event, JobLines) for event in heard) == len(lines)


async def _failed(queue: Queue, worker: Worker) -> None:
    await queue.add("fail", {"do": "fail"})
    await wait_until_async(lambda: _has_failed(worker))


async def _has_failed(worker: Worker) -> bool:
    return worker.counters.failed == 1


def test_no_event_of_a_job_is_made_for_nobody(server_url: str, queue_name: str) -> None:
    """Thousands of jobs a second must not pay for a listener that is not there."""
    telemetry = Telemetry()
    heard: list[Event] = []
    telemetry.subscribe(heard.append)

    async def main() -> None:
        async with running(server_url, queue_name, telemetry=telemetry) as (queue, _):
            jobs = await queue.add_bulk(itertools.repeat(("echo", {}), 50))
            await asyncio.gather(*(job.result(timeout=60) for job in jobs))

    run_async(main())
    assert heard
    assert not any(isinstance(event, JobEvent) for event in heard)
