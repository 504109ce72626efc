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
from tests.pool.caller import Caller, open_pool, processor_file

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


def _recycled(caller: Caller) -> list[ChildRecycled]:
    return [event for event in caller.events if isinstance(event, ChildRecycled)]


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_no_child_runs_more_jobs_than_it_may(chores: Path, limit: int) -> None:
    """One child a job is a promise about isolation: not even one more is allowed."""

    async def main() -> None:
        async with open_pool(chores, size=2, recycling=Recycling(max_jobs=limit)) as caller:
            calls = [caller.submit({}) for _ in range(300)]
            await asyncio.gather(*(caller.outcome(call) for call in calls))
            pids = [await caller.value({}) for _ in range(3)]
            pids += [int(caller.outcomes[call.key].value) for call in calls]  # type: ignore[union-attr]
            assert max(pids.count(pid) for pid in pids) <= limit

    run_async(main())


def test_successor_is_ready_before_the_old_one_leaves(chores: Path) -> None:
    """A pool of one must not be without a child for as long as a start takes."""

    async def main() -> None:
        async with open_pool(chores, recycling=Recycling(max_jobs=20)) as caller:
            for _ in range(45):
                await caller.value({"sleep": 0.05})
                assert caller.pool.room() >= 1
            kinds = [type(event) for event in caller.events]
            first = kinds.index(ChildRecycled)
            assert kinds[:first].count(ChildReady) == 2
            reasons = {event.why for event in _recycled(caller)}
            assert reasons <= {f"after {number} jobs" for number in range(16, 21)}

    run_async(main())


def test_who_is_due_and_then_spent_has_one_successor(chores: Path) -> None:
    """Starts are slow on a busy machine: a second one for the same child would be for nothing."""
    chores.write_text(_CHORES + "def setup():\n    time.sleep(0.3)\n")

    async def main() -> None:
        async with open_pool(chores, recycling=Recycling(max_jobs=10)) as caller:
            for _ in range(9):
                await caller.value({})
            assert len(caller.pool.supervisor.ready) == 1  # its successor is still at its start
            await caller.value({"sleep": 1.0})
            await wait_until_async(lambda: _has_said(caller, ChildRecycled))
            assert [type(event) for event in caller.events].count(ChildReady) == 2

    run_async(main())


async def _has_said(caller: Caller, kind: type) -> bool:
    return any(isinstance(event, kind) for event in caller.events)


async def _has_children(caller: Caller, count: int) -> bool:
    return len(caller.pool.pids) == count


def test_one_child_a_job_never_doubles_the_load(chores: Path, tmp_path: Path) -> None:
    """While a last job runs its successor is warm, and waits."""
    gate = Gate(tmp_path)

    async def main() -> None:
        async with open_pool(chores, size=2, recycling=Recycling(max_jobs=1)) as caller:
            data = {"until": gate.path, "sleep": 0.4}  # long enough to be no short job
            calls = [caller.submit(data) for _ in range(2)]
            await wait_until_async(lambda: _has_children(caller, 4))
            assert caller.pool.room() == 0
            gate.open()
            for call in calls:
                await caller.outcome(call)
            assert caller.pool.room() == 2

    run_async(main())


def test_memory_that_is_kept_ends_with_its_child(chores: Path) -> None:
    """A leak is somebody else's bug: the worker lives with it, also when it is idle."""

    async def main() -> None:
        limit = 120 << 20
        async with open_pool(chores, recycling=Recycling(max_rss=limit)) as caller:
            pid = await caller.value({})
            assert await caller.value({"keep": 150}) == pid
            await wait_until_async(_gone(caller, pid))
            assert "memory" in _recycled(caller)[0].why
            assert await caller.value({}) != pid
            assert len(_recycled(caller)) == 1

    run_async(main())


def test_age_ends_idle_children_one_at_a_time(chores: Path) -> None:
    """Connections and credentials in a child have an age too."""

    async def main() -> None:
        async with open_pool(chores, size=3, recycling=Recycling(max_age=1.0)) as caller:
            first = set(caller.pool.pids)
            lowest = 3

            async def all_new() -> bool:
                nonlocal lowest
                lowest = min(lowest, caller.pool.room())
                return not first & set(caller.pool.pids)

            await wait_until_async(all_new)
            assert lowest == 3

    run_async(main())


def test_a_running_job_is_not_interrupted(chores: Path) -> None:
    """Recycling is housekeeping: it waits."""

    async def main() -> None:
        async with open_pool(chores, recycling=Recycling(max_age=0.3)) as caller:
            call = caller.submit({"sleep": 1.5})
            await caller.outcome(call)
            assert caller.outcomes[call.key].value  # type: ignore[union-attr]

    run_async(main())


def test_a_limit_below_the_processors_own_memory_is_refused(chores: Path) -> None:
    """Each child would be replaced before it did anything, for ever."""

    async def main() -> None:
        with pytest.raises(UsageError, match="before its first job"):
            async with open_pool(chores, recycling=Recycling(max_rss=1 << 20)):
                pass

    run_async(main())


def _gone(caller: Caller, pid: int) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def check() -> bool:
        return pid not in caller.pool.pids and not os.path.exists(f"/proc/{pid}")  # noqa: PTH110, ASYNC240

    return check


def test_a_fresh_policy_has_one_child_a_job(chores: Path) -> None:
    """Nothing that a job leaves in its process is there for the next one."""

    async def main() -> None:
        policy = Policy("strict", fresh=True)
        async with open_pool(chores, policy=policy, size=2) as caller:
            pids = [await caller.value({}) for _ in range(6)]
            assert len(set(pids)) == 6
            calls = [caller.submit({}) for _ in range(6)]
            outcomes = [await caller.outcome(call) for call in calls]
            assert len({str(outcome) for outcome in outcomes}) == 6

    run_async(main())
