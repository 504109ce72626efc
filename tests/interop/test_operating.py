"""What operators do to jobs leaves the same in Redis, whether Node or sandboxq does it.

The same steps are made on two queues; see test_differential.py for what is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.model.job import Deduplication
from tests.conftest import wait_until_async
from tests.interop.dump import dump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.queue.queue import Queue
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

    # The same step, by Node and by sandboxq.
    Step = tuple[Callable[[NodeSide], Awaitable[Any]], Callable[[Queue], Awaitable[Any]]]

HOUR_MS = 3_600_000
FAILING = {"times": 1, "message": "zu groß"}


def job(method: str, job_id: str, *args: Any) -> Callable[[NodeSide], Awaitable[Any]]:
    """Return a step that calls a method of Node's Job."""
    return lambda node: node.call("jobMethod", id=job_id, method=method, args=args)


def queue(method: str, *args: Any) -> Callable[[NodeSide], Awaitable[Any]]:
    """Return a step that calls a method of Node's Queue."""
    return lambda node: node.queue(method, *args)


async def add_some(side: NodeSide) -> None:
    """Leave jobs 1 to 8: three that wait, two with priority, three delayed."""
    options: list[dict[str, Any]] = [{}, {}, {"lifo": True}, {"priority": 5}, {"priority": 5}]
    options += [{"delay": HOUR_MS}, {"delay": 2 * HOUR_MS, "priority": 7}, {"delay": HOUR_MS}]
    for number, each in enumerate(options):
        await side.add("echo", number, each)


async def finish_some(side: NodeSide) -> None:
    """Leave jobs 1 to 6 finished: two completed, four failed, two of them with options."""
    await side.start_events()
    await side.start_worker(name="same")
    kinds: list[tuple[str, Any, dict[str, Any]]] = [("echo", 1, {}), ("echo", 2, {})]
    kinds += [("fail", {**FAILING, "times": 9}, each) for each in ({}, {"attempts": 2}, {}, {})]
    for name, data, opts in kinds:
        await side.events_until(await side.add(name, data, opts), "completed", "failed")
    await side.stop_workers()


def compared(url: str, queue_name: str) -> dict[str, Any]:
    """Return what must be equal."""
    shown = dump(url, queue_name)
    for name in ("marker", "stalled", "stalled-check"):
        # Ours wakes workers also where Node lets them sleep on; the rest is timing.
        shown.pop(name, None)
    return shown


