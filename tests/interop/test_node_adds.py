"""Node adds, sandboxq runs: Node must read of the job what its own worker would have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import SOON, wait_until_async

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

PAYLOADS: list[Any] = [
    {"text": 'größer 🙂 \u2028 "quoted" \\ / \u0000', "ключ": [1, 2.5, -3e30, None, {}, []]},
    None,
    0,
    "just text",
    [],
    {"deep": {"deeper": [[[{"deepest": "yes"}]]]}},
    9007199254740991,
    "x" * 100_000,
]

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "delay": {"delay": 40},
    "priority": {"priority": 7},
    "highest priority": {"priority": 2_097_151},
    "delay and priority": {"delay": 40, "priority": 2},
    "lifo": {"lifo": True},
    "attempts and fixed backoff": {"attempts": 3, "backoff": 10},
    "exponential backoff with jitter": {
        "attempts": 3,
        "backoff": {"type": "exponential", "delay": 10, "jitter": 0.5},
    },
    "own id": {"jobId": "größe-1"},
    "own timestamp": {"timestamp": 1_700_000_000_000},
    "keep count": {"removeOnComplete": 1000, "removeOnFail": 1000},
    "keep age": {"removeOnComplete": {"age": 3600, "count": 1000}, "removeOnFail": {"age": 3600}},
    "keep all": {"removeOnComplete": False, "removeOnFail": False},
    "logs and traces": {"keepLogs": 1, "stackTraceLimit": 1, "sizeLimit": 10_000},
    "unknown to both": {"madeUp": {"by": ["a", "plugin"]}},
}


async def test_values_come_back_as_node_sent_them(node: NodeSide, ours: OurSide) -> None:
    """Data and return values pass two JSON codecs and must not change on the way."""
    ids = [await node.add("echo", payload) for payload in PAYLOADS]

    async with ours.worker():
        for job_id, payload in zip(ids, PAYLOADS, strict=True):
            assert await node.finished(job_id) == {"value": payload}
            job = await node.job(job_id)
            assert job["state"] == "completed"
            assert (job["data"], job["returnvalue"]) == (payload, payload)
            assert (job["attemptsMade"], job["attemptsStarted"]) == (1, 1)


async def test_every_kind_of_options_is_understood(node: NodeSide, ours: OurSide) -> None:
    """An option that stops the worker from running a job would strand Node's producers."""
    jobs = [{"name": "echo", "data": name, "opts": opts} for name, opts in OPTIONS.items()]
    added = await node.queue("addBulk", jobs)

    async with ours.worker():
        for job in added:
            assert await node.finished(job["id"]) == {"value": job["data"]}
    for job in added:
        seen = await node.job(job["id"])
        assert seen["state"] == "completed", job["data"]
        assert seen["opts"] == job["opts"], "running a job must leave its options as they were"
    assert (await node.queue("getJobCounts"))["completed"] == len(OPTIONS)


async def test_jobs_run_in_node_order(node: NodeSide, ours: OurSide) -> None:
    """Producers rely on FIFO, LIFO and priorities; one child shows the order in which jobs ran."""
    order: list[tuple[str, dict[str, Any]]] = [
        ("first", {}),
        ("second", {}),
        ("last in", {"lifo": True}),
    ]
    order += [("low", {"priority": 9}), ("high", {"priority": 1}), ("high again", {"priority": 1})]
    await node.queue("pause")
    for name, opts in order:
        await node.add("echo", name, {**opts, "jobId": name})
    await node.start_events()

    async with ours.worker():
        await node.queue("resume")
        await node.finished("low")

    ran = [event["jobId"] for event in await node.events("completed")]
    assert ran == ["last in", "first", "second", "high", "high again", "low"]


async def test_a_delayed_job_waits_for_its_time(node: NodeSide, ours: OurSide) -> None:
    """A delay is a promise not to run before; a worker that sleeps must wake for it."""
    async with ours.worker(drain_delay=60.0):
        await node.finished(await node.add("echo", 0))
        job_id = await node.add("echo", 1, {"delay": 300})
        await node.finished(job_id)

    job = await node.job(job_id)
    waited_ms = job["processedOn"] - job["timestamp"]
    assert 300 <= waited_ms < SOON * 1000
    assert job["delay"] == 0


@pytest.mark.parametrize("backoff", [None, 5, {"type": "exponential", "delay": 5}], ids=str)
async def test_a_job_that_fails_twice_recovers(node: NodeSide, ours: OurSide, backoff: Any) -> None:
    """Attempts and backoff are Node's promise to its producers, whoever runs the job."""
    opts = {"attempts": 3} if backoff is None else {"attempts": 3, "backoff": backoff}
    job_id = await node.add("fail", {"times": 2, "message": "zu groß"}, opts)

    async with ours.worker():
        assert await node.finished(job_id) == {"value": "recovered"}

    job = await node.job(job_id)
    assert (job["attemptsMade"], job["attemptsStarted"]) == (3, 3)
    assert job["failedReason"] == "zu groß"
    assert len(job["stacktrace"]) == 2


async def test_a_job_that_fails_for_good(node: NodeSide, ours: OurSide) -> None:
    """Whoever waits in Node must get the processor's own message, and a trace that says where."""
    data = {"times": 9, "message": "größe 'x' is \"bad\""}
    job_id = await node.add("fail", data, {"attempts": 2, "backoff": 5})

    async with ours.worker():
        assert await node.finished(job_id) == {"failedReason": data["message"]}

    job = await node.job(job_id)
    assert (job["state"], job["attemptsMade"]) == ("failed", 2)
    assert job["failedReason"] == data["message"]
    assert len(job["stacktrace"]) == 2
    assert all("processor.py" in trace and data["message"] in trace for trace in job["stacktrace"])
    assert job["finishedOn"] >= job["processedOn"]


