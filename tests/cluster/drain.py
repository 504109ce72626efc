"""A producer and a worker on one queue, for tests in which the server under them goes away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxq import Queue, Worker
from sandboxq.errors import QueueError
from sandboxq.observe.telemetry import (
    BrokerBack,
    BrokerLost,
    Event,
    Telemetry,
)
from tests.conftest import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandboxq.queue.job import QueuedJob

PROCESSOR = Path(__file__).parents[1] / "processors_for_tests.py"
PREFIX = "{bull}"
# Short, so that what a dead server had handed out is found again within the test.
_WORKER: Any = {"procs": 2, "lock_duration": 4.0, "stalled_interval": 2.0, "max_stalled_count": 9}


class Drain:
    """What was added, and what the worker said."""

    def __init__(self, url: str, name: str) -> None:
        """Prepare."""
        self.url = url
        self.name = name
        self.added: list[str] = []
        self.refused = 0
        # Seconds between two adds that Redis took.
        self.longest_pause = 0.0
        self._is_enough = False
        self.events: list[Event] = []
        # The state of every job that has ended, by its id.
        self.ended: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def going_on(self) -> AsyncIterator[Queue]:
        """Add and work while the block runs, then until all that was acknowledged has ended."""
        telemetry = Telemetry()
        telemetry.subscribe(self._note)
        async with (
            Queue(self.name, url=self.url, prefix=PREFIX) as queue,
            Worker(
                self.name,
                str(PROCESSOR),
                url=self.url,
                prefix=PREFIX,
                telemetry=telemetry,
                **_WORKER,
            ) as worker,
        ):
            running = asyncio.create_task(worker.run())
            adding = asyncio.create_task(self._add(queue))
            yield queue
            self._is_enough = True
            await asyncio.wait_for(adding, 30)
            await wait_until_async(lambda: self._is_empty(queue))
            self.ended = await _ended(queue)
            assert not running.done()
            worker.stop()
            await asyncio.wait_for(running, 15)

    async def until_added(self, count: int) -> None:
        """Wait until so many more jobs were acknowledged."""
        goal = len(self.added) + count

        async def is_there() -> bool:
            return len(self.added) >= goal

        await wait_until_async(is_there)

    @property
    def absences(self) -> tuple[int, int]:
        """How often the worker said that Redis was lost, and that it was back."""
        kinds = [type(event) for event in self.events]
        return kinds.count(BrokerLost), kinds.count(BrokerBack)

    async def _add(self, queue: Queue) -> None:
        number, added_at = 0, time.monotonic()
        while not self._is_enough:
            # Custom ids: an add whose reply was lost may be repeated without harm.
            entries: Any = [
                ("n", {"do": "echo", "value": i}, {"job_id": f"job-{i}"})
                for i in range(number, number + 5)
            ]
            try:
                jobs = await queue.add_bulk(entries)
            except QueueError:
                self.refused += 1
                await asyncio.sleep(0.1)
                continue
            self.added += [job.id for job in jobs]
            now = time.monotonic()
            self.longest_pause = max(self.longest_pause, now - added_at)
            added_at = now
            number += 5
            await asyncio.sleep(0.005)

    async def _is_empty(self, queue: Queue) -> bool:
        try:
            counts = await queue.counts(["waiting", "active", "delayed", "prioritized"])
        except QueueError:
            return False
        return not any(counts.values())

    def _note(self, event: Event) -> None:
        self.events.append(event)


@contextlib.asynccontextmanager
async def idle_worker(url: str, name: str, queue: Queue) -> AsyncIterator[Worker]:
    """Run a worker that has done a job and waits inside Redis for the next."""
    async with Worker(name, str(PROCESSOR), url=url, prefix=PREFIX, **_WORKER) as worker:
        running = asyncio.create_task(worker.run())
        job = await queue.add("n", {"do": "echo", "value": "first"})
        assert await job.result(60) == "first"

        async def is_waiting() -> bool:
            return bool(await queue.get_workers())

        # It has its name once it waits for jobs.
        await wait_until_async(is_waiting)
        yield worker
        assert not running.done()
        worker.stop()
        await asyncio.wait_for(running, 15)


async def add_until_taken(queue: Queue, number: int) -> QueuedJob:
    """Add a job again until Redis has it: with an id, that is harmless."""
    while True:
        try:
            return await queue.add("n", {"do": "echo", "value": number}, job_id=f"job-{number}")
        except QueueError:
            await asyncio.sleep(0.1)


async def _ended(queue: Queue) -> dict[str, str]:
    """Return the state of every job that has ended, by its id; each is there once, in one state."""
    found: dict[str, str] = {}
    for state in ("completed", "failed"):
        for job in await queue.get_jobs([state], 0, -1):
            assert job.id not in found
            found[job.id] = state
    return found