CHANGES: dict[str, Step] = {
    "promote": (job("promote", "6"), lambda q: q.promote("6")),
    "promote with priority": (job("promote", "7"), lambda q: q.promote("7")),
    "change delay": (job("changeDelay", "6", 90_000_000), lambda q: q.change_delay("6", 90_000)),
    "no delay": (job("changeDelay", "6", 0), lambda q: q.change_delay("6", 0)),
    "priority for one that waits": (
        job("changePriority", "2", {"priority": 5}),
        lambda q: q.change_priority("2", 5),
    ),
    "first of a priority": (
        job("changePriority", "2", {"priority": 5, "lifo": True}),
        lambda q: q.change_priority("2", 5, lifo=True),
    ),
    "another priority": (
        job("changePriority", "4", {"priority": 9}),
        lambda q: q.change_priority("4", 9),
    ),
    "no priority": (
        job("changePriority", "4", {"priority": 0}),
        lambda q: q.change_priority("4", 0),
    ),
    "no priority, first": (
        job("changePriority", "4", {"priority": 0, "lifo": True}),
        lambda q: q.change_priority("4", 0, lifo=True),
    ),
    "priority of a delayed one": (
        job("changePriority", "8", {"priority": 3}),
        lambda q: q.change_priority("8", 3),
    ),
    "data": (job("updateData", "1", {"ü": [1]}), lambda q: q.update_job_data("1", {"ü": [1]})),
    "progress": (job("updateProgress", "1", 7), lambda q: q.update_job_progress("1", 7)),
    "log": (job("log", "1", "größer"), lambda q: q.add_job_log("1", "größer")),
    "drain": (queue("drain"), lambda q: q.drain()),
    "drain delayed too": (queue("drain", True), lambda q: q.drain(delayed=True)),  # noqa: FBT003 - Node's signature
    "clean waiting": (queue("clean", 0, 0, "wait"), lambda q: q.clean(0, "waiting")),
    "clean two": (queue("clean", 0, 2, "wait"), lambda q: q.clean(0, "waiting", limit=2)),
    "clean prioritized": (
        queue("clean", 0, 0, "prioritized"),
        lambda q: q.clean(0, "prioritized"),
    ),
    "clean delayed": (queue("clean", 0, 1, "delayed"), lambda q: q.clean(0, "delayed", limit=1)),
    "clean nothing": (queue("clean", HOUR_MS, 0, "wait"), lambda q: q.clean(3600, "waiting")),
    "concurrency": (queue("setGlobalConcurrency", 3), lambda q: q.set_global_concurrency(3)),
    "rate": (queue("setGlobalRateLimit", 3, 1500), lambda q: q.set_global_rate_limit(3, 1.5)),
    "trim": (queue("trimEvents", 0), lambda q: q.trim_events(0)),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_changes_leave_the_same(
    node: NodeSide, twin: NodeSide, our_twin: OurSide, server_url: str, name: str
) -> None:
    """Operators use whichever tool is at hand; the queue must not tell which it was."""
    by_node, by_us = CHANGES[name]
    for side in (node, twin):
        await add_some(side)

    await by_node(node)
    async with our_twin.queue() as ours:
        await by_us(ours)

    assert compared(server_url, our_twin.queue_name) == compared(server_url, node.queue_name)


AFTERWARDS: dict[str, Step] = {
    "retry": (job("retry", "3"), lambda q: q.retry("3")),
    "retry a completed one": (job("retry", "1", "completed"), lambda q: q.retry("1", "completed")),
    "retry from the start": (
        job("retry", "4", "failed", {"resetAttemptsMade": True, "resetAttemptsStarted": True}),
        lambda q: q.retry("4", reset_attempts_made=True, reset_attempts_started=True),
    ),
    "retry all": (queue("retryJobs", {}), lambda q: q.retry_jobs()),
    "retry all completed": (
        queue("retryJobs", {"state": "completed"}),
        lambda q: q.retry_jobs("completed"),
    ),
    "retry none": (queue("retryJobs", {"timestamp": 1}), lambda q: q.retry_jobs(until_ms=1)),
    "clean completed": (queue("clean", 0, 0, "completed"), lambda q: q.clean(0)),
    "clean one failed": (queue("clean", 0, 1, "failed"), lambda q: q.clean(0, "failed", limit=1)),
    "clean old ones": (queue("clean", HOUR_MS, 0, "failed"), lambda q: q.clean(3600, "failed")),
    "clear logs": (job("clearLogs", "1", 1), lambda q: q.clear_job_logs("1", keep_logs=1)),
}


@pytest.mark.parametrize("name", AFTERWARDS)
async def test_changes_of_finished_jobs_leave_the_same(
    node: NodeSide, twin: NodeSide, our_twin: OurSide, server_url: str, name: str
) -> None:
    """Retrying and cleaning is most of what operators do."""
    by_node, by_us = AFTERWARDS[name]
    for side in (node, twin):
        await finish_some(side)

    await by_node(node)
    async with our_twin.queue() as ours:
        await by_us(ours)

    assert compared(server_url, our_twin.queue_name) == compared(server_url, node.queue_name)


async def test_promoting_all_leaves_the_same(
    node: NodeSide, twin: NodeSide, our_twin: OurSide, server_url: str
) -> None:
    """Only the hash differs: Node's bulk promotion leaves a delay that is over."""
    for side in (node, twin):
        for number in range(3):
            await side.add("echo", number, {"delay": HOUR_MS * (3 - number)})

    await node.queue("promoteJobs")
    async with our_twin.queue() as ours:
        assert await ours.promote_jobs() == 3

    mine = compared(server_url, our_twin.queue_name)
    theirs = compared(server_url, node.queue_name)
    for job_id in "123":
        assert mine[job_id].pop("delay") == "0"
        assert theirs[job_id].pop("delay") != "0"
    assert mine == theirs


async def test_limits_are_read_and_removed(node: NodeSide, ours: OurSide) -> None:
    """A limit that one side set must be seen, and can be lifted, by the other."""
    async with ours.queue() as queue:
        await node.queue("setGlobalConcurrency", 2)
        await node.queue("setGlobalRateLimit", 5, 2500)
        assert await queue.get_global_concurrency() == 2
        limit = await queue.get_global_rate_limit()
        assert limit is not None
        assert (limit.max, limit.duration) == (5, 2.5)
        assert await queue.remove_global_concurrency()
        assert await queue.remove_global_rate_limit()
        assert await node.queue("getGlobalConcurrency") is None
        assert await node.queue("getGlobalRateLimit") is None

        await queue.rate_limit(60)
        assert 59_000 < await node.queue("getRateLimitTtl") <= 60_000
        assert 59 < await queue.rate_limit_ttl() <= 60
        assert 59 < await queue.rate_limit_ttl(5) <= 60
        await node.queue("removeRateLimitKey")
        assert await queue.rate_limit_ttl() == 0
        assert not await queue.remove_rate_limit_key()


async def test_looking_is_the_same(node: NodeSide, ours: OurSide) -> None:
    """Two monitors over one queue must show the same."""
    await add_some(node)
    await node.start_events()
    async with ours.queue() as queue:
        wanted = [0, 5, 6, 5]
        counts = await node.queue("getCountsPerPriority", wanted)
        assert await queue.counts_per_priority(wanted) == {int(p): n for p, n in counts.items()}
        theirs = await node.queue("getJobCounts", "delayed", "waiting")
        # Version 5 counts `paused` with whatever it is asked for.
        theirs.pop("paused", None)
        assert await queue.counts(["delayed", "waiting"]) == theirs
        meta = await queue.get_meta()
        assert meta.max_events == (await node.queue("getMeta"))["maxLenEvents"]
        assert await queue.version() == await node.queue("getVersion")
        assert await queue.is_maxed() == await node.queue("isMaxed")
        mine = {client["rawname"] for client in await queue.get_queue_events_clients()}
        assert mine == {client["rawname"] for client in await node.queue("getQueueEvents")} != set()


async def test_metrics_are_the_same(node: NodeSide, ours: OurSide) -> None:
    """What Node's workers counted is shown here, and scraped from here under Node's names."""
    await node.start_events()
    await node.start_worker(metrics={"maxDataPoints": 60})
    for number in range(3):
        await node.finished(await node.add("echo", number))
    await node.finished(await node.add("fail", FAILING))

    async with ours.queue() as queue:
        for kind in ("completed", "failed"):
            theirs, mine = await node.queue("getMetrics", kind), await queue.get_metrics(kind)
            assert (mine.count, mine.previous_ms) == (
                *(theirs["meta"]["count"], theirs["meta"]["prevTS"]),
            )
            assert (mine.data, mine.points) == (theirs["data"], theirs["count"])
        labels = {"room": 'a "b"\n'}
        text = await queue.export_prometheus_metrics(labels)
        theirs_text = await node.queue("exportPrometheusMetrics", labels)
    # Version 5 counts `paused` too, and the order of states is nobody's business.
    theirs_lines = {line for line in theirs_text.splitlines() if 'state="paused"' not in line}
    assert set(text.splitlines()) == theirs_lines


async def test_rescheduling_leaves_the_same(
    node: NodeSide, our_twin: OurSide, server_url: str
) -> None:
    """A debounced job must run when the newest add wanted it, whoever added that."""
    if node.version.startswith("5"):
        pytest.skip("came with version 6.7")
    rule = {"id": "d", "reschedule": True}
    async with our_twin.queue() as queue:
        for seconds in (600, 900, 0):
            await node.add("echo", 1, {"delay": seconds * 1000, "deduplication": rule})
            await queue.add(
                "echo", 1, delay=seconds, deduplication=Deduplication("d", reschedule=True)
            )

        assert dump(server_url, our_twin.queue_name) == dump(server_url, node.queue_name)
        assert await queue.deduplication_job_id("d") == "1"


async def test_deduplication_keys_are_freed(node: NodeSide, ours: OurSide) -> None:
    """Either side may decide that the next add counts again."""
    rule = {"delay": HOUR_MS, "deduplication": {"id": "d"}}
    async with ours.queue() as queue:
        first = await node.add("echo", 1, rule)
        assert await queue.deduplication_job_id("d") == first
        assert await queue.remove_deduplication_key("d")
        second = await node.add("echo", 2, rule)
        assert second != first
        assert not await (await queue.read_job(first)).remove_deduplication_key()
        assert await (await queue.read_job(second)).remove_deduplication_key()
        assert await node.queue("getDeduplicationJobId", "d") is None


async def test_node_retries_what_we_ran(node: NodeSide, ours: OurSide) -> None:
    """bull-board's buttons are Node's: jobs that failed here must come back through them."""
    await node.start_events()
    failing = [await node.add("fail", {**FAILING, "times": 2}) for _ in range(3)]
    async with ours.worker(), ours.queue() as queue:
        for job_id in failing:
            assert "failedReason" in await node.finished(job_id)
        await node.queue("retryJobs", {})
        await _until(queue, completed=0, failed=3, attempts=2)
        await node.queue("retryJobs", {})
        await _until(queue, completed=3, failed=0, attempts=3)


async def test_we_retry_what_node_ran(node: NodeSide, ours: OurSide) -> None:
    """And jobs that failed there come back through ours, with their priority."""
    await node.start_events()
    await node.start_worker()
    failing = [await node.add("fail", FAILING, {"priority": number}) for number in (3, 2, 1)]
    for job_id in failing:
        assert "failedReason" in await node.finished(job_id)
    await node.stop_workers()

    async with ours.queue() as queue:
        assert await queue.retry_jobs() == 3
        assert await queue.counts(["prioritized", "failed"]) == {"prioritized": 3, "failed": 0}
        await node.start_worker(concurrency=1)
        await _until(queue, completed=3, failed=0, attempts=2)
        started = [(await queue.read_job(each)).processed_on_ms or 0 for each in failing]
    assert started == sorted(started, reverse=True)


async def test_node_cleans_what_we_ran(node: NodeSide, ours: OurSide, server_url: str) -> None:
    """Nothing of ours may stay behind when the other side tidies up."""
    await node.start_events()
    ids = [await node.add("report", {}), await node.add("fail", FAILING)]
    waiting, later = await node.add("echo", 1, {"delay": HOUR_MS}), ""
    async with ours.worker(), ours.queue() as queue:
        for job_id in ids:
            await node.finished(job_id)
        later = (await queue.add("echo", 1, delay=3600, priority=3)).id
    await node.queue("clean", 0, 0, "completed")
    await node.queue("clean", 0, 0, "failed")
    await node.queue("promoteJobs")
    await node.queue("drain")

    shown = compared(server_url, node.queue_name)
    assert shown.keys() == {"events", "id", "meta"}
    gone = [each for each in (*ids, waiting, later) if await node.job(each) is not None]
    assert gone == []


async def test_we_clean_what_node_ran(node: NodeSide, ours: OurSide, server_url: str) -> None:
    """And nothing of Node's when we do; a paused queue can be tidied too."""
    await node.start_events()
    await node.start_worker()
    ids = [await node.add("report", {}), await node.add("fail", FAILING)]
    for job_id in ids:
        await node.finished(job_id)
    await node.stop_workers()
    await node.queue("pause")
    waiting = [await node.add("echo", 1), await node.add("echo", 1, {"priority": 2})]
    delayed = await node.add("echo", 1, {"delay": HOUR_MS})
    async with ours.queue() as queue:
        assert [await queue.clean(0), await queue.clean(0, "failed")] == [[ids[0]], [ids[1]]]
        await queue.promote(delayed)
        assert await queue.drain() == len([*waiting, delayed])
        await queue.resume()
    assert compared(server_url, node.queue_name).keys() <= {"events", "id", "meta", "pc"}


async def test_children_that_are_retried_count_again(node: NodeSide, ours: OurSide) -> None:
    """A parent must wait for a child that runs once more, and then get its value."""
    if node.version.startswith("5"):
        pytest.skip("version 5 forgets the parent when it retries")
    await node.start_events()
    child = {"name": "fail", "queueName": ours.queue_name, "data": FAILING, "opts": {}}
    children = [{**child, "opts": {"ignoreDependencyOnFailure": True}}]
    children += [{**child, "name": "echo", "opts": {"delay": HOUR_MS}}]
    flow = await node.call(
        "flow", tree={"name": "echo", "queueName": ours.queue_name, "children": children}
    )
    parent = flow["job"]["id"]
    failing, late = (each["job"]["id"] for each in flow["children"])
    async with ours.worker(), ours.queue() as queue:
        assert "failedReason" in await node.finished(failing)
        await queue.pause()
        await queue.retry(failing)
        counts = await node.call("jobMethod", id=parent, method="getDependenciesCount", args=[])
        assert (counts["unprocessed"], counts["ignored"]) == (2, 0)
        await queue.promote(late)
        await queue.resume()
        assert "value" in await node.finished(parent)


async def _until(queue: Queue, *, completed: int, failed: int, attempts: int) -> None:
    """Wait until so many jobs ended so, each after so many attempts."""

    async def have_ended() -> bool:
        counts = await queue.counts()
        jobs = await queue.get_jobs(["completed", "failed"])
        return (
            (counts["completed"], counts["failed"]) == (completed, failed)
            and len(jobs) == completed + failed
            and {job.attempts_made for job in jobs} == {attempts}
        )

    await wait_until_async(have_ended)