async def test_the_newest_traces_are_kept_in_order(node: NodeSide, ours: OurSide) -> None:
    """Dashboards show the last trace as that of the last attempt."""
    data = {"times": 9, "message": "attempt {n}"}
    limited = await node.add("fail", data, {"attempts": 4, "stackTraceLimit": 2})
    unlimited = await node.add("fail", data, {"attempts": 3, "backoff": 5})

    async with ours.worker():
        assert await node.finished(limited) == {"failedReason": "attempt 3"}
        assert await node.finished(unlimited) == {"failedReason": "attempt 2"}

    assert_traces((await node.job(limited))["stacktrace"], "attempt 2", "attempt 3")
    assert_traces((await node.job(unlimited))["stacktrace"], "attempt 0", "attempt 1", "attempt 2")


def assert_traces(traces: list[str], *messages: str) -> None:
    """Check that each trace tells its attempt's message, oldest first."""
    assert len(traces) == len(messages)
    assert all(text in trace for trace, text in zip(traces, messages, strict=True))


async def test_an_unrecoverable_job_fails_at_once(node: NodeSide, ours: OurSide) -> None:
    """More attempts at a hopeless job waste hours of CPU."""
    job_id = await node.add("give-up", {"message": "hopeless"}, {"attempts": 5, "backoff": 5})

    async with ours.worker():
        assert await node.finished(job_id) == {"failedReason": "hopeless"}

    assert (await node.job(job_id))["attemptsMade"] == 1


async def test_node_reads_what_killed_a_child(node: NodeSide, ours: OurSide) -> None:
    """A crash in native code must reach Node as a failure with its cause, within the attempts."""
    failing = await node.add("crash", {"times": 9}, {"attempts": 2})
    recovering = await node.add("crash", {"times": 1}, {"attempts": 2, "backoff": 5})
    beside = await node.add("echo", "beside")

    async with ours.worker(procs=2):
        ended = await node.finished(failing)
        assert await node.finished(recovering) == {"value": "recovered"}
        assert await node.finished(beside) == {"value": "beside"}

    assert "SIGKILL" in ended["failedReason"]
    assert (await node.job(failing))["attemptsMade"] == 2
    assert "SIGKILL" in (await node.job(recovering))["failedReason"]


async def test_a_retry_by_node_counts_crashes_anew(node: NodeSide, ours: OurSide) -> None:
    """Whoever presses retry in bull-board has mended something, or wants to see it once more."""
    job_id = await node.add("crash", {"times": 9}, {"attempts": 9})
    async with ours.worker(max_crashes=2):
        assert "crashed 2 times" in (await node.finished(job_id))["failedReason"]
    await node.call("jobMethod", id=job_id, method="retry", args=["failed"])
    async with ours.worker(max_crashes=2):
        assert "crashed 2 times" in (await node.finished(job_id))["failedReason"]
    assert (await node.job(job_id))["attemptsMade"] == 4


async def test_node_reads_progress_logs_and_new_data(node: NodeSide, ours: OurSide) -> None:
    """A web page in Node follows the job by these three."""
    await node.start_events()
    job_id = await node.add("report", {"src": "ä.jpg"})

    async with ours.worker():
        assert await node.finished(job_id) == {"value": "reported"}

    job = await node.job(job_id)
    assert job["progress"] == {"step": 2, "of": "größer"}
    assert job["data"] == {"src": "ä.jpg", "seen": True}
    assert job["logs"] == ["first row", "second row: größer 🙂"]
    told = [event["data"] for event in await node.events("progress")]
    assert told == [25, {"step": 2, "of": "größer"}]


async def test_only_the_newest_results_are_kept(node: NodeSide, ours: OurSide) -> None:
    """Producers bound Redis' memory by removeOnComplete and removeOnFail of their jobs."""
    failing = {"times": 1, "message": "no"}
    for _ in range(4):
        await node.add("echo", 1, {"removeOnComplete": {"count": 2}})
        await node.add("fail", failing, {"removeOnFail": 1})
    gone = [
        await node.add("echo", 1, {"removeOnComplete": True}),
        await node.add("fail", failing, {"removeOnFail": True}),
    ]
    await node.start_events()

    async with ours.worker():
        assert await node.finished(await node.add("echo", "last", {"priority": 1})) is not None

    counts = await node.queue("getJobCounts")
    # The last one says nothing of removal, so it is kept beside the two.
    assert (counts["completed"], counts["failed"]) == (3, 1)
    assert [await node.job(job_id) for job_id in gone] == [None, None]
    heard = {event["jobId"] for event in await node.events("completed", "failed")}
    assert heard >= set(gone), "removed jobs are still announced"


async def test_old_results_are_removed_by_age(node: NodeSide, ours: OurSide) -> None:
    """Age is in seconds on the wire while nearly everything else is in milliseconds."""
    async with ours.worker():
        old = await node.add("echo", "old")
        await node.finished(old)

        async def is_gone() -> bool:
            await node.finished(await node.add("echo", 1, {"removeOnComplete": {"age": 1}}))
            return await node.job(old) is None

        await wait_until_async(is_gone)


async def test_a_timeout_that_node_sets_ends_the_job(node: NodeSide, ours: OurSide) -> None:
    """Node's own workers know no such option; it passes through as it was written."""
    job_id = await node.add("sleep", {"ms": 30_000}, {"timeout": 200})

    async with ours.worker():
        outcome = await node.finished(job_id)
        job = await node.job(job_id)

    assert "ran longer than its timeout of 0.2 s" in str(outcome)
    assert job["state"] == "failed"
    assert job["failedReason"] == "the job ran longer than its timeout of 0.2 s"
    assert job["opts"]["timeout"] == 200
