"""Workers that come and go under load: nothing may be lost, and no attempt used.

producer ──jobs, so many a second──► queue ◄── 4 coordinators, one after the other replaced
prober ──/livez, /readyz──► each of them             (or 1 → 8 → 1)
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sandboxq import Queue
from tests.conftest import wait_until_async
from tests.fleet.coordinator import Coordinator
from tests.fleet.probing import Prober

if TYPE_CHECKING:
    from pathlib import Path

_ADD_EVERY = 0.1
# A handover waits for what runs, for so many seconds at most: jobs are much shorter.
_SHUTDOWN = "60"
# What is left when nothing is added any more is run within so many seconds, or is counted as lost.
_EMPTY_SECONDS = 120.0


class Load(NamedTuple):
    """What is added: so many jobs a second, each of so many milliseconds."""

    rate: float = 40.0
    ms: int = 20


USUAL = Load()


class Report(NamedTuple):
    """What was seen."""

    jobs: int
    replaced: int
    lost: int  # neither completed nor failed when all was over
    failed: int
    repeated: int  # begun more than once
    probes: int
    wrong_probes: list[str]
    wait_p50: float  # seconds from added to begun
    wait_p99: float
    wait_most: float

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, and no probe was wrong."""
        return not (self.lost or self.failed or self.repeated or self.wrong_probes)


class Fleet:
    """The coordinators of one queue."""

    def __init__(self, url: str, queue: str, folder: Path) -> None:
        """Begin with none."""
        self._url, self._queue, self._folder = url, queue, folder
        self._all: list[Coordinator] = []
        self.prober = Prober()
        self.serving: list[Coordinator] = []
        self.replaced = 0

    async def add(self, count: int = 1) -> None:
        """Start so many more, and return when they take jobs."""
        fresh = []
        for _ in range(count):
            log = self._folder / f"{len(self._all)}.log"
            options = ("--procs", "1", "--shutdown-timeout", _SHUTDOWN, "--drain-delay", "1")
            fresh.append(Coordinator(self._url, self._queue, log, *options))
            self._all.append(fresh[-1])
        for one in fresh:
            await asyncio.to_thread(one.wait_until_ready)
            self.prober.watch(one)
        self.serving += fresh

    async def remove(self, count: int = 1) -> None:
        """Have the oldest finish and leave."""
        leaving, self.serving = self.serving[:count], self.serving[count:]
        for one in leaving:
            one.stop()
        for one in leaving:
            await asyncio.to_thread(one.wait)

    async def replace_oldest(self) -> None:
        """Roll one: the new one is ready before the old one is told to stop."""
        await self.add()
        await self.remove()
        self.replaced += 1

    def close(self) -> None:
        """End everything."""
        self.prober.close()
        for one in self._all:
            one.close()


async def rolling(
    url: str, queue: str, folder: Path, *,
    workers: int = 4, seconds: float = 300.0, every: float = 10.0, load: Load = USUAL,
) -> Report:  # fmt: skip
    """Replace one worker after the other for so long; return what became of the jobs."""
    fleet = Fleet(url, queue, folder)
    try:
        await fleet.add(workers)
        async with _Producer(url, queue, load) as producer:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.monotonic()
                await fleet.replace_oldest()
                await asyncio.sleep(max(0.0, min(every, until - began) - time.monotonic() + began))
        return await producer.report(fleet)
    finally:
        await asyncio.to_thread(fleet.close)


async def scaling(
    url: str, queue: str, folder: Path, *,
    most: int = 8, seconds: float = 30.0, load: Load = USUAL,
) -> Report:  # fmt: skip
    """Go from one worker to ``most`` and back, each for a third of the time."""
    fleet = Fleet(url, queue, folder)
    try:
        await fleet.add()
        async with _Producer(url, queue, load) as producer:
            await asyncio.sleep(seconds / 3)
            await fleet.add(most - 1)
            await asyncio.sleep(seconds / 3)
            await fleet.remove(most - 1)
            await asyncio.sleep(seconds / 3)
        return await producer.report(fleet)
    finally:
        await asyncio.to_thread(fleet.close)


class _Producer:
    """Adds jobs while its block runs, and says afterwards what became of them."""

    def __init__(self, url: str, queue: str, load: Load) -> None:
        self._queue = Queue(queue, url)
        self._load = load
        self._adding: asyncio.Task[None]
        self._added = 0

    async def __aenter__(self) -> Self:
        self._adding = asyncio.create_task(self._add())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._adding.cancel()
        await asyncio.wait([self._adding])

    async def _add(self) -> None:
        began = time.monotonic()
        while True:
            due = int((time.monotonic() - began) * self._load.rate)
            jobs: list[tuple[str, Any]] = [
                ("wait", {"ms": self._load.ms, "number": number})
                for number in range(self._added, due)
            ]
            self._added = due
            if jobs:
                await asyncio.shield(self._queue.add_bulk(jobs))
            await asyncio.sleep(_ADD_EVERY)

    async def report(self, fleet: Fleet) -> Report:
        """Wait until the queue is empty, and look at every job."""
        async with self._queue as queue:
            await wait_until_async(lambda: _is_empty(queue), timeout=_EMPTY_SECONDS)
            completed = await queue.get_jobs("completed")
            failed = await queue.get_jobs("failed")
        waits = sorted(
            ((job.processed_on_ms or 0) - job.timestamp_ms) / 1000 for job in completed
        ) or [0.0]
        return Report(
            jobs=self._added,
            replaced=fleet.replaced,
            lost=self._added - len({job.data["number"] for job in [*completed, *failed]}),
            failed=len(failed),
            repeated=sum(job.attempts_started > 1 for job in completed),
            probes=fleet.prober.asked,
            wrong_probes=fleet.prober.found,
            wait_p50=waits[len(waits) // 2],
            wait_p99=waits[int(len(waits) * 0.99)],
            wait_most=waits[-1],
        )


async def _is_empty(queue: Queue) -> bool:
    return not any((await queue.counts(["waiting", "active", "delayed", "prioritized"])).values())
