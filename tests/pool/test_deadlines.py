"""Calls that run too long: told by an exception, else killed, and never charged for waiting."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.model.outcome import Completed, Failed
from tests.conftest import SOON, run_async, wait_until_async
from tests.pool.caller import Caller, lives, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import Call

SYNC = """
import json, os, re, signal, subprocess, time

def process(job):
    what, seconds = job.data
    if what == "sleep":
        time.sleep(seconds)
    elif what == "python":
        end = time.monotonic() + seconds
        while time.monotonic() < end: pass
    elif what == "report":
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job.log("x" * 200_000)
    elif what == "tidy":
        try:
            time.sleep(seconds)
        finally:
            job.log("tidied")
    elif what == "swallow":
        try:
            time.sleep(seconds)
        except Exception:
            return "swallowed"
    elif what == "look":
        while not job.cancelled: time.sleep(0.005)
        return "looked"
    elif what == "stubborn":
        while True:
            try: time.sleep(seconds)
            except Exception: pass
    elif what == "gil":
        sum(range(10**12))
    elif what == "deaf":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(seconds)
    elif what == "re":
        re.match("(a+)+$", "a" * 60 + "b")
    elif what == "family":
        near = subprocess.Popen(["sleep", "60"])
        far = subprocess.Popen(["sleep", "60"], start_new_session=True)
        job.log(json.dumps([os.getpid(), near.pid, far.pid]))
        while True:
            try: time.sleep(60)
            except Exception: pass
    return "done"
"""

ASYNC = """
import asyncio, time

async def process(job):
    what, seconds = job.data
    if what == "compute":
        time.sleep(seconds)
    elif what == "ignore":
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)
    return "done"
"""


def submit(caller: Caller, data: Any, timeout: float | None, grace: float = 0.15) -> Call:
    """Give a call with a timeout to the pool."""
    return caller.submit(data, timeout=timeout, grace=grace)


def is_late(outcome: Outcome, end: str) -> bool:
    """Tell whether a job failed by its timeout, in this way, and may be tried again."""
    assert isinstance(outcome, Failed), outcome
    assert outcome.cause == "JobTimeout"
    assert not outcome.is_unrecoverable
    assert not outcome.is_crash
    assert outcome.facts is not None
    assert int(outcome.facts["pid"]) > 0
    assert float(outcome.facts["elapsed"]) >= float(outcome.facts["limit"]) - 0.0005
    return outcome.facts["end"] == end


@pytest.mark.parametrize("what", ["sleep", "python", "re", "tidy", "report", "swallow", "look"])
def test_code_is_told_and_its_child_lives_on(tmp_path: Path, what: str) -> None:
    """An exception ends Python code at once; what it returns all the same is no result."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            pids = caller.pool.pids
            await caller.value(["sleep", 0])
            started = time.monotonic()
            call = submit(caller, [what, 60], 0.3, grace=50)
            outcome = await caller.outcome(call)
            assert is_late(outcome, "soft")
            assert 0.29 <= time.monotonic() - started < SOON
            assert await caller.value(["sleep", 0]) == "done"
            assert caller.pool.pids == pids
            if what == "tidy":
                assert (call.key, "log", b"tidied") in caller.reports

    run_async(main())


@pytest.mark.parametrize("what", ["stubborn", "gil", "deaf"])
def test_code_that_cannot_be_told_is_killed(tmp_path: Path, what: str) -> None:
    """Soon after the deadline, also when C code holds the GIL."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            pid = caller.pool.pids[0]
            started = time.monotonic()
            outcome = await caller.outcome(submit(caller, [what, 60], 0.3))
            assert is_late(outcome, "hard")
            assert 0.4 <= time.monotonic() - started < SOON
            assert not lives(pid)
            assert await caller.value(["sleep", 0]) == "done"

    run_async(main())


def test_the_whole_tree_is_gone(tmp_path: Path) -> None:
    """What the job has started dies with it, wherever it has gone."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            call = submit(caller, ["family", 0], 0.4)
            assert is_late(await caller.outcome(call), "hard")
            pids = json.loads(caller.reports[0][2])

            async def are_gone() -> bool:
                return not any(lives(pid) for pid in pids)

            await wait_until_async(are_gone, timeout=0.5)

    run_async(main())


def test_waiting_behind_another_is_not_charged(tmp_path: Path) -> None:
    """The clock of a call runs from its begin, not from when it was sent ahead or submitted."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            for _ in range(200):  # short runs make the pool send ahead
                await caller.value(["sleep", 0])
            calls = [submit(caller, ["sleep", 0.25], 0.4) for _ in range(4)]
            outcomes = [await caller.outcome(call) for call in calls]
            assert outcomes == [Completed(b'"done"')] * 4

    run_async(main())


def test_a_storm_of_deadlines_around_the_natural_end(tmp_path: Path) -> None:
    """Whatever the moment, a call has one outcome, and no exception gets into the child's loop."""

    async def main() -> None:
        source = random.Random(7)
        async with open_pool(processor_file(tmp_path, SYNC), size=2) as caller:
            pids = caller.pool.pids
            late = 0
            for _ in range(150):
                run = source.uniform(0.001, 0.006)
                what = source.choice(["python", "sleep", "report"])
                calls = [submit(caller, [what, run], run + source.uniform(-0.001, 0.001), grace=5)]
                calls += [caller.submit(["sleep", 0]) for _ in range(3)]
                for call in calls:
                    outcome = await caller.outcome(call)
                    if isinstance(outcome, Failed):
                        assert call is calls[0]
                        late += is_late(outcome, "soft")
            assert late
            assert caller.pool.pids == pids

    run_async(main())


def test_async_jobs_have_deadlines_of_their_own(tmp_path: Path) -> None:
    """One is cancelled at its time; its neighbours go on in the same child."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, ASYNC), concurrency=4) as caller:
            pids = caller.pool.pids
            steady = caller.submit(["sleep", 0.8])
            calls = [submit(caller, ["sleep", 20], after) for after in (0.2, 0.4)]
            assert all([is_late(await caller.outcome(call), "soft") for call in calls])
            assert await caller.outcome(steady) == Completed(b'"done"')
            assert caller.pool.pids == pids

    run_async(main())


@pytest.mark.parametrize("what", ["ignore", "compute"])
def test_async_code_that_goes_on_is_killed(tmp_path: Path, what: str) -> None:
    """A CancelledError can be swallowed, and a loop that computes never raises it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, ASYNC), concurrency=2) as caller:
            outcome = await caller.outcome(submit(caller, [what, 60], 0.3))
            assert is_late(outcome, "hard")
            assert await caller.value(["sleep", 0]) == "done"

    run_async(main())


def test_a_stopped_child_is_not_held_against_the_next_call(tmp_path: Path) -> None:
    """A signal that comes late, when another call runs, interrupts nobody."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            for _ in range(50):
                first = submit(caller, ["python", 0.01], 0.0095, grace=5)
                second = caller.submit(["python", 0.01])
                await caller.outcome(first)
                assert await caller.outcome(second) == Completed(b'"done"')

    run_async(main())
