"""Worker(on_failed=…, on_stalled=…, on_died=…): called with the event, and harmless."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import JobFailed, Queue, UsageError, Worker
from tests.conftest import run_async
from tests.worker.test_worker import PROCESSOR, running

if TYPE_CHECKING:
    from sandboxq.observe.telemetry import AttemptFailed, ChildDied


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
