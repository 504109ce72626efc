"""What sandboxq reads of a queue is what Node reads of it, whoever wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandboxq.job import Job
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

LISTED = ("waiting", "prioritized", "delayed", "completed", "failed", "active")


async def fill(node: NodeSide) -> list[str]:
    """Leave a few jobs in every state and return all ids; the active one belongs to nobody."""
    await node.start_events()
    await node.start_worker(name="nodeling")
    ended = [await node.add("report", {"n": number}) for number in range(2)]
    ended += [await node.add("fail", {"times": 9, "message": "zu groß"}) for _ in range(2)]
    for job_id in ended:
        await node.finished(job_id)
    await node.stop_workers()
    active = await node.add("echo", "active")
    await node.call("claim", holder="somebody", lockDuration=60_000)
    options: list[dict[str, Any]] = [{}, {"lifo": True}, {}, {"priority": 5}, {"priority": 2}]
    options += [{"delay": 60_000, "attempts": 3, "backoff": 50}, {"delay": 50_000}]
    options += [{"jobId": "größe", "removeOnComplete": {"age": 60, "count": 5}}]
    return [*ended, active, *[await node.add("echo", "ü", each) for each in options]]


def as_node_says(job: Job) -> dict[str, Any]:
    """Return our job under Node's names."""
    return {
        "id": job.id,
        "name": job.name,
        "data": job.data,
        "progress": job.progress,
        "returnvalue": job.returnvalue,
        "failedReason": job.failed_reason,
        "stacktrace": list(job.stacktrace),
        "timestamp": job.timestamp_ms,
        "delay": job.delay_ms,
        "priority": job.priority,
        "attemptsMade": job.attempts_made,
        "attemptsStarted": job.attempts_started,
        "stalledCounter": job.stalled_counter,
        "processedOn": job.processed_on_ms,
        "processedBy": job.processed_by,
        "finishedOn": job.finished_on_ms,
    }


async def test_jobs_and_states(node: NodeSide, ours: OurSide) -> None:
    """A field read under another name or unit shows in no other test."""
    ids = await fill(node)

    async with ours.queue() as queue:
        for job_id in ids:
            theirs, mine = await node.job(job_id), await queue.read_job(job_id)
            said = as_node_says(mine)
            assert said == {name: theirs[name] for name in said}
            assert await mine.state() == theirs["state"]
            assert await mine.logs() == theirs["logs"]


async def test_counts_and_lists(node: NodeSide, ours: OurSide) -> None:
    """Two dashboards over one queue must show the same numbers and the same order."""
    await fill(node)

    async with ours.queue() as queue:
        counts = await queue.counts()
        assert counts == {state: (await node.queue("getJobCounts"))[state] for state in counts}
        for state in LISTED:
            for ascending in (True, False):
                theirs = await node.queue("getJobs", [state], 0, -1, ascending)
                mine = await queue.get_jobs(state, ascending=ascending)
                assert [job.id for job in mine] == [job["id"] for job in theirs], state


async def test_both_find_each_other_s_workers(node: NodeSide, ours: OurSide) -> None:
    """`get_workers` in Python is for fleets of both kinds too."""
    await node.start_worker(name="nodeling")

    async with ours.worker(name="snake"), ours.queue() as queue:
        await node.until_idle(workers=2)
        theirs = {client["rawname"] for client in await node.queue("getWorkers")}
        mine = {client["rawname"] for client in await queue.get_workers()}

    assert mine == theirs
    assert {name.rpartition(":w:")[2] for name in mine} >= {"nodeling", "snake"}


async def test_getters_of_one_state(node: NodeSide, ours: OurSide) -> None:
    """Each getter must show what Node's shows, in its order, of a range too."""
    await fill(node)
    async with ours.queue() as queue:
        for state in ("waiting", "prioritized", "delayed", "active", "completed", "failed"):
            for first, last in ((0, -1), (0, 0), (1, 2)):
                theirs = await node.queue(f"get{state.capitalize()}", first, last)
                found = await getattr(queue, f"get_{state}")(first, last)
                assert [job.id for job in found] == [job["id"] for job in theirs], state
            count = await getattr(queue, f"get_{state}_count")()
            assert count == await node.queue(f"get{state.capitalize()}Count"), state
        assert await queue.get_waiting_children() == []
        assert await queue.get_waiting_children_count() == 0
        assert await queue.remove_deprecated_priority_key() is False
