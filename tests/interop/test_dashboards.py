"""What Node's getWorkers and bull-board show of our workers and jobs, and what bull-board does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.conftest import wait_until_async
from tests.interop.board import Board

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide


async def open_board(node: NodeSide) -> Board:
    """Return the board of this test's queue."""
    return Board(await node.call("openBoard"), node.queue_name)


async def listed_workers(node: NodeSide) -> list[str]:
    """Return the real CLIENT names of the queue's workers, by Node's getWorkers."""
    return [client["rawname"] for client in await node.queue("getWorkers")]


async def test_node_lists_our_workers(node: NodeSide, ours: OurSide) -> None:
    """A worker that no dashboard sees is taken for dead by whoever is on call."""
    async with ours.worker(name="resizer-1"), ours.worker():

        async def are_listed() -> bool:
            return len(await listed_workers(node)) == 2

        await wait_until_async(are_listed)
        names = sorted(await listed_workers(node))
        seen_by_node = {client["name"] for client in await node.queue("getWorkers")}

    assert names[1] == f"{names[0]}:w:resizer-1"
    assert seen_by_node == {node.queue_name}

    async def is_gone() -> bool:
        return not await listed_workers(node)

    await wait_until_async(is_gone)


async def test_a_worker_that_never_waited_is_listed(node: NodeSide, ours: OurSide) -> None:
    """A worker at a long job is the one that is looked for, and it has never been idle."""
    await node.add("sleep", {"ms": 700})
    async with ours.worker(name="resizer-1"), ours.queue() as queue:

        async def is_busy() -> bool:
            return (await queue.counts("active"))["active"] == 1

        await wait_until_async(is_busy)
        assert len(await listed_workers(node)) == 1


async def test_the_board_shows_our_jobs_in_every_state(node: NodeSide, ours: OurSide) -> None:
    """bull-board parses every field of every job: one it cannot read breaks the whole page."""
    board = await open_board(node)
    async with ours.queue() as queue:
        done = await queue.add("report", {"src": "ä.jpg"})
        failed = await queue.add("fail", {"times": 1, "message": "boom"})
        async with ours.worker(name="resizer-1"):
            await node.finished(done.id)
            await node.finished(failed.id)
        waiting = await queue.add("echo", "waits")
        delayed = await queue.add("echo", "later", delay=3600)
        urgent = await queue.add("echo", "urgent", priority=1)

    (queue_shown,) = (await board.get(""))["queues"]
    counts = queue_shown["counts"]
    states = {"waiting": waiting, "delayed": delayed, "prioritized": urgent}
    states |= {"completed": done, "failed": failed}
    assert {state: counts[state] for state in states} == dict.fromkeys(states, 1)
    for state, job in states.items():
        assert [shown["id"] for shown in await board.jobs(state)] == [job.id], state

    (shown,) = await board.jobs("completed")
    assert shown["progress"] == {"step": 2, "of": "größer"}
    assert (shown["returnValue"], shown["processedBy"]) == ("reported", "resizer-1")
    assert shown["data"] == {"src": "ä.jpg", "seen": True}
    (shown,) = await board.jobs("failed")
    assert (shown["isFailed"], shown["failedReason"], shown["attempts"]) == (True, "boom", 1)
    assert "processor.py" in shown["stacktrace"][0]


async def test_the_board_shows_a_running_job_and_its_worker(node: NodeSide, ours: OurSide) -> None:
    """While a long job runs, the board must say that it runs, where, and what it logged."""
    board = await open_board(node)
    logged = await node.add("report", {})
    async with ours.worker(name="resizer-1"):
        await node.finished(logged)
        running = await node.add("sleep", {"ms": 700})

        async def is_active() -> list[dict[str, Any]]:
            return await board.jobs("active")

        (shown,) = await wait_until_async(is_active)
        (queue_shown,) = (await board.get(""))["queues"]
        workers = (await board.get(f"/{node.queue_name}/workers"))["workers"]

    assert (shown["id"], shown["processedBy"]) == (running, "resizer-1")
    assert queue_shown["hasWorkers"] is True
    assert len(workers) == 1
    assert "resizer-1" in json.dumps(workers)
    rows = await board.get(f"/{node.queue_name}/{logged}/logs")
    assert "second row: größer 🙂" in json.dumps(rows, ensure_ascii=False)


async def test_our_worker_follows_the_board_s_buttons(node: NodeSide, ours: OurSide) -> None:
    """Pause, retry and promote are what people press when something is wrong."""
    board = await open_board(node)
    async with ours.worker(), ours.queue() as queue:
        failed = await queue.add("fail", {"times": 1, "message": "boom"})
        await node.finished(failed.id)
        delayed = await queue.add("echo", "later", delay=3600)

        await board.put("/pause")
        assert await queue.is_paused()
        await board.put(f"/{failed.id}/retry")
        await board.put(f"/{delayed.id}/promote")
        await board.put("/resume")

        assert await node.finished(delayed.id) == {"value": "later"}

        async def is_done() -> bool:
            return bool((await node.job(failed.id))["state"] == "completed")

        await wait_until_async(is_done)
