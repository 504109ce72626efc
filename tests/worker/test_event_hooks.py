"""Worker(on_failed=…, on_stalled=…, on_died=…): called with the event, and harmless."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import JobFailed, Queue, UsageError, Worker
from sandboxq.observe.log import row_from_event
from sandboxq.observe.telemetry import (
    AttemptFailed,
    JobsStalled,
    LocksLost,
    OutcomesDropped,
    Telemetry,
)
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running

if TYPE_CHECKING:
    from sandboxq.observe.telemetry import ChildDied, Event


def test_hooks_hear_of_failures_and_deaths(
    server_url: str, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain one and an `async def` one; what they raise is logged, and the worker goes on."""
    failed: list[tuple[str, int, bool]] = []
    died: list[int] = []

    def on_failed(event: AttemptFailed) -> None:
        failed.append((event.cause, event.attempt, event.is_final))
        raise ValueError(event.cause)

    async def on_died(event: ChildDied) -> None:
        await asyncio.sleep(0)
        died.append(event.pid)
        raise KeyError(event.pid)

    async def main() -> None:
        hooks: Any = {"on_failed": on_failed, "on_died": on_died}
        async with running(server_url, queue_name, **hooks) as (queue, _):
            for data, attempts in (({"do": "fail"}, 2), ({"do": "exit", "code": 3}, 1)):
                job = await queue.add("bad", data, attempts=attempts)
                with pytest.raises(JobFailed):
                    await job.result(timeout=30)
            assert await (await queue.add("good", {"value": 1})).result(timeout=30) == 1

    run_async(main())
    assert failed == [("ValueError", 1, False), ("ValueError", 2, True), ("JobExited", 1, True)]
    assert len(died) == 1
    assert "a telemetry listener failed" in caplog.text
    assert "a hook failed" in caplog.text


def test_what_is_no_function_is_refused(queue_name: str) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError, match="on_died must be a function, not 'mail'"):
        Worker(queue_name, PROCESSOR, on_died="mail")  # type: ignore[arg-type]


def test_a_hook_of_the_last_failure_ends_and_ends_nothing(
    server_url: str, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker that closes waits for it; `sys.exit` in it is logged as any other error."""
    ended: list[str] = []

    async def on_failed(event: AttemptFailed) -> None:
        await asyncio.sleep(0.2)
        ended.append(event.cause)
        sys.exit(3)

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add("bad", {"do": "fail"})
            async with Worker(
                queue_name, PROCESSOR, url=server_url, procs=1, on_failed=on_failed
            ) as worker:
                await worker.run(burst=True)

    run_async(main())
    assert ended == ["ValueError"]
    assert "a hook failed" in caplog.text


def test_workers_with_one_telemetry_count_their_own_jobs(server_url: str, queue_name: str) -> None:
    """What was passed in hears all of them; hooks, counters and metrics are of one worker."""
    heard: dict[str, list[AttemptFailed]] = {"all": [], "one": [], "two": []}
    telemetry = Telemetry()

    def hear(event: Event) -> None:
        assert isinstance(event, AttemptFailed)
        heard["all"].append(event)

    telemetry.subscribe(hear, AttemptFailed)

    async def one_of_each(name: str) -> None:
        hook: Any = {"on_failed": heard[name].append, "telemetry": telemetry}
        async with running(server_url, f"{queue_name}-{name}", **hook) as (queue, worker):
            job = await queue.add("bad", {"do": "fail"})
            with pytest.raises(JobFailed):
                await job.result(timeout=30)
            await wait_until_async(lambda: has_heard(2))
            assert worker.counters.failed == 1

    async def has_heard(number: int) -> bool:
        return len(heard["all"]) == number

    async def main() -> None:
        await asyncio.gather(one_of_each("one"), one_of_each("two"))

    run_async(main())
    assert {name: len(events) for name, events in heard.items()} == {"all": 2, "one": 1, "two": 1}


def test_a_row_of_many_jobs_is_bounded() -> None:
    """In the log and in what is posted: all that a worker had may be lost at once."""
    ids = [str(number) for number in range(50_000)]
    for event in (JobsStalled(ids), LocksLost(ids), OutcomesDropped(ids, "why")):
        _, _, message, fields = row_from_event(event)
        assert message.endswith(", 99 and 49900 more")
        assert (fields["job_ids"], fields["jobs"]) == (ids[:100], 50_000)
