"""Jobs that an older BullMQ has left in Redis: run here as the newest one runs them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_until_async
from tests.interop.conftest import NEWEST_ONLY, OLD_PACKAGES
from tests.interop.node_driver import NodeSide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.node_driver import NodeDriver
    from tests.interop.pair import Pair

pytestmark = NEWEST_ONLY

FAILING = {"times": 9, "message": "zu groß"}
JOBS: list[tuple[str, Any, dict[str, Any]]] = [
    ("echo", {"s": "größer"}, {}),
    ("echo", None, {"priority": 3}),
    ("echo", 1, {"delay": 30}),
    ("echo", 1, {"delay": 150, "priority": 2}),
    ("echo", 1, {"lifo": True}),
    ("echo", 1, {"jobId": "own"}),
    ("echo", 1, {"removeOnComplete": True}),
    ("fail", {**FAILING, "times": 1}, {"attempts": 3, "backoff": 10}),
    ("fail", FAILING, {"attempts": 2, "stackTraceLimit": 1}),
    ("fail", FAILING, {"removeOnFail": {"count": 1}}),
    ("report", {}, {"keepLogs": 2, "sizeLimit": 1000}),
]


@pytest.fixture(scope="module", params=OLD_PACKAGES)
def old_driver(
    new_driver: Callable[..., NodeDriver], request: pytest.FixtureRequest
) -> tuple[NodeDriver, str]:
    """Return a Node process with an old BullMQ, and its version."""
    return new_driver(request.param), str(request.param)


@pytest.fixture
def old(pair: Pair, old_driver: tuple[NodeDriver, str]) -> Iterator[list[NodeSide]]:
    """Return the old BullMQ's side of both queues."""
    driver, version = old_driver
    names = (pair.node.queue_name, pair.twin.queue_name)
    yield [NodeSide(driver, name, version) for name in names]
    for name in names:
        driver.ask("leave", queue=name).result(60)


async def test_what_an_old_queue_has_added(pair: Pair, old: list[NodeSide]) -> None:
    """A Redis outlives the deployments around it; the queue is even paused by the old one."""
    for side in old:
        await side.queue("pause")
    ids, _ = [[await side.add(*each) for each in JOBS] for side in old]
    await pair.node.queue("resume")
    async with pair.ours.queue() as queue:
        await queue.resume()
    assert pair.differences() == []

    await pair.run_both(ids)

    assert pair.differences(ran=True) == []


async def test_attempts_that_an_old_worker_made_count(pair: Pair, old: list[NodeSide]) -> None:
    """Version 4 counted under another name: a job would be tried as often again."""
    ids, _ = [await _failed_by(side) for side in old]

    await pair.run_both(ids)

    assert pair.differences(ran=True) == []


async def _failed_by(side: NodeSide) -> list[str]:
    """Have the old version fail jobs for good and let them wait again; return their ids."""
    await side.start_worker()
    ids = [await side.add("fail", FAILING, {"attempts": each}) for each in (1, 2, 3)]

    async def have_failed() -> bool:
        return len(await side.queue("getFailed")) == len(ids)

    await wait_until_async(have_failed)
    await side.stop_workers()
    for job_id in ids:
        await side.call("jobMethod", id=job_id, method="retry", args=["failed"])
    return ids


async def test_a_job_that_an_old_worker_has_begun_ends(pair: Pair, old: list[NodeSide]) -> None:
    """Node 6 tries one of version 4 for ever, as what it counts is not what it reads."""
    side = old[1]
    await side.start_worker()
    job_id = await side.add("fail", FAILING, {"attempts": 4, "backoff": 500})

    async def has_failed_once() -> bool:
        return len((await side.job(job_id))["stacktrace"]) == 1

    await wait_until_async(has_failed_once)
    await side.stop_workers()

    async with pair.ours.queue() as queue, pair.ours.worker():

        async def has_failed() -> bool:
            return (await queue.counts())["failed"] == 1

        await wait_until_async(has_failed)
        job = await queue.read_job(job_id)
        assert (job.attempts_made, len(job.stacktrace)) == (4, 4)
        await queue.retry(job_id, reset_attempts_made=True)
        assert (await queue.read_job(job_id)).attempts_made == 0


@pytest.mark.parametrize("every", [{"every": 200}, {"pattern": "* * * * * *"}], ids=str)
async def test_what_an_old_queue_repeats_ends_and_is_told(
    pair: Pair, old: list[NodeSide], caplog: pytest.LogCaptureFixture, every: dict[str, Any]
) -> None:
    """Node 6 neither goes on with it; the operator must hear that a nightly job will not run."""
    for side in old:
        await side.add("echo", {"n": 1}, {"repeat": every, "attempts": 2})
    ids = []
    for side in pair.sides():
        # At the very second there is no delay.
        (job,) = await side.queue("getJobs", ["delayed", "waiting"])
        ids.append(job["id"])

    async with pair.workers():
        for side, job_id in zip(pair.sides(), ids, strict=True):
            await wait_until_async(partial(_is_in, side, job_id, "completed"))
            await side.until_idle()

    for side in pair.sides():
        assert await side.queue("getDelayed") == []
    assert "make a scheduler instead" in caplog.text
    assert ids[1] in caplog.text


async def _is_in(side: NodeSide, job_id: str, state: str) -> bool:
    job = await side.job(job_id)
    return job is not None and job["state"] == state
