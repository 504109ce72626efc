"""The probes of compatibility for sandboxq: each a few calls on a queue of its own."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandboxq import FlowProducer, QueueEvents
from sandboxq.broker.connect.broker import Broker
from tests.conftest import wait_until_async
from tests.interop.compatibility.verdict import FAILS, WORKS, Verdict
from tests.interop.our_side import OurSide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from sandboxq import Queue, QueuedJob

    Probe = Callable[["Room"], Awaitable[None]]

FAR = 3600.0
PROBE_SECONDS = 15.0
PROBES: dict[str, Probe] = {}


@dataclass(frozen=True, slots=True)
class Room:
    """One probe's queue."""

    queue: Queue
    ours: OurSide

    async def run(self, name: str, data: Any = None, **options: Any) -> QueuedJob:
        """Add a job, run a worker until it has ended, and return it as it is then."""
        settings = options.pop("worker", {})
        job = await self.queue.add(name, data, **options)

        async with self.ours.worker(**settings):
            await self.until_ended(job)
        return await self.queue.read_job(job.id)

    async def until_ended(self, job: QueuedJob) -> None:
        """Wait until a job has completed or failed."""

        async def has_ended() -> bool:
            return str(await job.state()) in {"completed", "failed"}

        await wait_until_async(has_ended)

    async def until_active(self, job: QueuedJob) -> None:
        """Wait until a job runs."""

        async def is_active() -> bool:
            return str(await job.state()) == "active"

        await wait_until_async(is_active)

    async def until_state(self, job: QueuedJob, state: str) -> None:
        """Run a worker until a job is in a state."""

        async def is_there() -> bool:
            return str(await job.state()) == state

        async with self.ours.worker():
            await wait_until_async(is_there)

    async def until_listed(self) -> None:
        """Wait until a worker is listed."""

        async def is_listed() -> bool:
            return len(await self.queue.get_workers()) == 1

        await wait_until_async(is_listed)

    async def command(self, name: str, key: str, *arguments: str | int) -> Any:
        """Run a Redis command on one of the queue's keys."""
        async with _connected(self.ours.url) as broker:
            return await broker.command(name, f"bull:{self.queue.name}:{key}", *arguments)

    async def keys(self) -> list[Any]:
        """Return all keys of the queue."""
        async with _connected(self.ours.url) as broker:
            return list(await broker.command("KEYS", f"bull:{self.queue.name}:*"))

    async def flow(
        self, on_failure: str | None = None, **child_options: Any
    ) -> tuple[QueuedJob, QueuedJob]:
        """Add a parent with one child, which fails when it is said ``on_failure`` what then."""
        name = self.queue.name
        child: Any = {"name": "echo", "queue": name, "data": 2, "opts": child_options}
        if on_failure is not None:
            failing = {"name": "give-up", "data": {"message": "never"}, "on_failure": on_failure}
            child = {**child, **failing}
        async with FlowProducer(url=self.ours.url) as producer:
            flow = await producer.add(name="children", queue=name, data=1, children=[child])
        parent, leaf = flow.job.id, flow.children[0].job.id
        return await self.queue.read_job(parent), await self.queue.read_job(leaf)

    async def heard(self, event: str) -> None:
        """Follow the events from the first on until one of this name comes."""
        async with QueueEvents(self.queue.name, url=self.ours.url, last_id="0-0") as events:
            while (found := await events.read(5)) is not None:
                if found.name == event:
                    return
        message = f"no event {event}"
        raise AssertionError(message)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Broker]:
    broker = await Broker.connect(url)
    try:
        yield broker
    finally:
        await broker.close()


def probe(function: Probe) -> Probe:
    """Register a probe under its name."""
    PROBES[function.__name__] = function
    return function


async def found(probes: Mapping[str, Probe], url: str) -> dict[str, Verdict]:
    """Run every probe and return what it found."""
    return {name: await _found(each, url) for name, each in probes.items()}


async def _found(each: Probe, url: str) -> Verdict:
    ours = OurSide(f"q-{uuid.uuid4().hex[:8]}", url)
    try:
        async with asyncio.timeout(PROBE_SECONDS), ours.queue() as queue:
            await each(Room(queue, ours))
    except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the table
        return Verdict(FAILS, f"{type(error).__name__}: {error}".splitlines()[0][:90])
    return Verdict(WORKS)
