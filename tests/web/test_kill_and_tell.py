"""Kill and Tell: what is done to a running job, and what the page says of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandboxq import Policy
from tests.conftest import run_async, wait_until_async
from tests.web.live_page import OWN, Page, served
from tests.web.test_live import STAY, beside
from tests.worker.test_cancel import begun
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from sandboxq import Queue, Worker


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
        assert "in _stay" in found.extra["sq:last_stack"]
        after = await page.read(f"/queues/{queue.name}/jobs/{hard.id}/live")
        assert after["last_stack"]["is_old"]
        assert "in _stay" in after["last_stack"]["text"]

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


def test_last_stack_of_a_job_that_took_too_long_or_too_much(
    server_url: str, queue_name: str
) -> None:
    """Taken before the kill, kept with the failure."""

    async def main() -> None:
        policy = Policy("limits", memory=100 << 20)
        async with running(server_url, queue_name, policy=policy) as (queue, _):
            late = await queue.add("late", STAY, timeout=0.3)
            much = await queue.add("much", {"do": "hoard", "bytes": 400 << 20})

            async def have_failed() -> bool:
                return (await queue.counts())["failed"] == 2

            await wait_until_async(have_failed)
            for job, cause, function in (
                (late, "JobTimeout", "in _stay"),
                (much, "JobMemoryExceeded", "in _hoard"),
            ):
                found = await queue.get_job(job.id)
                assert found is not None
                assert found.cause == cause
                assert function in found.extra["sq:last_stack"]

    run_async(main())
