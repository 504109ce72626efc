"""One queue of the official Python port, for the probes of compatibility."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import bullmq  # type: ignore[import-not-found,unused-ignore]
from redis.asyncio import Redis

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FAR_MS = 3_600_000
WAIT_SECONDS = 5.0


class Room:
    """One probe's queue and what it opened."""

    def __init__(self) -> None:
        """Open a queue of its own."""
        self.redis = Redis(unix_socket_path=sys.argv[1], decode_responses=True)
        self.name = f"q-{uuid.uuid4().hex[:8]}"
        self.queue = bullmq.Queue(self.name, {"connection": self.redis})

    def worker(self, process: Any, **options: Any) -> Any:
        """Start a worker."""
        return bullmq.Worker(self.name, process, {"connection": self.redis, **options})

    async def run(self, job: Any, process: Any, **options: Any) -> Any:
        """Run a worker until a job has ended; return the job as it is then."""
        worker = self.worker(process, **options)
        await until(lambda: self.has_ended(job.id))
        await worker.close(force=True)
        return await bullmq.Job.fromId(self.queue, job.id)

    async def has_ended(self, job_id: str) -> bool:
        """Whether a job completed or failed."""
        return await self.queue.getJobState(job_id) in {"completed", "failed"}

    async def is_in(self, job_id: str, state: str) -> bool:
        """Whether a job is in a state."""
        return bool(await self.queue.getJobState(job_id) == state)

    async def flow(self, **child_options: Any) -> Any:
        """Add a parent with one child."""
        producer = bullmq.FlowProducer({"connection": self.redis})
        child = {"name": "child", "queueName": self.name, "data": 2, "opts": child_options}
        tree = {"name": "parent", "queueName": self.name, "data": 1, "children": [child]}
        return await producer.add(tree)

    async def heard(self, event: str, act: Callable[[], Awaitable[Any]]) -> None:
        """Follow the events until one of this name has come."""
        came = asyncio.Event()
        events = bullmq.QueueEvents(
            self.name, {"connection": self.redis, "lastEventId": "0-0", "autorun": False}
        )
        events.on(event, lambda *_: came.set())
        reading = asyncio.create_task(events.run())
        await act()
        await asyncio.wait_for(came.wait(), WAIT_SECONDS)
        reading.cancel()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():  # noqa: ASYNC110 - what is awaited is in Redis
            await asyncio.sleep(0.01)


async def give(job: Any, _token: str) -> Any:
    """Return the double."""
    return job.data * 2


async def boom(_job: Any, _token: str) -> Any:
    """Fail."""
    message = "boom"
    raise ValueError(message)


async def give_up(_job: Any, _token: str) -> Any:
    """Fail for good."""
    message = "never"
    raise bullmq.UnrecoverableError(message)


async def again(job: Any, token: str) -> Any:
    """Come back at once."""
    await job.moveToDelayed(int(time.time() * 1000) + 1, token)
    raise bullmq.DelayedError


async def late(room: Room) -> Any:
    """Add a delayed job."""
    return await room.queue.add("a", 1, {"delay": FAR_MS})


def same(found: Any, wanted: Any) -> None:
    """Fail when two values differ."""
    if found != wanted:
        message = f"{found!r} instead of {wanted!r}"
        raise ValueError(message)


def holds(condition: object, otherwise: str = "not so") -> None:
    """Fail when something is not so."""
    if not condition:
        raise ValueError(otherwise)


async def refused(adding: Awaitable[Any]) -> None:
    """Fail when an add is taken."""
    try:
        await adding
    except Exception:  # noqa: BLE001 - the port raises what it likes
        return
    message = "taken"
    raise ValueError(message)


PROBES: dict[str, Callable[[Room], Awaitable[None]]] = {}


def probe(function: Callable[[Room], Awaitable[None]]) -> Callable[[Room], Awaitable[None]]:
    """Register a probe under its name."""
    PROBES[function.__name__] = function
    return function
