"""What sandboxq reads of a queue is what Node reads of it, whoever wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from sandboxq import QueueEvents
from tests.conftest import wait_until_async

if TYPE_CHECKING:
    from sandboxq.model.job import StoredJob
    from sandboxq.queue.events import QueueEvent
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


def as_node_says(job: StoredJob) -> dict[str, Any]:
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


# Fields of a job's hash as somebody else has left them; None: none.
ROWS: list[dict[str, str | None]] = [
    {"atm": "1"},
    {"atm": "1.7"},
    {"atm": "-3"},
    {"atm": " 5 "},
    {"ats": "5"},
    {"stc": "3"},
    {"stacktrace": '["a"]'},
    {"attemptsMade": "1"},
    {"returnvalue": "5"},
    {"failedReason": "old"},
    {"processedOn": "5"},
    {"opts": None},
    {"opts": ""},
    {"opts": "[]"},
    {"data": None},
    {"data": ""},
    {"data": "5"},
    {"data": "null"},
    {"name": ""},
    {"progress": "5"},
    {"progress": '{"a":1}'},
    {"parent": '{"id":"1","queueKey":"bull:x"}', "parentKey": "bull:x:1"},
    {"timestamp": "1.5"},
    {"delay": "10.7"},
    {"priority": "-1"},
    {"deid": ""},
    {"deid": "größe"},
    {"rjk": ""},
    {"rjk": "daily"},
    {"defa": "gone wrong"},
]


async def test_odd_rows(node: NodeSide, ours: OurSide, server_url: str) -> None:
    """A job that another library wrote is shown as Node shows it."""
    async with ours.queue() as queue:
        for fields in ROWS:
            job_id = await node.add("echo", {"a": 1}, {"attempts": 2})
            with redis.Redis.from_url(server_url) as client:
                _write(client, f"bull:{node.queue_name}:{job_id}", fields)
            theirs, mine = await node.job(job_id), await queue.read_job(job_id)
            said = as_node_says(mine) | {
                "deduplicationId": mine.deduplication_id,
                "repeatJobKey": mine.scheduler_id,
                "deferredFailure": mine.deferred_failure,
                "parentKey": mine.parent_key,
                "parent": mine.parent,
            }
            assert said == {name: theirs[name] for name in said}, fields


def _write(client: redis.Redis, key: str, fields: dict[str, str | None]) -> None:
    for name, text in fields.items():
        if text is None:
            client.hdel(key, name)
        else:
            client.hset(key, name, text)


async def test_events_are_heard_alike(node: NodeSide, ours: OurSide) -> None:
    """Each kind of event, with values of each kind, by two listeners to one stream."""
    await node.start_events()
    await node.start_worker()
    values: list[Any] = [
        None,
        0,
        -1.5,
        "größer 🙂",
        "",
        [],
        {},
        {"a": [None, {"b": "\u0000"}]},
        True,
        "5",
    ]
    ids = [await node.add("echo", value) for value in values]
    ids.append(await node.add("report", {}, {"priority": 2, "keepLogs": 1}))
    ids.append(await node.add("fail", {"times": 9, "message": "zu\ngroß"}, {"attempts": 2}))
    ids.append(await node.add("postpone", {"ms": 20}))
    for job_id in ids:
        await node.finished(job_id)
    await node.stop_workers()
    for _ in range(2):
        await node.add("echo", 1, {"delay": 600_000, "deduplication": {"id": "größe"}})
        await node.add("echo", 1, {"jobId": "same:two:three"})
    for method in ("pause", "resume", "promoteJobs"):
        await node.queue(method)
    await node.queue("clean", 0, 0, "completed")
    await node.queue("remove", "same:two:three")

    async def all_is_heard() -> bool:
        return any(each["event"] == "removed" for each in await node.events())

    await wait_until_async(all_is_heard)
    theirs = await node.events()
    async with QueueEvents(ours.queue_name, ours.url, last_id="0") as events:
        mine = [await anext(events) for _ in theirs]
    assert [_as_heard(each) for each in mine] == theirs


def _as_heard(event: QueueEvent) -> dict[str, Any]:
    """Return our event as Node tells it; its numbers are text, but for `delay`."""
    numbers = {k: str(v) for k, v in event.fields.items() if k in ("count", "attemptsMade")}
    job = {} if event.job_id is None else {"jobId": event.job_id}
    return {"event": event.name, **job, **event.fields, **numbers}
