"""The probes of compatibility for the official Python port, run where it is installed.

    python -m tests.interop.compatibility.port_probes <Redis socket>

Prints {"version", "answers": {name: "" or what went wrong}}. A call that the port has not got is
an AttributeError. What each probe shows, its row says (rows.py).
"""

# ruff: noqa: D103 - see above

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import inspect
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import bullmq  # type: ignore[import-not-found,unused-ignore]

from tests.interop.compatibility.port_room import (
    FAR_MS,
    PROBES,
    WAIT_SECONDS,
    Room,
    again,
    boom,
    give,
    give_up,
    holds,
    late,
    probe,
    refused,
    same,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@probe
async def add(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {})
    same((await q.getJob(job.id)).data, 1)


@probe
async def add_bulk(room: Room) -> None:
    q = room.queue
    await q.addBulk([{"name": "a", "data": 1}, {"name": "b", "data": 2}])
    same(await q.getWaitingCount(), 2)


@probe
async def pause(room: Room) -> None:
    q = room.queue
    await q.pause()
    holds(await q.isPaused())
    await q.resume()
    holds(not await q.isPaused())


@probe
async def is_maxed(room: Room) -> None:
    q = room.queue
    holds(not await q.isMaxed())


@probe
async def version(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {})
    holds(bool(await q.getVersion()))


@probe
async def global_concurrency(room: Room) -> None:
    q = room.queue
    await q.setGlobalConcurrency(3)
    same(await q.getGlobalConcurrency(), 3)
    await q.removeGlobalConcurrency()
    same(await q.getGlobalConcurrency(), None)


@probe
async def global_rate_limit(room: Room) -> None:
    q = room.queue
    await q.setGlobalRateLimit(3, 500)
    same(await q.getGlobalRateLimit(), {"max": 3, "duration": 500})
    await q.removeGlobalRateLimit()
    same(await q.getGlobalRateLimit(), None)


@probe
async def rate_limit(room: Room) -> None:
    q = room.queue
    await q.rateLimit(5000)
    holds(await q.getRateLimitTtl() > 0)
    await q.removeRateLimitKey()
    holds(await q.getRateLimitTtl() <= 0)


@probe
async def drain(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {})
    await q.drain()
    same(await q.getWaitingCount(), 0)


@probe
async def clean(room: Room) -> None:
    q = room.queue
    await late(room)
    await q.clean(0, 10, "delayed")
    same(await q.getDelayedCount(), 0)


@probe
async def obliterate(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {})
    await q.pause()
    await q.obliterate()
    same(await room.redis.keys(f"bull:{room.name}:*"), [])


@probe
async def retry_jobs(room: Room) -> None:
    q = room.queue
    await room.run(await q.add("a", 1, {}), boom)
    await q.retryJobs()
    same(await q.getWaitingCount(), 1)


@probe
async def promote_jobs(room: Room) -> None:
    q = room.queue
    await late(room)
    await q.promoteJobs()
    same(await q.getWaitingCount(), 1)


@probe
async def trim_events(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {})
    await q.trimEvents(0)
    same(await room.redis.xlen(f"bull:{room.name}:events"), 0)


@probe
async def remove_orphaned_jobs(room: Room) -> None:
    q = room.queue
    await q.removeOrphanedJobs()


@probe
async def deduplication(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {"deduplication": {"id": "x"}})
    await q.add("a", 2, {"deduplication": {"id": "x"}})
    same(await q.getWaitingCount(), 1)
    same(await q.getDeduplicationJobId("x"), job.id)


@probe
async def remove_deduplication(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {"deduplication": {"id": "x"}})
    same(await q.removeDeduplicationKey("x"), 1)


@probe
async def jobs_by_state(room: Room) -> None:
    q = room.queue
    job = await late(room)
    same([each.id for each in await q.getDelayed()], [job.id])


@probe
async def counts(room: Room) -> None:
    q = room.queue
    await late(room)
    same((await q.getJobCounts("delayed"))["delayed"], 1)


@probe
async def count(room: Room) -> None:
    q = room.queue
    await late(room)
    same(await q.count(), 1)


@probe
async def counts_per_priority(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {"priority": 3})
    same((await q.getCountsPerPriority([3]))["3"], 1)


@probe
async def delayed_count(room: Room) -> None:
    q = room.queue
    await late(room)
    same(await q.getDelayedCount(time.time() * 1000), 0)


@probe
async def workers_of_node(room: Room) -> None:
    worker = room.worker(give)
    await asyncio.sleep(0.5)
    names = {each["name"] for each in await room.redis.client_list()}
    await worker.close(force=True)
    encoded = base64.b64encode(room.name.encode()).decode()
    holds(
        f"bull:{encoded}" in names,
        "its client name is not the one that Node and dashboards look for",
    )


@probe
async def metrics(room: Room) -> None:
    q = room.queue
    await room.run(await q.add("a", 1, {}), give, metrics={"maxDataPoints": 5})
    same((await q.getMetrics("completed"))["meta"]["count"], 1)


@probe
async def prometheus(room: Room) -> None:
    q = room.queue
    holds("job_count" in await q.exportPrometheusMetrics())


@probe
async def sync(room: Room) -> None:
    adding = room.queue.add("a", 1, {})
    is_awaitable = inspect.isawaitable(adding)
    if is_awaitable:
        await adding
    holds(not is_awaitable, "asyncio only")


@probe
async def delay(room: Room) -> None:
    same(await (await late(room)).getState(), "delayed")


@probe
async def priority(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {"priority": 5})
    urgent = await q.add("a", 2, {"priority": 1})
    same((await q.getPrioritized())[0].id, urgent.id)


@probe
async def lifo(room: Room) -> None:
    q = room.queue
    await q.add("a", 1, {})
    last = await q.add("a", 2, {"lifo": True})
    same((await q.getWaiting())[0].id, last.id)


@probe
async def size_limit(room: Room) -> None:
    q = room.queue
    await refused(q.add("a", "x" * 50, {"sizeLimit": 10}))


@probe
async def bad_priority(room: Room) -> None:
    q = room.queue
    await refused(q.add("a", 1, {"priority": -1}))


@probe
async def bad_id(room: Room) -> None:
    q = room.queue
    await refused(q.add("a", 1, {"jobId": "12"}))


@probe
async def update(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {})
    await job.updateData({"b": 2})
    await job.updateProgress(40)
    kept = await q.getJob(job.id)
    same((kept.data, kept.progress), ({"b": 2}, 40))


@probe
async def logs(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {})
    await job.log("row")
    same((await q.getJobLogs(job.id))["logs"], ["row"])


@probe
async def clear_logs(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {})
    await job.clearLogs()


@probe
async def promote(room: Room) -> None:
    job = await late(room)
    await job.promote()
    same(await job.getState(), "waiting")


@probe
async def change_delay(room: Room) -> None:
    q = room.queue
    job = await late(room)
    await job.changeDelay(FAR_MS * 2)
    same((await q.getJob(job.id)).delay, FAR_MS * 2)


@probe
async def change_priority(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {"priority": 3})
    await job.changePriority({"priority": 7})
    same((await q.getJob(job.id)).priority, 7)


@probe
async def retry(room: Room) -> None:
    q = room.queue
    job = await room.run(await q.add("a", 1, {}), boom)
    await job.retry("failed")
    same(await job.getState(), "waiting")


@probe
async def remove(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {})
    await job.remove()
    same(await q.getJob(job.id), None)


@probe
async def result(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {})
    await job.waitUntilFinished(None)


@probe
async def run(room: Room) -> None:
    q = room.queue
    same((await room.run(await q.add("a", 21, {}), give)).returnvalue, 42)


@probe
async def failed(room: Room) -> None:
    q = room.queue
    job = await room.run(await q.add("a", 1, {}), boom)
    same((job.failedReason, "boom" in job.stacktrace[0]), ("boom", True))


@probe
async def attempts(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {"attempts": 3, "backoff": {"type": "exponential", "delay": 20}})
    same((await room.run(job, boom)).attemptsMade, 3)


@probe
async def jitter(room: Room) -> None:
    q = room.queue
    backoff = {"type": "fixed", "delay": FAR_MS, "jitter": 0.9}
    job = await q.add("a", 1, {"attempts": 2, "backoff": backoff})
    worker = room.worker(boom)
    await until(lambda: room.is_in(job.id, "delayed"))
    await worker.close(force=True)
    holds((await q.getJob(job.id)).delay < FAR_MS, "no jitter")


@probe
async def unrecoverable(room: Room) -> None:
    q = room.queue
    same((await room.run(await q.add("a", 1, {"attempts": 5}), give_up)).attemptsMade, 1)


@probe
async def worker_name(room: Room) -> None:
    q = room.queue
    job = await room.run(await q.add("a", 1, {}), give, name="me")
    same(await room.redis.hget(f"bull:{room.name}:{job.id}", "pb"), "me")


@probe
async def max_started(room: Room) -> None:
    q = room.queue
    job = await room.run(await q.add("a", 1, {}), again, maxStartedAttempts=2)
    holds("started more than" in job.failedReason)


@probe
async def worker_pause(room: Room) -> None:
    q = room.queue
    worker = room.worker(give)
    await worker.pause()
    await asyncio.sleep(0.2)
    job = await q.add("a", 21, {})
    await asyncio.sleep(0.5)
    same(await job.getState(), "waiting")
    worker.resume()
    await until(lambda: room.has_ended(job.id))
    await worker.close(force=True)


@probe
async def by_hand(room: Room) -> None:
    q = room.queue
    job = await q.add("a", 1, {})
    worker = room.worker(give, autorun=False)
    held = await worker.getNextJob("token")
    await held.moveToCompleted("done", "token", fetchNext=False)
    same((await q.getJob(job.id)).returnvalue, "done")
    await worker.close(force=True)


@probe
async def cancel_anywhere(room: Room) -> None:
    q = room.queue
    await q.cancel("1")


@probe
async def hard_timeout(room: Room) -> None:
    async def deaf(_job: Any, _token: str) -> int:
        await asyncio.sleep(1.5)
        return 1

    job = await room.queue.add("a", 1, {"timeout": 100})
    ended = await room.run(job, deaf)
    holds(ended.failedReason is not None, "no such option")


@probe
async def flow(room: Room) -> None:
    same(await (await room.flow())["job"].getState(), "waiting-children")


@probe
async def get_flow(room: Room) -> None:
    producer = bullmq.FlowProducer({"connection": room.redis})
    await producer.getFlow({"queueName": room.name, "id": "1"})


@probe
async def children_values(room: Room) -> None:
    flow = await room.flow()
    await room.run(flow["job"], give)
    same(list((await flow["job"].getChildrenValues()).values()), [4])


@probe
async def dependencies(room: Room) -> None:
    same((await (await room.flow())["job"].getDependenciesCount())["unprocessed"], 1)


@probe
async def remove_child(room: Room) -> None:
    holds(await (await room.flow())["children"][0]["job"].removeChildDependency())


@probe
async def remove_unprocessed(room: Room) -> None:
    await (await room.flow(delay=FAR_MS))["job"].removeUnprocessedChildren()


@probe
async def every(room: Room) -> None:
    q = room.queue
    job = await q.upsertJobScheduler("s", {"every": FAR_MS})
    holds(str(job.id).startswith("repeat:s:"))


@probe
async def cron(room: Room) -> None:
    q = room.queue
    await q.upsertJobScheduler("s", {"pattern": "30 0 3 * * *", "tz": "Asia/Kolkata"})
    found_next = (await q.getJobScheduler("s"))["next"]
    same(time.strftime("%H:%M:%S", time.gmtime(found_next / 1000)), "21:30:30")


@probe
async def scheduler_calls(room: Room) -> None:
    q = room.queue
    await q.upsertJobScheduler("s", {"every": FAR_MS})
    same(len(await q.getJobSchedulers()), 1)
    same(await q.getJobSchedulersCount(), 1)
    await q.removeJobScheduler("s")
    same(await q.getJobSchedulersCount(), 0)


@probe
async def events(room: Room) -> None:
    q = room.queue
    await room.heard("waiting", lambda: q.add("a", 1, {}))


@probe
async def bad_event(room: Room) -> None:
    q = room.queue
    fields: Any = {"event": "completed", "jobId": "1", "returnvalue": "{no json"}
    await room.redis.xadd(f"bull:{room.name}:events", fields)
    await room.heard("waiting", lambda: q.add("a", 1, {}))


@probe
async def custom_events(room: Room) -> None:
    producer = bullmq.QueueEventsProducer(room.name, {"connection": room.redis})
    await room.heard("mine", lambda: producer.publishEvent({"eventName": "mine", "a": "1"}))


@probe
async def delayed_error(room: Room) -> None:
    async def later(job: Any, token: str) -> str:
        if job.attemptsStarted > 1:
            return "later"
        await job.moveToDelayed(int(time.time() * 1000) + 20, token)
        raise bullmq.DelayedError

    job = await room.queue.add("a", 1, {})
    same((await room.run(job, later)).returnvalue, "later")


@probe
async def waiting_error(room: Room) -> None:
    job = await room.queue.add("a", 1, {})
    await job.moveToWait("token")


@probe
async def rate_error(_room: Room) -> None:
    raise bullmq.RateLimitError


@probe
async def limiter(room: Room) -> None:
    q = room.queue
    for data in (1, 2):
        await q.add("a", data, {})
    last, started = await q.add("a", 3, {}), time.monotonic()
    await room.run(last, give, limiter={"max": 1, "duration": 300}, drainDelay=1)
    waited = time.monotonic() - started
    holds(waited > 0.5)
    holds(waited < 1.5, "partial: kept, but the worker sleeps its drainDelay, not until it may")


@probe
async def crash(room: Room) -> None:
    # Whether it dies alone: a processor that ends its process would end this program.
    async def tell(_job: Any, _token: str) -> int:
        return os.getpid()

    job = await room.run(await room.queue.add("a", 1, {}), tell)
    holds(int(job.returnvalue) != os.getpid(), "jobs run in the worker's own process")


@probe
async def ignored(room: Room) -> None:
    async def fail(job: Any, token: str) -> Any:
        return await boom(job, token) if job.name == "child" else "ran"

    flow_added = await room.flow(ignoreDependencyOnFailure=True)
    same((await room.run(flow_added["job"], fail)).returnvalue, "ran")


@probe
async def fail_parent(room: Room) -> None:
    flow_added = await room.flow(failParentOnFailure=True)
    await room.run(flow_added["job"], boom)
    same(await flow_added["job"].getState(), "failed")


async def found(each: Callable[[Room], Awaitable[None]]) -> str:
    """Return what went wrong with a probe, "" when nothing."""
    room = Room()
    try:
        async with asyncio.timeout(3 * WAIT_SECONDS):
            await each(room)
    except AttributeError as error:
        return "no such call" if "has no attribute" in str(error) else str(error)
    except TimeoutError:
        return "did not come"
    except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the table
        return " ".join(str(error).split())[:90] or type(error).__name__
    return ""


async def main() -> None:
    """Run every probe and print what was found."""
    answers = {name: await found(each) for name, each in PROBES.items()}
    version_found = importlib.metadata.version("bullmq")
    sys.stdout.write(json.dumps({"version": version_found, "answers": answers}) + "\n")
    sys.stdout.flush()
    # Workers that a failed probe left would keep the loop.
    os._exit(0)


asyncio.run(main())
