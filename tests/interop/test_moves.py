"""Jobs that wait for children added meanwhile: the same in Redis whoever ran the parent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sandboxq import Worker
from tests.conftest import WAIT_SECONDS, wait_until_async
from tests.interop.dump import dump
from tests.interop.our_side import OurSide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.interop.node_driver import NodeSide


async def test_waiting_for_children_leaves_the_same(
    node: NodeSide, twin: NodeSide, server_url: str
) -> None:
    """A parent that asks to wait, waits, and is woken by its last child."""
    await node.start_worker(name="same")
    theirs = await dumps_of_a_wait(node, server_url)
    await node.stop_workers()
    async with OurSide(twin.queue_name, server_url).worker(name="same"):
        ours = await dumps_of_a_wait(twin, server_url)

    for their_step, our_step in zip(theirs, ours, strict=True):
        for key in ("stalled", "stalled-check"):
            their_step.pop(key, None)
            our_step.pop(key, None)
        assert our_step == their_step


async def dumps_of_a_wait(node: NodeSide, server_url: str) -> list[dict[str, Any]]:
    """Return the queue while the parent waits, and when it has ended."""
    await node.start_events()
    parent = await node.add("await-children", {}, {"delay": 600_000, "priority": 2})
    link = {"id": parent, "queue": f"bull:{node.queue_name}"}
    child = await node.add("echo", "child", {"delay": 600_000, "parent": link})
    await node.call("jobMethod", id=parent, method="promote", args=[])

    async def is_waiting() -> bool:
        return bool((await node.job(parent))["state"] == "waiting-children")

    await wait_until_async(is_waiting)
    # Only the worker's next look removes the counter `pc`.
    await node.until_idle()
    waiting = dump(server_url, node.queue_name)
    await node.call("jobMethod", id=child, method="promote", args=[])
    await node.events_until(parent, "completed", "failed")
    await node.until_idle()
    return [waiting, dump(server_url, node.queue_name)]


async def test_jobs_by_hand_leave_the_same(node: NodeSide, twin: NodeSide, server_url: str) -> None:
    """Node's manual processing and ours: claim, then say what became of the job."""
    for side in (node, twin):
        for name in ("completed", "delayed", "urgent"):
            await side.add(name, {}, {"priority": 3} if name == "urgent" else {})

    holder = "token"
    claim = {"holder": holder, "lockDuration": 30_000}
    value = {"ok": "größer"}
    due = int(time.time() * 1000) + 600_000
    for method, args in (
        ("moveToCompleted", [value, holder, False]),
        ("moveToDelayed", [due, holder]),
        ("moveToWait", [holder]),
    ):
        job_id = await node.call("claim", **claim)
        await node.call("heldMethod", id=job_id, method=method, args=args)

    async with Worker(twin.queue_name, url=server_url, metrics_points=0) as worker:
        moves: list[Callable[[Any], Awaitable[None]]] = [
            lambda job: job.move_to_completed(value),
            lambda job: job.move_to_delayed(600),
            lambda job: job.move_to_wait(),
        ]
        for move in moves:
            await move(await worker.get_next_job(holder))

    theirs, ours = dump(server_url, node.queue_name), dump(server_url, twin.queue_name)
    for key in ("marker", "stalled", "stalled-check"):
        theirs.pop(key, None)
        ours.pop(key, None)
    # How long until then is known to the millisecond only by the side that asked.
    for dumped in (theirs, ours):
        assert 600_000 - 1000 * WAIT_SECONDS <= int(dumped["2"].pop("delay")) <= 600_000
    assert ours == theirs
