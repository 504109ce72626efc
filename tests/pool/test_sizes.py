"""Growing, shrinking and stopping."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, HandedBack
from tests.conftest import SOON, run_async, wait_until_async
from tests.pool.caller import lives, open_descriptors, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_CHORES = """
import os, time
def process(job):
    time.sleep(job.data.get("sleep", 0))
    return os.getpid()
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor that sleeps."""
    return processor_file(tmp_path, _CHORES)


def test_room_is_one_call_a_slot_before_anything_was_measured(chores: Path) -> None:
    """Long jobs must not be hoarded by a worker that cannot start them."""

    async def main() -> None:
        async with open_pool(chores, size=3) as caller:
            assert caller.pool.room() == 3
            calls = [caller.submit({"sleep": 0.2}) for _ in range(3)]
            assert caller.pool.room() == 0
            assert (caller.pool.size, caller.pool.busy, caller.pool.held) == (3, 3, 3)
            outcomes = [await caller.outcome(call) for call in calls]
            pids = {outcome.value for outcome in outcomes if isinstance(outcome, Completed)}
            assert len(pids) == 3

    run_async(main())


def test_pool_grows_and_shrinks_while_it_works(chores: Path) -> None:
    """`scale` must neither lose a job nor interrupt one."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            await caller.pool.resize(4)
            assert caller.pool.size == 4
            calls = [caller.submit({"sleep": 1}) for _ in range(4)]
            await caller.until_begun(*calls)
            await caller.pool.resize(1)
            assert caller.pool.size == 1
            calls += [caller.submit({}) for _ in range(4)]
            for call in calls:
                assert isinstance(await caller.outcome(call), Completed)

            async def is_one() -> bool:
                return len(caller.pool.pids) == 1

            await wait_until_async(is_one)
            await caller.pool.resize(2)
            assert len(caller.pool.pids) == 2

    run_async(main())


def test_stop_lets_running_jobs_finish_and_hands_back_the_rest(chores: Path) -> None:
    """A rollout must not cost an attempt."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            running = caller.submit({"sleep": 1})
            waiting = caller.submit({})
            await caller.until_begun(running)
            await caller.pool.stop(timeout=60)
            assert isinstance(caller.outcomes[running.key], Completed)
            assert caller.outcomes[waiting.key] == HandedBack(was_started=False)

    run_async(main())


def test_stop_ends_what_does_not_finish_in_time(chores: Path) -> None:
    """The pod's grace period ends; a job that is killed by it goes back as started."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            running = caller.submit({"sleep": 60})
            await caller.until_begun(running)
            started = time.monotonic()
            await caller.pool.stop(timeout=0.2)
            assert time.monotonic() - started < SOON
            assert caller.outcomes[running.key] == HandedBack(was_started=True)

    run_async(main())


def test_kill_is_at_once_and_complete(chores: Path) -> None:
    """The third signal means now."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            calls = [caller.submit({"sleep": 60}) for _ in range(3)]
            await caller.until_begun(*calls[:2])
            pids = caller.pool.pids
            started = time.monotonic()
            caller.pool.kill()
            assert time.monotonic() - started < SOON
            assert all(isinstance(caller.outcomes[call.key], HandedBack) for call in calls)
            assert not any(lives(pid) for pid in pids)

    run_async(main())


def test_stop_gives_back_every_descriptor(chores: Path) -> None:
    """A process that opens and closes pools for days must not run out of files."""

    async def main() -> None:
        counts = []
        for _ in range(4):
            async with open_pool(chores, size=2, policy="limits") as caller:
                await caller.run({})
            counts.append(open_descriptors())
        assert counts[1:] == [counts[1]] * 3

    run_async(main())


@pytest.mark.slow
def test_teardown_has_a_deadline(tmp_path: Path) -> None:
    """A child that hangs in its teardown after scaling down would stay for ever."""
    text = "import time\ndef process(job): pass\ndef teardown(): time.sleep(600)\n"

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, text), size=2) as caller:
            await caller.pool.resize(1)

            async def is_alone() -> bool:
                return len(caller.pool.pids) == 1

            await wait_until_async(is_alone)

    run_async(main())


def test_memory_that_every_job_needs_is_not_faulted_in_anew(tmp_path: Path) -> None:
    """An image a job: to have its pages zeroed anew costs as much as to decode it."""
    text = """
import resource

def process(job):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"x") * 1_500_000 for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, text)) as caller:
            faults = [await caller.value({}) for _ in range(4)]
            assert min(faults) < faults[0] / 4

    run_async(main())
