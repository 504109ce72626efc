"""`python -m sandboxq dump`: asked of workers that run in processes of their own or in this one."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from tests.commands import run_command
from tests.conftest import run_async
from tests.worker.test_cancel import begun
from tests.worker.test_worker import running, with_worker

if TYPE_CHECKING:
    from sandboxq import Queue, Worker

STAY = {"do": "stay", "seconds": 60}


async def dump(url: str, *words: str, code: int = 0) -> str:
    """Run the command and return what it prints."""
    done = await asyncio.to_thread(run_command, "dump", *words, "--url", url)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_where_each_job_of_a_worker_is(server_url: str, queue_name: str) -> None:
    """Job, queue, worker, process, time and stack, for people and for programs."""

    async def body(queue: Queue, worker: Worker) -> None:
        assert "0 of 2 children busy" in await dump(server_url, worker.name, "--queue", queue_name)
        job = await begun(queue, STAY)
        shown = await dump(server_url, job.id, "--queue", queue_name)
        assert f"{worker.name}: queue {queue_name}" in shown
        assert f"\njob {job.id}: child " in shown
        assert "processors_for_tests.py" in shown
        (row,) = json.loads(await dump(server_url, worker.name, "--json"))
        assert (row["job_id"], row["queue"], row["worker"]) == (job.id, queue_name, worker.name)
        assert row["pid"] in worker.pool.pids
        assert 0 < row["seconds"] < 60
        assert row["stack"].splitlines()[-1].endswith(" in process")
        await job.cancel(grace=0)

    with_worker(server_url, queue_name, body)


def test_what_is_not_there_is_said(server_url: str, queue_name: str) -> None:
    """Unknown names list the workers; a job that does not run has a state; nobody may listen."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("echo", {})
        await job.result(timeout=60)
        only = ("--queue", queue_name)
        assert f"job {job.id} of queue {queue_name!r} is completed" in await dump(
            server_url, job.id, *only, code=1
        )
        said = await dump(server_url, "nobody", *only, code=1)
        assert "no job and no running worker 'nobody'" in said
        assert worker.name in said
        said = await dump(server_url, "--queue", f"{queue_name}-other", code=1)
        assert "no running worker" in said

    with_worker(server_url, queue_name, body)


def test_several_workers(server_url: str, queue_name: str) -> None:
    """Who has the job answers; without a name all do; other questions need not wait for that."""

    async def main() -> None:
        async with (
            running(server_url, queue_name, name="one", procs=1) as (queue, first),
            running(server_url, queue_name, name="two", procs=1) as (_, second),
        ):
            jobs = [await begun(queue, STAY) for _ in range(2)]
            rows = await _rows(server_url, queue_name)
            assert {row["job_id"] for row in rows} == {job.id for job in jobs}
            assert {row["worker"] for row in rows} == {"one", "two"}
            assert {row["pid"] for row in rows} == {*first.pool.pids, *second.pool.pids}
            (row,) = await _rows(server_url, queue_name, "two")
            assert (await _rows(server_url, queue_name, row["job_id"]))[0]["worker"] == "two"
            started = time.monotonic()
            looking = asyncio.create_task(_rows(server_url, queue_name))
            assert await jobs[0].cancel(grace=0)
            assert not looking.done() or time.monotonic() - started < 2
            await looking
            await jobs[1].cancel(grace=0)

    run_async(main())


async def _rows(url: str, queue_name: str, *words: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        await dump(url, *words, "--queue", queue_name, "--json")
    )
    return rows
