"""The probes of compatibility for sandboxq: each a few calls on a queue of its own.

What each shows, its row says (rows.py).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from sandboxq import (
    Backoff,
    Deduplication,
    FlowProducer,
    Queue,
    RateLimit,
    Repeat,
    UsageError,
    Worker,
)
from tests.interop.compatibility.room import FAR, PROBES, Room, probe

__all__ = ["PROBES"]

BOOM: dict[str, Any] = {"times": 9, "message": "boom"}


@probe
async def add(room: Room) -> None:
    job = await room.queue.add("echo", 1)
    assert (await room.queue.read_job(job.id)).data == 1


@probe
async def sync(room: Room) -> None:
    def add_and_count() -> int:
        with Queue.sync(room.queue.name, room.ours.url) as queue:
            queue.add("a", 1)
            return queue.get_waiting_count()

    assert await asyncio.to_thread(add_and_count) == 1


@probe
async def add_bulk(room: Room) -> None:
    q = room.queue
    await q.add_bulk([("a", 1), ("b", 2)])
    assert await q.get_waiting_count() == 2


@probe
async def pause(room: Room) -> None:
    q = room.queue
    await q.pause()
    assert await q.is_paused()
    await q.resume()
    assert not await q.is_paused()


@probe
async def is_maxed(room: Room) -> None:
    q = room.queue
    await q.set_global_concurrency(1)
    assert not await q.is_maxed()


@probe
async def version(room: Room) -> None:
    q = room.queue
    await q.add("a", 1)
    assert await q.version()


@probe
async def global_concurrency(room: Room) -> None:
    q = room.queue
    await q.set_global_concurrency(3)
    assert await q.get_global_concurrency() == 3
    assert await q.remove_global_concurrency()
    assert await q.get_global_concurrency() is None


@probe
async def global_rate_limit(room: Room) -> None:
    q = room.queue
    await q.set_global_rate_limit(3, 0.5)
    assert await q.get_global_rate_limit() == RateLimit(3, 0.5)
    assert await q.remove_global_rate_limit()
    assert await q.get_global_rate_limit() is None


@probe
async def rate_limit(room: Room) -> None:
    q = room.queue
    await q.rate_limit(5)
    assert await q.rate_limit_ttl() > 0
    await q.remove_rate_limit_key()
    assert await q.rate_limit_ttl() <= 0


@probe
async def drain(room: Room) -> None:
    q = room.queue
    await q.add("a", 1)
    await q.drain()
    assert await q.get_waiting_count() == 0


@probe
async def clean(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, delay=FAR)
    await q.clean(state="delayed", grace=0)
    assert await q.get_delayed_count() == 0


@probe
async def obliterate(room: Room) -> None:
    q = room.queue
    await q.add("a", 1)
    await q.pause()
    await q.obliterate()
    assert await room.keys() == []


@probe
async def retry_jobs(room: Room) -> None:
    q = room.queue
    await room.run("fail", BOOM)
    await q.retry_jobs()
    assert await q.get_waiting_count() == 1


@probe
async def promote_jobs(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, delay=FAR)
    await q.promote_jobs()
    assert await q.get_waiting_count() == 1


@probe
async def trim_events(room: Room) -> None:
    q = room.queue
    await q.add_bulk([("a", 1), ("a", 2)])
    await q.trim_events(0)
    assert await room.command("XLEN", "events") == 0


@probe
async def remove_orphaned_jobs(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1)
    await room.command("LREM", "wait", 0, job.id)
    await q.remove_orphaned_jobs()
    assert await q.get_job(job.id) is None


@probe
async def deduplication(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, deduplication=Deduplication("x"))
    await q.add("a", 2, deduplication=Deduplication("x"))
    assert await q.get_waiting_count() == 1
    assert await q.deduplication_job_id("x") == job.id


@probe
async def remove_deduplication(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, deduplication=Deduplication("x"))
    assert await q.remove_deduplication_key("x")


@probe
async def jobs_by_state(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, delay=FAR)
    assert [each.id for each in await q.get_delayed()] == [job.id]


@probe
async def counts(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, delay=FAR)
    assert (await q.counts("delayed"))["delayed"] == 1


@probe
async def count(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, delay=FAR)
    assert await q.count() == 1


@probe
async def counts_per_priority(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, priority=3)
    assert (await q.counts_per_priority([3]))[3] == 1


@probe
async def delayed_count(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, delay=5)
    await q.add("a", 1, delay=FAR)
    assert await q.delayed_count(int(time.time() * 1000) + 60_000) == 1


@probe
async def metrics(room: Room) -> None:
    q = room.queue
    await room.run("echo", 1, worker={"metrics_points": 5})
    assert (await q.get_metrics("completed")).count == 1


@probe
async def prometheus(room: Room) -> None:
    q = room.queue
    assert "job_count" in await q.export_prometheus_metrics()


@probe
async def delay(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, delay=FAR)
    assert str(await job.state()) == "delayed"


@probe
async def priority(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, priority=5)
    urgent = await q.add("a", 2, priority=1)
    assert (await q.get_prioritized())[0].id == urgent.id


@probe
async def lifo(room: Room) -> None:
    q = room.queue
    await q.add("a", 1)
    last = await q.add("a", 2, lifo=True)
    assert (await q.get_waiting())[0].id == last.id


@probe
async def size_limit(room: Room) -> None:
    q = room.queue
    with pytest.raises(UsageError):
        await q.add("a", "x" * 50, size_limit=10)


@probe
async def bad_priority(room: Room) -> None:
    q = room.queue
    with pytest.raises(UsageError):
        await q.add("a", 1, priority=-1)


@probe
async def bad_id(room: Room) -> None:
    q = room.queue
    with pytest.raises(UsageError):
        await q.add("a", 1, job_id="12")


@probe
async def update(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1)
    await job.update_data({"b": 2})
    await job.update_progress(40)
    kept = await q.read_job(job.id)
    assert (kept.data, kept.progress) == ({"b": 2}, 40)


@probe
async def logs(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1)
    await job.log("row")
    assert await job.logs() == ["row"]


@probe
async def clear_logs(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1)
    await job.log("row")
    await job.clear_logs()
    assert await job.logs() == []


@probe
async def promote(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, delay=FAR)
    await job.promote()
    assert str(await job.state()) == "waiting"


@probe
async def change_delay(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, delay=FAR)
    await job.change_delay(FAR * 2)
    assert (await q.read_job(job.id)).delay_ms == FAR * 2000


@probe
async def change_priority(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, priority=3)
    await job.change_priority(7)
    assert (await q.read_job(job.id)).priority == 7


@probe
async def retry(room: Room) -> None:
    job = await room.run("fail", BOOM)
    await job.retry()
    assert str(await job.state()) == "waiting"


@probe
async def remove(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1)
    await job.remove()
    assert await q.get_job(job.id) is None


@probe
async def result(room: Room) -> None:
    q = room.queue
    job = await q.add("echo", "done")
    async with room.ours.worker():
        assert await job.result(60) == "done"


@probe
async def run(room: Room) -> None:
    assert (await room.run("echo", 42)).returnvalue == 42


@probe
async def failed(room: Room) -> None:
    job = await room.run("fail", BOOM)
    assert job.failed_reason == "boom"
    assert "boom" in job.stacktrace[0]


@probe
async def attempts(room: Room) -> None:
    job = await room.run("fail", BOOM, attempts=3, backoff=Backoff.exponential(0.02))
    assert job.attempts_made == 3


@probe
async def jitter(room: Room) -> None:
    q = room.queue
    backoff = Backoff.fixed(FAR, jitter=0.9)
    job = await q.add("fail", BOOM, attempts=2, backoff=backoff)
    await room.until_state(job, "delayed")
    assert (await q.read_job(job.id)).delay_ms < FAR * 1000


@probe
async def unrecoverable(room: Room) -> None:
    job = await room.run("give-up", {"message": "never"}, attempts=5)
    assert job.attempts_made == 1


@probe
async def worker_name(room: Room) -> None:
    assert (await room.run("echo", 1, worker={"name": "me"})).processed_by == "me"


@probe
async def max_started(room: Room) -> None:
    job = await room.run("put-back", worker={"max_started_attempts": 1})
    assert "started more than" in (job.failed_reason or "")


@probe
async def by_hand(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1)
    async with Worker(q.name, url=room.ours.url) as worker:
        held = await worker.get_next_job()
        assert held is not None
        await held.move_to_completed("done")
    assert (await q.read_job(job.id)).returnvalue == "done"


@probe
async def worker_pause(room: Room) -> None:
    q = room.queue
    async with room.ours.worker() as worker:
        await worker.pause()
        job = await q.add("echo", 1)
        await asyncio.sleep(0.3)
        assert str(await job.state()) == "waiting"
        worker.resume()
        assert await job.result(60) == 1


@probe
async def cancel_anywhere(room: Room) -> None:
    q = room.queue
    job = await q.add("sleep", {"ms": 60_000})
    async with room.ours.worker():
        await room.until_active(job)
        await q.cancel(job.id, grace=0)
        await room.until_ended(job)
    assert str(await job.state()) == "failed"


@probe
async def hard_timeout(room: Room) -> None:
    job = await room.run("sleep", {"ms": 60_000}, timeout=0.2, worker={"timeout_grace": 0.1})
    assert str(await job.state()) == "failed"


@probe
async def workers_of_node(room: Room) -> None:
    async with room.ours.worker():
        await room.until_listed()


@probe
async def flow(room: Room) -> None:
    parent, _ = await room.flow()
    assert str(await parent.state()) == "waiting-children"


@probe
async def get_flow(room: Room) -> None:
    q = room.queue
    parent, _ = await room.flow()
    async with FlowProducer(url=room.ours.url) as producer:
        tree = await producer.get_flow(q.name, parent.id)
    assert tree is not None
    assert tree.children[0].job.data == 2


@probe
async def children_values(room: Room) -> None:
    parent, _ = await room.flow()
    async with room.ours.worker():
        await room.until_ended(parent)
    assert list((await parent.children_values()).values()) == [2]


@probe
async def dependencies(room: Room) -> None:
    parent, _ = await room.flow()
    assert (await parent.dependencies_count())["unprocessed"] == 1


@probe
async def remove_child(room: Room) -> None:
    parent, child = await room.flow()
    assert await child.remove_child_dependency()
    assert str(await parent.state()) == "waiting"


@probe
async def remove_unprocessed(room: Room) -> None:
    q = room.queue
    parent, child = await room.flow(delay=FAR)
    await parent.remove_unprocessed_children()
    assert await q.get_job(child.id) is None


@probe
async def every(room: Room) -> None:
    q = room.queue
    job = await q.upsert_scheduler("s", Repeat(every=FAR))
    assert job.scheduler_id == "s"


@probe
async def cron(room: Room) -> None:
    q = room.queue
    await q.upsert_scheduler("s", Repeat(cron="30 0 3 * * *", tz="Asia/Kolkata"))
    scheduler = await q.get_scheduler("s")
    assert scheduler is not None
    assert time.strftime("%H:%M:%S", time.gmtime(scheduler.next_ms / 1000)) == "21:30:30"


@probe
async def scheduler_calls(room: Room) -> None:
    q = room.queue
    await q.upsert_scheduler("s", Repeat(every=FAR))
    assert len(await q.get_schedulers()) == 1
    assert await q.count_schedulers() == 1
    assert await q.remove_scheduler("s")


@probe
async def events(room: Room) -> None:
    q = room.queue
    await q.add("a", 1)
    await room.heard("waiting")


@probe
async def bad_event(room: Room) -> None:
    q = room.queue
    await q.add("a", 1)
    await room.command(
        "XADD", "events", "*", "event", "completed", "jobId", "1", "returnvalue", "{no json"
    )
    await q.pause()
    await room.heard("paused")


@probe
async def custom_events(room: Room) -> None:
    q = room.queue
    await q.publish_event("mine", {"a": "1"})
    await room.heard("mine")


@probe
async def delayed_error(room: Room) -> None:
    assert (await room.run("postpone", {"ms": 20})).returnvalue == 2


@probe
async def waiting_error(room: Room) -> None:
    assert (await room.run("put-back")).returnvalue == 2


@probe
async def rate_error(room: Room) -> None:
    assert (await room.run("limit-rate", {"ms": 50})).returnvalue == 2


@probe
async def limiter(room: Room) -> None:
    await room.queue.add_bulk([("echo", 1), ("echo", 2)])
    started = time.monotonic()
    await room.run("echo", 3, worker={"limiter": RateLimit(1, 0.3)})
    assert time.monotonic() - started > 0.5


@probe
async def crash(room: Room) -> None:
    crashed = await room.run("crash", {"times": 9}, worker={"max_crashes": 1})
    assert crashed.failed_reason


@probe
async def ignored(room: Room) -> None:
    parent, _ = await room.flow("ignore")
    async with room.ours.worker():
        await room.until_ended(parent)
    assert str(await parent.state()) == "completed"


@probe
async def fail_parent(room: Room) -> None:
    parent, _ = await room.flow("fail")
    async with room.ours.worker():
        await room.until_ended(parent)
    assert str(await parent.state()) == "failed"
