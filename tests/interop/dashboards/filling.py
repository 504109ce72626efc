"""A queue with jobs in every state, made by sandboxq alone, for dashboards to show and change."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandboxq import FlowProducer, Repeat
from sandboxq.queue.options import AddOptions
from tests.conftest import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandboxq.queue.flow_plan import FlowNode
    from sandboxq.queue.queue import Queue
    from tests.interop.our_side import OurSide

# Beyond the end of any test; what is delayed moves only when a dashboard says so.
FAR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Filled:
    """The ids of the jobs of a queue, by what they are for; the queue is open."""

    queue: Queue
    completed: list[str]
    failed: list[str]
    waiting: list[str]
    delayed: list[str]
    prioritized: list[str]
    active: str
    parent: str
    child: str

    @property
    def one_of_each(self) -> dict[str, str]:
        """Return the id of one job in each state, by BullMQ's name of the state."""
        return {
            "active": self.active,
            "waiting": self.waiting[0],
            "waiting-children": self.parent,
            "prioritized": self.prioritized[0],
            "completed": self.completed[0],
            "failed": self.failed[0],
            "delayed": self.delayed[0],
        }

    async def states(self, *job_ids: str) -> list[str]:
        """Return the states of these jobs as sandboxq reads them."""
        return [str(await self.queue.job_state(job_id)) for job_id in job_ids]

    async def until_state(self, job_id: str, state: str) -> None:
        """Wait until a job is in a state: a click returns before its request is answered."""

        async def is_there() -> bool:
            return await self.states(job_id) == [state]

        await wait_until_async(is_there)


@contextlib.asynccontextmanager
async def filled(ours: OurSide) -> AsyncIterator[Filled]:
    """Fill the queue; one job is held active by a worker with one child until the block ends.

    At the end the worker runs what waits then, and the block fails if something stays behind.
    """
    async with ours.queue() as queue:
        completed, failed = await _run_some(ours, queue)
        async with ours.worker(name="resizer-2", procs=1, drain_delay=0.2):
            active = await queue.add("sleep", {"ms": FAR_SECONDS * 1000})
            await wait_until_async(lambda: _count(queue, "active"))
            try:
                yield await _add_some(ours, queue, completed, failed, active.id)
                if await queue.is_paused():
                    await queue.resume()
            finally:
                await queue.cancel(active.id, grace=0)
            await wait_until_async(lambda: _is_drained(queue))


async def _run_some(ours: OurSide, queue: Queue) -> tuple[list[str], list[str]]:
    done = [await queue.add("report", {"src": f"{number}.jpg"}) for number in range(4)]
    bad = [
        await queue.add("fail", {"times": 3, "message": f"boom {number}"}, attempts=2)
        for number in range(4)
    ]
    async with ours.worker(name="resizer-1", metrics_points=60):

        async def are_run() -> bool:
            counts = await queue.counts()
            return counts["completed"] == len(done) and counts["failed"] == len(bad)

        await wait_until_async(are_run)
    return [job.id for job in done], [job.id for job in bad]


async def _add_some(
    ours: OurSide, queue: Queue, completed: list[str], failed: list[str], active: str
) -> Filled:
    waiting = [await queue.add("echo", {"number": number}) for number in range(3)]
    delayed = [await queue.add("echo", {"late": n}, delay=FAR_SECONDS) for n in range(4)]
    urgent = [await queue.add("echo", {"urgent": n}, priority=5 + n) for n in range(2)]
    nightly, often = Repeat(cron="0 0 3 * * *", tz="Europe/Berlin"), Repeat(every=FAR_SECONDS)
    await queue.upsert_scheduler("nightly", nightly, name="echo", data={"by": "night"})
    await queue.upsert_scheduler("often", often, name="echo", data={"by": "hour"})
    first, second = _late_leaf(queue, 1), _late_leaf(queue, 2)
    middle: FlowNode = {"name": "children", "queue": queue.name, "children": [second]}
    async with FlowProducer(url=ours.url) as flows:
        whole = {"of": "family"}
        children = [first, middle]
        flow = await flows.add(name="children", queue=queue.name, data=whole, children=children)
    return Filled(
        queue=queue,
        completed=completed,
        failed=failed,
        waiting=[job.id for job in waiting],
        delayed=[job.id for job in delayed],
        prioritized=[job.id for job in urgent],
        active=active,
        parent=flow.job.id,
        child=flow.children[0].job.id,
    )


def _late_leaf(queue: Queue, number: int) -> FlowNode:
    data, options = {"leaf": number}, AddOptions(delay=FAR_SECONDS)
    return {"name": "echo", "queue": queue.name, "data": data, "opts": options}


async def _count(queue: Queue, state: str) -> int:
    return (await queue.counts(state))[state]


async def _is_drained(queue: Queue) -> bool:
    counts = await queue.counts(["waiting", "prioritized", "active"])
    return not any(counts.values())
