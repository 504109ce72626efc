"""Recycling: children are replaced before they rot, and no job waits for it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import UsageError
from sandboxq.observe.telemetry import ChildReady, ChildRecycled
from sandboxq.pool.watch.recycler import Recycling
from sandboxq.sandbox.policy import Policy
from tests.conftest import Gate, run_async, wait_until_async
from tests.pool.desk import Desk, open_pool, processor_file

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

_CHORES = """
import os, time
kept = []
def process(job):
    while "until" in job.data and not os.path.exists(job.data["until"]): time.sleep(0.01)
    time.sleep(job.data.get("sleep", 0))
    kept.append(b"x" * (job.data.get("keep", 0) << 20))
    return os.getpid()
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor that keeps what it is told to."""
    return processor_file(tmp_path, _CHORES)


def _recycled(desk: Desk) -> list[ChildRecycled]:
    return [event for event in desk.events if isinstance(event, ChildRecycled)]


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_no_child_runs_more_jobs_than_it_may(chores: Path, limit: int) -> None:
    """One child a job is a promise about isolation: not even one more is allowed."""

    async def main() -> None:
        async with open_pool(chores, size=2, recycling=Recycling(max_jobs=limit)) as desk:
            calls = [desk.submit({}) for _ in range(300)]
            await asyncio.gather(*(desk.outcome(call) for call in calls))
            pids = [await desk.value({}) for _ in range(3)]
            pids += [int(desk.outcomes[call.key].value) for call in calls]  # type: ignore[union-attr]
            assert max(pids.count(pid) for pid in pids) <= limit

    run_async(main())


def test_successor_is_ready_before_the_old_one_leaves(chores: Path) -> None:
    """A pool of one must not be without a child for as long as a start takes."""

    async def main() -> None:
        async with open_pool(chores, recycling=Recycling(max_jobs=20)) as desk:
            for _ in range(45):
                await desk.value({"sleep": 0.05})
                assert desk.pool.room() >= 1
            kinds = [type(event) for event in desk.events]
            first = kinds.index(ChildRecycled)
            assert kinds[:first].count(ChildReady) == 2
            reasons = {event.why for event in _recycled(desk)}
            assert reasons <= {f"after {number} jobs" for number in range(16, 21)}

    run_async(main())


def test_who_is_due_and_then_spent_has_one_successor(chores: Path) -> None:
    """Starts are slow on a busy machine: a second one for the same child would be for nothing."""
    chores.write_text(_CHORES + "def setup():\n    time.sleep(0.3)\n")

    async def main() -> None:
        async with open_pool(chores, recycling=Recycling(max_jobs=10)) as desk:
            for _ in range(9):
                await desk.value({})
            assert len(desk.pool.supervisor.ready) == 1  # its successor is still at its start
            await desk.value({"sleep": 1.0})
            await wait_until_async(lambda: _has_said(desk, ChildRecycled))
            assert [type(event) for event in desk.events].count(ChildReady) == 2

    run_async(main())


async def _has_said(desk: Desk, kind: type) -> bool:
    return any(isinstance(event, kind) for event in desk.events)


async def _has_children(desk: Desk, count: int) -> bool:
    return len(desk.pool.pids) == count


def test_one_child_a_job_never_doubles_the_load(chores: Path, tmp_path: Path) -> None:
    """While a last job runs its successor is warm, and waits."""
    gate = Gate(tmp_path)

    async def main() -> None:
        async with open_pool(chores, size=2, recycling=Recycling(max_jobs=1)) as desk:
            data = {"until": gate.path, "sleep": 0.4}  # long enough to be no short job
            calls = [desk.submit(data) for _ in range(2)]
            await wait_until_async(lambda: _has_children(desk, 4))
            assert desk.pool.room() == 0
            gate.open()
            for call in calls:
                await desk.outcome(call)
            assert desk.pool.room() == 2

    run_async(main())


def test_memory_that_is_kept_ends_with_its_child(chores: Path) -> None:
    """A leak is somebody else's bug: the worker lives with it, also when it is idle."""

    async def main() -> None:
        limit = 120 << 20
        async with open_pool(chores, recycling=Recycling(max_rss=limit)) as desk:
            pid = await desk.value({})
            assert await desk.value({"keep": 150}) == pid
            await wait_until_async(_gone(desk, pid))
            assert "memory" in _recycled(desk)[0].why
            assert await desk.value({}) != pid
            assert len(_recycled(desk)) == 1

    run_async(main())


def test_age_ends_idle_children_one_at_a_time(chores: Path) -> None:
    """Connections and credentials in a child have an age too."""

    async def main() -> None:
        async with open_pool(chores, size=3, recycling=Recycling(max_age=1.0)) as desk:
            first = set(desk.pool.pids)
            lowest = 3

            async def all_new() -> bool:
                nonlocal lowest
                lowest = min(lowest, desk.pool.room())
                return not first & set(desk.pool.pids)

            await wait_until_async(all_new)
            assert lowest == 3

    run_async(main())


def test_a_running_job_is_not_interrupted(chores: Path) -> None:
    """Recycling is housekeeping: it waits."""

    async def main() -> None:
        async with open_pool(chores, recycling=Recycling(max_age=0.3)) as desk:
            call = desk.submit({"sleep": 1.5})
            await desk.outcome(call)
            assert desk.outcomes[call.key].value  # type: ignore[union-attr]

    run_async(main())


def test_a_limit_below_the_processors_own_memory_is_refused(chores: Path) -> None:
    """Each child would be replaced before it did anything, for ever."""

    async def main() -> None:
        with pytest.raises(UsageError, match="before its first job"):
            async with open_pool(chores, recycling=Recycling(max_rss=1 << 20)):
                pass

    run_async(main())


def _gone(desk: Desk, pid: int) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def check() -> bool:
        return pid not in desk.pool.pids and not os.path.exists(f"/proc/{pid}")  # noqa: PTH110, ASYNC240

    return check


def test_a_fresh_policy_has_one_child_a_job(chores: Path) -> None:
    """Nothing that a job leaves in its process is there for the next one."""

    async def main() -> None:
        policy = Policy("strict", fresh=True)
        async with open_pool(chores, policy=policy, size=2) as desk:
            pids = [await desk.value({}) for _ in range(6)]
            assert len(set(pids)) == 6
            calls = [desk.submit({}) for _ in range(6)]
            outcomes = [await desk.outcome(call) for call in calls]
            assert len({str(outcome) for outcome in outcomes}) == 6

    run_async(main())
