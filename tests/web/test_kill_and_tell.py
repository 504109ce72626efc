"""Kill and Tell: what is done to a running job, and what the page says of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from sandboxq import Policy
from tests.conftest import run_async, wait_until_async
from tests.web.live_page import OWN, Page, served
from tests.web.test_live import STAY, beside
from tests.worker.test_cancel import begun
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq import Queue, QueuedJob, Worker


def test_kill(server_url: str, queue_name: str) -> None:
    """It ended by itself, was killed, had not begun, was done already; the last stack is kept."""

    async def body(queue: Queue, _worker: Worker, page: Page) -> None:
        async def kill(job_id: str, **arguments: object) -> str:
            path = f"/queues/{queue.name}/jobs/{job_id}/kill"
            message: str = (await page.act(path, **arguments))["message"]
            return message

        soft = await begun(queue, {"do": "until-cancelled", "seconds": 600})
        assert "ended by itself" in await kill(soft.id, reason="not needed", grace=20)
        assert "was done already" in await kill(soft.id)
        hard = await begun(queue, STAY)
        waits = await queue.add("waits", STAY)
        assert "had not begun" in await kill(waits.id)
        assert "was killed" in await kill(hard.id, grace=0)
        found = await queue.get_job(hard.id)
        assert found is not None
        assert "local, on the page" in (found.failed_reason or "")

    beside(server_url, queue_name, body, procs=1)


def test_tell(server_url: str, queue_name: str) -> None:
    """A job that asks reads it; one that does not has it waiting, up to a number."""

    async def body(queue: Queue, _worker: Worker, page: Page) -> None:
        async def tell(job_id: str, text: str) -> str:
            path = f"/queues/{queue.name}/jobs/{job_id}/tell"
            message: str = (await page.act(path, message=text))["message"]
            return message

        asks = await queue.add("asks", {"do": "until-told"})

        async def was_read() -> bool:
            return "has read it" in await tell(asks.id, "stöp <b>soon")

        await wait_until_async(was_read)
        assert await asks.result(timeout=60) == ["stöp <b>soon"]
        assert "nobody is there to read" in await tell(asks.id, "again")
        deaf = await begun(queue, STAY)
        told = await asyncio.gather(*(tell(deaf.id, f"{number}") for number in range(17)))
        assert sum("not read it yet" in each for each in told) == 16
        assert sum("no room" in each for each in told) == 1
        await deaf.cancel(grace=0)

    beside(server_url, queue_name, body, procs=1)


def test_who_only_looks_can_do_neither(server_url: str, queue_name: str) -> None:
    """Refused by the server; nothing happens to the job."""

    async def main() -> None:
        async with (
            running(server_url, queue_name) as (queue, _),
            served(server_url, queues=[queue_name], read_only=True) as page,
        ):
            job = await begun(queue, STAY)
            for form in ("", "/api/v1"):
                for action, arguments in (("kill", {}), ("tell", {"message": "x"})):
                    path = f"{form}/queues/{queue_name}/jobs/{job.id}/{action}"
                    answer = await page.http.post(path, json=arguments, headers=OWN)
                    assert answer.status_code == 403, path
            assert await job.state() == "active"
            await job.cancel(grace=0)

    run_async(main())


def test_last_stacks(server_url: str, queue_name: str) -> None:
    """Of a job that took too long, too much, or was killed: where it was, on its page too."""

    async def main() -> None:
        policy = Policy("limits", memory=100 << 20)
        async with (
            running(server_url, queue_name, policy=policy) as (queue, _),
            served(server_url, queues=[queue_name]) as page,
        ):

            async def ended(data: dict[str, Any], cause: str, *, timeout: float = 600) -> str:
                """Let a job be ended; return its last stack, empty where none came in time."""
                if cause == "JobCancelled":
                    job = await begun(queue, data)
                    await job.cancel(grace=0)
                else:
                    job = await queue.add("job", data, timeout=timeout)
                await wait_until_async(partial(_has_failed, job))
                found = await queue.get_job(job.id)
                assert found is not None
                assert found.cause == cause
                told = await page.read(f"/queues/{queue_name}/jobs/{job.id}/live")
                last = told["last_stack"] or {"text": "", "is_old": True}
                assert last["is_old"]
                assert last["text"] == found.extra.get("sq:last_stack", "")
                return str(last["text"])

            hoard = {"do": "hoard", "bytes": 400 << 20}
            for function, data, cause, options in (
                ("in _stay", STAY, "JobTimeout", {"timeout": 0.3}),
                ("in _stay", STAY, "JobCancelled", {}),
                ("in _hoard", hoard, "JobMemoryExceeded", {}),
            ):
                # A child that has no core for 10 ms writes nothing: on a busy machine try again.
                while function not in await ended(data, cause, **options):
                    pass

    run_async(main())


async def _has_failed(job: QueuedJob) -> bool:
    return await job.state() == "failed"


STUBBORN = """
import asyncio

async def process(job):
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass
"""


def test_last_stack_of_a_coroutine(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Its own, not that of the event loop; asked of the loop, which turns."""
    processor = tmp_path / "stubborn.py"
    processor.write_text(STUBBORN)

    async def main() -> None:
        options = {"processor": str(processor), "procs": 1, "concurrency": 3}
        async with running(server_url, queue_name, **options) as (queue, _):
            while True:
                job = await queue.add("job", {}, timeout=0.5)
                await wait_until_async(partial(_has_failed, job))
                found = await queue.get_job(job.id)
                assert found is not None
                assert found.cause == "JobTimeout"
                if "stubborn.py" in found.extra.get("sq:last_stack", ""):
                    break

    run_async(main())
