"""Children that do not get to what they were sent: others do it, and nobody is lost for good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import ChildStartFailed, JobCancelled
from sandboxq.model.outcome import Completed
from sandboxq.pool.children.zygote_client import ZygoteClient
from sandboxq.sandbox.processes import children_of
from sandboxq.sandbox.support import OF_A_CHILD
from tests.conftest import Gate, run_async, wait_until, wait_until_async
from tests.pool.caller import Caller, open_descriptors, open_pool, processor_file, stat_fields

if TYPE_CHECKING:
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Call

_CHORES = """
import os, sys, time

def process(job):
    data = job.data
    if "fork" in data:
        if os.fork() == 0 and data["fork"] == "raise": raise ValueError("in the fork")
        time.sleep(0.2)
    if data.get("stdout"): sys.stdout = open(os.devnull, "w")
    if data.get("print"): print(data["print"])
    while "until" in data and not os.path.exists(data["until"]): time.sleep(0.01)
    time.sleep(data.get("sleep", 0))
    return os.getpid()
"""
_ASYNC_CHORES = """
import asyncio, time

async def process(job):
    time.sleep(job.data.get("block", 0))
    await asyncio.sleep(job.data.get("sleep", 0))
    return job.data.get("value")
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor."""
    return processor_file(tmp_path, _CHORES)


def test_call_for_a_child_that_is_stopped_goes_to_another(chores: Path) -> None:
    """A stopped process does nothing and does not die; what it was sent must not wait for it."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            stopped, other = caller.pool.pids
            os.kill(stopped, signal.SIGSTOP)
            wait_until(lambda: stat_fields(stopped)[0] == "T")
            try:
                values = [await caller.value({}) for _ in range(6)]
            finally:
                os.kill(stopped, signal.SIGCONT)
            assert set(values) == {other}
            # It is as good as new once it goes on.
            await wait_until_async(lambda: _both_work(caller, {stopped, other}))

    run_async(main())


async def _both_work(caller: Caller, pids: set[int]) -> bool:
    calls = [caller.submit({"sleep": 0.05}) for _ in pids]
    outcomes = [await caller.outcome(call) for call in calls]
    return {int(each.value) for each in outcomes if isinstance(each, Completed)} == pids


def test_calls_for_a_blocked_loop_go_to_others(tmp_path: Path) -> None:
    """An `async def` that computes blocks its loop; the free seats in that child are none."""
    path = processor_file(tmp_path, _ASYNC_CHORES)

    async def main() -> None:
        async with open_pool(path, size=2, concurrency=10) as caller:
            await caller.value({})
            blocking = caller.submit({"block": 60})
            for _ in range(5):
                calls = [caller.submit({"sleep": 0.01}) for _ in range(4)]
                for call in calls:
                    await caller.outcome(call)
            assert blocking.key not in caller.outcomes
            caller.pool.end_call(blocking, JobCancelled("enough"))

    run_async(main())


def test_loop_that_goes_on_takes_calls_again(tmp_path: Path) -> None:
    """A child whose loop was blocked for a moment has its seats back before its job ends."""
    path = processor_file(tmp_path, _ASYNC_CHORES)

    async def main() -> None:
        async with open_pool(path, size=1, concurrency=10) as caller:
            first = caller.submit({"block": 0.4, "sleep": 60})
            await caller.until_begun(first)
            assert await caller.value({"value": 7}) == 7
            assert first.key not in caller.outcomes
            caller.pool.end_call(first, JobCancelled("enough"))

    run_async(main())


def test_nothing_is_kept_ready_while_all_children_are_at_long_jobs(
    chores: Path, tmp_path: Path
) -> None:
    """What is claimed ahead and handed back must not be claimed by the same worker again."""
    gate = Gate(tmp_path)

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            while caller.pool.room() <= 10:  # on a busy machine jobs seem long for a while
                await caller.run({})
            long = [caller.submit({"until": gate.path}) for _ in range(2)]
            behind = [caller.submit({}) for _ in range(10)]
            await asyncio.sleep(0.3)  # by then they are long
            assert caller.pool.room() == 0
            assert caller.pool.take_back() == behind
            assert caller.pool.room() == 0
            gate.open()
            for call in long:
                await caller.outcome(call)
            assert caller.pool.room() > 0

    run_async(main())


@pytest.mark.parametrize("kind", ["return", "raise"])
def test_forks_of_a_job_answer_nothing(chores: Path, kind: str) -> None:
    """A fork that returns into the child would answer for it, then take the jobs of others."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            pid = caller.pool.pids[0]
            assert await caller.value({"fork": kind}) == pid
            assert [await caller.value({}) for _ in range(6)] == [pid] * 6

    run_async(main())


def test_replaced_stdout_is_the_next_jobs_own_again(chores: Path) -> None:
    """One job's `sys.stdout = …` must not swallow what all later jobs print."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            await caller.value({"stdout": True, "print": "unseen"})
            await caller.value({"print": "seen"})
            assert [line for _, _, line in caller.lines] == ["seen"]

    run_async(main())


