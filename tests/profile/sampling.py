"""A job that runs until the test wants it to end, and what was sampled of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.workers import ask_for_facts
from sandboxq.pool.profile_table import samples_in
from sandboxq.pool.profiles import cpu_of
from tests.conftest import Gate, wait_until_async
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandboxq import Queue, Worker
    from sandboxq.model.profile import JobProfile
    from sandboxq.queue.job import QueuedJob

JOBS = str(Path(__file__).parent / "jobs.py")
ASYNC_JOBS = str(Path(__file__).parent / "async_jobs.py")


class Running:
    """A queue, its worker, and the gate of its jobs."""

    def __init__(self, queue: Queue, worker: Worker, gate: Gate) -> None:
        """Hold them."""
        self.queue = queue
        self.worker = worker
        self.gate = gate

    async def begun(self, do: str, **data: Any) -> QueuedJob:
        """Add a job, and wait until its code runs."""
        job = await self.queue.add(do, {"do": do, "gate": self.gate.path, **data})

        async def has_begun() -> bool:
            return bool((await job.refresh()).progress == "begun")

        await wait_until_async(has_begun)
        return job

    async def want_next(self, name: str, **options: Any) -> None:
        """Have the next runs of a name sampled, once the worker knows of it."""

        async def is_known() -> bool:
            return await self.queue.profile_next(name, **options) > 0

        await wait_until_async(is_known)

    async def has_exec(self) -> None:
        """Wait until the process of the job is another program."""
        (pid,) = self.worker.pool.pids

        async def is_shell() -> bool:
            return Path(f"/proc/{pid}/comm").read_text() == "sh\n"  # noqa: ASYNC240 - no disk

        await wait_until_async(is_shell)

    async def cpu_profile(self, job: QueuedJob, seconds: float) -> JobProfile:
        """Sample a job for so many seconds of CPU time, however long that takes, to its end."""
        (pid,) = self.worker.pool.pids
        end = cpu_of(pid) + seconds
        await self.queue.begin_profile(job.id, seconds=500, clock="cpu")

        async def has_computed() -> bool:
            return cpu_of(pid) >= end

        await wait_until_async(has_computed)
        self.gate.open()
        await job.result(timeout=60)
        newest, *_ = await self.profiles(job)
        return newest

    async def has_samples(self, count: int) -> None:
        """Wait until the one child has so many samples, or, in C code, has been looked at."""
        (child,) = self.worker.pool.supervisor.children

        async def are_there() -> bool:
            stuck = child.sampling.stuck if child.sampling else None
            return bool(stuck) or samples_in(child.page.profile_head())[1] >= count

        await wait_until_async(are_there)

    async def profiles(self, job: QueuedJob, count: int = 1) -> list[JobProfile]:
        """Return the profiles of a job once there are so many."""
        found: list[JobProfile] = []

        async def are_there() -> bool:
            found[:] = await self.queue.job_profiles(job.id)
            return len(found) >= count

        await wait_until_async(are_there)
        return found


async def _listens(queue: Queue, worker: Worker) -> None:
    """Wait until it answers: from then on it knows which jobs are to be sampled."""
    broker = await queue._connected()
    while worker.name not in [row["worker"] for row in await ask_for_facts(broker, [queue.keys])]:
        pass


@contextlib.asynccontextmanager
async def sampled(url: str, name: str, folder: Path, **options: Any) -> AsyncIterator[Running]:
    """Run a worker with the jobs of this folder; its jobs end with the block."""
    gate = Gate(folder)
    settings: dict[str, Any] = {"processor": JOBS, "procs": 1, **options}
    async with running(url, name, **settings) as (queue, worker):
        await _listens(queue, worker)
        try:
            yield Running(queue, worker, gate)
        finally:
            gate.open()


def part_of(profile: JobProfile, function: str, clock: str = "wall") -> float:
    """Return which part of the time was within a function, of all samples of a profile."""
    total = part = 0.0
    for path, node in profile.stacks():
        seconds = node.seconds(clock)
        total += seconds
        if any(profile.functions[each.function].name == function for each in path):
            part += seconds
    return part / total if total else 0.0