def test_too_few_descriptors_fail_the_growth_and_nothing_else(chores: Path) -> None:
    """`scale 40` under `ulimit -Hn` must not cost the children that work, nor leak."""
    code = "import sys; from tests.pool.test_stuck import grow_too_far; grow_too_far(sys.argv[1])"
    command = [sys.executable, "-c", code, str(chores)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def grow_too_far(chores: str) -> None:
    """Let a pool grow beyond the hard limit, in a process that may lower its own."""

    async def main() -> None:
        async with open_pool(Path(chores), size=2) as caller:
            before = len(open_descriptors())
            limit = _number_open() + 3 * OF_A_CHILD
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            with pytest.raises(ChildStartFailed, match="children more need"):
                await caller.pool.resize(40)
            assert await caller.value({}) in caller.pool.pids
            # Who dies while nothing can be opened has a successor as soon as it can.
            others = _open_all()
            os.kill(caller.pool.pids[0], signal.SIGKILL)
            await wait_until_async(lambda: _has_children(caller.pool, 1))
            assert await caller.value({}) in caller.pool.pids
            for each in others:
                os.close(each)
            await wait_until_async(lambda: _has_children(caller.pool, 2))
            # What a leaving child used is closed when its death has been told; a leak stays.
            await wait_until_async(lambda: _has_descriptors(before))

    run_async(main())


def _number_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _open_all() -> list[int]:
    """Open as many files as this process may."""
    opened = []
    with contextlib.suppress(OSError):
        while True:
            opened.append(os.dup(0))
    return opened


async def _has_descriptors(most: int) -> bool:
    return len(open_descriptors()) <= most


async def _has_children(pool: Any, number: int) -> bool:
    return len(pool.pids) == number


def test_fork_server_killed_while_it_restarts_leaves_one(tmp_path: Path) -> None:
    """Each death of a successor must start one more, not one more for each that waits."""
    slow = tmp_path / "slow"
    text = f"import os, time\nif os.path.exists({str(slow)!r}): time.sleep(0.5)\n{_CHORES}"
    path = processor_file(tmp_path, text)

    async def main() -> None:
        async with open_pool(path, size=2) as caller:
            slow.touch()
            source_supervisor = caller.pool.supervisor.source_supervisor
            assert isinstance(source_supervisor.server, ZygoteClient)
            first = source_supervisor.server.pid
            os.kill(first, signal.SIGKILL)
            second = await wait_until_async(lambda: _importing({first}))
            os.kill(second, signal.SIGKILL)
            third = await wait_until_async(lambda: _importing({first, second}))
            await wait_until_async(lambda: _has_children(caller.pool, 2))
            await caller.value({})
            await asyncio.sleep(1.0)  # long enough for a second successor to be up
            spares = set(children_of(third)) - set(caller.pool.pids)  # one, forked in advance
            assert len(spares) <= 1
            assert _zygotes() == {third, *spares, *caller.pool.pids}

    run_async(main())


def _zygotes() -> set[int]:
    from sandboxq.sandbox.processes import descendants_of

    found = set()
    for pid in descendants_of(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"pool.children.zygote" in command:
            found.add(pid)
    return found


async def _importing(known: set[int]) -> int | None:
    return next(iter(_zygotes() - known), None) if len(_zygotes() - known) == 1 else None


async def _reader_of(caller: Caller, call: Call) -> Child:
    """Return the child that has read some of a call of 12 MB; more is sent in each turn."""
    for _ in range(1_000_000):
        for child in caller.pool.supervisor.children:
            if call.seq in child.flying and 0 < child.channel.backlog() < 11 << 20:
                return child
        await asyncio.sleep(0)
    message = "nobody reads it"
    raise AssertionError(message)


async def _has_read(child: Child, left: int) -> bool:
    """Tell whether less than that is left for a child."""
    return child.channel.backlog() < left


@pytest.mark.parametrize("timeout", [None, 0.3])
def test_a_long_call_that_is_read_slowly_stays_with_its_child(
    tmp_path: Path, timeout: float | None
) -> None:
    """On a loaded machine, here by stops: another child would begin anew, and so for ever."""
    source = "import os\ndef process(job): return [os.getpid(), len(job.data)]"

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, source), size=2) as caller:
            await caller.value("ready")
            call = caller.submit("x" * (12 << 20), timeout=timeout)
            holder = await _reader_of(caller, call)
            began = time.monotonic()
            while holder.channel.backlog() and time.monotonic() < began + 2.5:
                left = holder.channel.backlog()
                os.kill(holder.pid, signal.SIGSTOP)
                await asyncio.sleep(0.15)  # longer than an idle child may be silent
                os.kill(holder.pid, signal.SIGCONT)
                await wait_until_async(partial(_has_read, holder, left))
                assert not caller.pool.take_back(waiting_longer_than=1.0)
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed), outcome
            assert outcome.value == b"[%d,%d]" % (holder.pid, 12 << 20)

    run_async(main())
