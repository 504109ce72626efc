"""Children that die, one way or another: one death costs one job, and never more."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Policy
from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed, Interrupted
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool.kinds import this_interpreter
from sandboxq.pool.pool import Call, Pool
from sandboxq.sandbox.processes import children_of
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import Caller, lives, open_pool, processor_file, stat_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path


_CHORES = """
import ctypes, os, signal, subprocess, time

def process(job):
    match job.data:
        case {"exit": code}: os._exit(code)
        case {"segv": _}: ctypes.string_at(0)
        case {"kill": number}: os.kill(os.getpid(), number); time.sleep(30)
        case {"sleep": seconds}: time.sleep(seconds)
        case {"family": path}: have_family(path); time.sleep(60)
        case {"deaf": path}:
            signal.signal(signal.SIGTERM, signal.SIG_IGN); open(path, "w").close(); time.sleep(60)
        case {"garble": raw}:
            for fd in range(3, 50):
                try:
                    if "socket" in os.readlink(f"/proc/self/fd/{fd}"): os.write(fd, bytes(raw))
                except OSError: pass
            time.sleep(60)
        case {"terminate": _}:
            program = subprocess.Popen(["sleep", "60"]); program.terminate()
            return program.wait(60)
    return os.getpid()

def have_family(path):
    kin = [subprocess.Popen(["sleep", "300"]).pid,
           subprocess.Popen(["sleep", "300"], start_new_session=True).pid]
    r, w = os.pipe()
    if os.fork() == 0:
        os.setsid()
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(300)
        os.write(w, b"%d" % grandchild)
        os._exit(0)
    kin.append(int(os.read(r, 20)))
    with open(path + ".tmp", "w") as file:
        file.write(" ".join(map(str, kin)))
    os.rename(path + ".tmp", path)
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor that knows many ways to die."""
    return processor_file(tmp_path, _CHORES)


async def _started(caller: Caller, call: Call) -> None:
    """Wait until the code of a call has been reached in its child."""
    await caller.until_begun(call)
    assert call.key not in caller.outcomes


@pytest.mark.parametrize(
    ("data", "cause", "text"),
    [
        ({"exit": 7}, "JobExited", "exit code 7"),
        ({"exit": 0}, "JobExited", "exit code 0"),
        ({"segv": 1}, "JobCrashed", "SIGSEGV"),
        ({"kill": 6}, "JobCrashed", "SIGABRT"),
        ({"kill": 9}, "JobCrashed", "killed by SIGKILL"),
    ],
)
def test_death_fails_the_running_job_with_its_cause(
    chores: Path, data: dict[str, int], cause: str, text: str
) -> None:
    """An opaque 'worker died' is what users of every other system complain about."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            pid = await caller.value({})
            failed = await caller.failure(data)
            assert failed.cause == cause
            assert text in failed.reason
            assert str(pid) in failed.reason
            assert failed.facts is not None
            assert failed.facts["pid"] == str(pid)
            assert int(failed.facts["max_rss"]) > 1 << 20
            assert await caller.value({}) != pid

    run_async(main())


def test_crash_shows_where_python_was(chores: Path) -> None:
    """A segmentation fault without a line number cannot be mended."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            failed = await caller.failure({"segv": 1})
            assert "Segmentation fault" in failed.stack
            assert "chores.py" in failed.stack
            assert "sandboxq/" not in failed.stack

    run_async(main())


def test_signals_of_the_terminal_do_not_reach_a_job(chores: Path) -> None:
    """Ctrl-C and systemd signal everything they see; the coordinator alone ends children."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            call = caller.submit({"sleep": 1})
            await _started(caller, call)
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(caller.pool.pids[0], number)
            assert isinstance(await caller.outcome(call), Completed)
            # what the job starts is ended by SIGTERM as ever
            assert await caller.value({"terminate": 1}) == -signal.SIGTERM

    run_async(main())


def test_calls_sent_ahead_of_a_death_are_not_lost_and_not_blamed(chores: Path) -> None:
    """One death costs one job: the others never started."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            for _ in range(60):
                await caller.run({})  # short ones: the pool learns to send ahead
            killer = caller.submit({"kill": 9})
            behind = [caller.submit({}) for _ in range(8)]
            assert isinstance(await caller.outcome(killer), Failed)
            outcomes = [await caller.outcome(call) for call in behind]
            assert all(isinstance(outcome, Completed) for outcome in outcomes)
            assert caller.order[-8:] == [call.key for call in behind]

    run_async(main())


def test_idle_child_that_dies_is_replaced_and_no_job_is_failed(chores: Path) -> None:
    """Node hands a job to a dead free child; here the job waits for the next one."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            pid = await caller.value({})
            for _ in range(40):
                # The call may be read in the same instant: by the kernel, not by the processor.
                os.kill(pid, signal.SIGKILL)
                other = await caller.value({})
                assert other != pid
                pid = other

    run_async(main())


def test_failed_job_is_told_within_milliseconds_of_the_kill(chores: Path) -> None:
    """Until then the job holds a slot and a lock for nothing."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            times = []
            for _ in range(5):
                pid = await caller.value({})
                call = caller.submit({"sleep": 30})
                await _started(caller, call)
                started = time.perf_counter()
                os.kill(pid, signal.SIGKILL)
                assert isinstance(await caller.outcome(call), Failed)
                times.append(time.perf_counter() - started)
            assert sorted(times)[1] < 0.1  # three of them may have met other work on the machine

    run_async(main())


def test_ended_call_takes_its_whole_family_along(chores: Path, tmp_path: Path) -> None:
    """Grandchildren that survive keep the memory and the cores; also those that daemonise."""
    path = tmp_path / "kin"

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            call = caller.submit({"family": str(path)})
            await wait_until_async(_exists(path))
            kin = [int(pid) for pid in path.read_text().split()]
            assert all(lives(pid) for pid in kin)
            caller.pool.end_call(call, JobCancelled("by test"))
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Failed)
            assert (outcome.reason, outcome.cause) == ("by test", "JobCancelled")
            await wait_until_async(_none_lives(kin))

    run_async(main())


def test_sweep_spares_what_living_children_have_daemonised(chores: Path, tmp_path: Path) -> None:
    """The death of one job must not end the helpers of another."""
    path = tmp_path / "kin"

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            call = caller.submit({"family": str(path)})
            await wait_until_async(_exists(path))
            program = int(path.read_text().split()[1])
            for _ in range(3):
                await caller.failure({"exit": 1})
            assert lives(program)
            caller.pool.end_call(call, JobCancelled("enough"))
            await wait_until_async(_none_lives([program]))

    run_async(main())


def test_child_that_is_deaf_to_sigterm_is_killed(chores: Path, tmp_path: Path) -> None:
    """Limits by signals that code can ignore are no limits."""
    path = tmp_path / "deaf"

    async def main() -> None:
        async with open_pool(chores) as caller:
            call = caller.submit({"deaf": str(path)})
            await wait_until_async(_exists(path))
            os.kill(caller.pool.pids[0], signal.SIGTERM)
            caller.pool.end_call(call, JobCancelled("by test"))
            assert isinstance(await caller.outcome(call), Failed)

    run_async(main())


@pytest.mark.parametrize("raw", [[1, 2, 3], [18, *[0] * 7, 61, *[0] * 7, 9]])
def test_child_that_sends_nonsense_is_killed(chores: Path, raw: list[int]) -> None:
    """Code that writes to a wrong descriptor must not confuse the coordinator or lose its job."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            for _ in range(60):
                await caller.run({})
            failed = await caller.failure({"garble": raw})
            assert failed.cause == "JobCrashed"
            assert "no message" in failed.reason
            assert isinstance(await caller.run({}), Completed)

    run_async(main())


def test_ending_a_call_that_was_not_started_spares_the_child(chores: Path) -> None:
    """A cancelled job that waits behind another must not kill that one."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            for _ in range(60):
                await caller.run({})
            first = caller.submit({"sleep": 1})
            await caller.until_begun(first)
            second, third = caller.submit({}), caller.submit({})
            caller.pool.end_call(second, JobCancelled("by test"))
            assert isinstance(caller.outcomes[second.key], Failed)
            assert isinstance(await caller.outcome(first), Completed)
            assert isinstance(await caller.outcome(third), Completed)

    run_async(main())


def test_fork_server_that_dies_is_replaced(chores: Path) -> None:
    """Nobody else can start children; running jobs go back without blame, and it is said why."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            call = caller.submit({"sleep": 30})
            await _started(caller, call)
            zygote = _parent_of(caller.pool.pids[0])
            os.kill(zygote, signal.SIGKILL)
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Interrupted)
            assert outcome.failure.cause == "JobCrashed"
            assert f"zygote {zygote} was killed by SIGKILL" in outcome.failure.reason
            await caller.value({})

            async def is_full() -> bool:
                return len(caller.pool.pids) == 2

            await wait_until_async(is_full)

    run_async(main())


def test_stopped_fork_server_is_sent_on(chores: Path) -> None:
    """A death must be told soon, also when somebody has stopped who knows of it."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            call = caller.submit({"sleep": 30})
            await _started(caller, call)
            child = caller.pool.pids[0]
            os.kill(_parent_of(child), signal.SIGSTOP)
            os.kill(child, signal.SIGKILL)
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Failed)
            assert "SIGKILL" in outcome.reason
            assert await caller.value({}) != child

    run_async(main())


def test_what_a_dead_fork_server_leaves_is_found(chores: Path, tmp_path: Path) -> None:
    """With it the parent of all orphans is gone: they are known by their environment."""
    path = tmp_path / "kin"

    async def main() -> None:
        async with open_pool(chores) as caller:
            call = caller.submit({"family": str(path)})
            await wait_until_async(_exists(path))
            kin = [int(pid) for pid in path.read_text().split()]
            os.kill(_parent_of(caller.pool.pids[0]), signal.SIGKILL)
            assert isinstance(await caller.outcome(call), Interrupted)
            await wait_until_async(_none_lives(kin))
            await caller.value({})

    run_async(main())


def test_jobs_that_always_crash_slow_down_and_recover(chores: Path) -> None:
    """A poison queue must not become a fork bomb."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            started = time.monotonic()
            for _ in range(4):
                await caller.failure({"exit": 1})
            await caller.value({})
            assert time.monotonic() - started > 0.1 + 0.2
            assert caller.pool.supervisor.delay.streak == 0

    run_async(main())


def test_calls_behind_a_stuck_child_go_to_others(chores: Path) -> None:
    """A long job among short ones must not hold up what was sent ahead behind it."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            for _ in range(80):
                await caller.run({})
            assert caller.pool.room() > 10
            stuck = caller.submit({"sleep": 60})
            others = [caller.submit({}) for _ in range(20)]
            for call in others:
                assert isinstance(await caller.outcome(call), Completed)
            assert stuck.key not in caller.outcomes
            caller.pool.end_call(stuck, JobCancelled("enough"))

    run_async(main())


def test_take_back_returns_what_never_started_in_order(chores: Path) -> None:
    """The worker hands these back to the queue at a shutdown, with no attempt used."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            for _ in range(80):
                await caller.run({})
            running = caller.submit({"sleep": 1})
            await caller.until_begun(running)
            calls = [caller.submit({}) for _ in range(50)]
            assert caller.pool.take_back(waiting_longer_than=5) == []
            assert caller.pool.take_back() == calls
            assert caller.pool.held == 1
            assert isinstance(await caller.outcome(running), Completed)
            assert caller.order[-1] == running.key

    run_async(main())


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing(chores: Path) -> None:
    """Every call has one outcome, whatever dies when; no zombie and no descriptor is left."""
    import random

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            calls: list[Call] = []
            for _ in range(200):
                calls += [caller.submit({"sleep": random.random() * 0.002}) for _ in range(40)]
                await asyncio.sleep(0.02)
                if caller.pool.pids:
                    os.kill(random.choice(caller.pool.pids), signal.SIGKILL)
            outcomes = [await caller.outcome(call) for call in calls]
            failed = sum(isinstance(outcome, Failed) for outcome in outcomes)
            assert 0 < failed <= 200
            assert len(outcomes) == 8000

    run_async(main())


def _exists(path: Path) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def check() -> bool:
        return path.exists()  # noqa: ASYNC240 - a condition that is polled

    return check


def _none_lives(pids: list[int]) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def check() -> bool:
        return not any(lives(pid) for pid in pids)

    return check


def _parent_of(pid: int) -> int:
    parent = int(stat_fields(pid)[1])
    assert pid in children_of(parent)
    return parent


@pytest.mark.skipif(
    not this_interpreter().has_gil, reason="without the GIL CPython reserves a gigabyte by itself"
)
def test_limits_are_in_force_until_the_last_child_is_gone(tmp_path: Path) -> None:
    """Also while a pool stops, and lets its jobs finish."""
    path = processor_file(
        tmp_path,
        """
import mmap, os, time

def process(job):
    while os.path.exists(job.data): time.sleep(0.01)
    memory = mmap.mmap(-1, 600 << 20)  # shared: no limit of the kernel's for a process
    for at in range(0, len(memory), 4096): memory[at] = 1
    time.sleep(30)
""",
    )
    gate = tmp_path / "gate"
    gate.touch()

    async def main() -> None:
        policy = Policy("limits", memory=100 << 20)
        async with open_pool(path, policy=policy) as caller:
            call = caller.submit(str(gate))
            await caller.until_begun(call)
            stopping = asyncio.create_task(caller.pool.stop(timeout=20))
            await asyncio.sleep(0)
            gate.unlink()
            failed = await caller.outcome(call)
            assert isinstance(failed, Failed), failed
            assert failed.cause == "JobMemoryExceeded"
            await stopping

    run_async(main())


class _Refusing(Caller):
    """Takes one report, wants no more for now, and cannot take the second."""

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Fail, as a program around a pool may."""
        if payload == b"second":
            message = f"no {kind} is wanted of {call.key!r}"
            raise LookupError(message)
        super().on_report(call, kind, payload)

    def wants_reports(self) -> bool:
        """Say no: what comes next is read when the child is dead."""
        return False


def test_last_words_that_nobody_can_take(tmp_path: Path) -> None:
    """The call of the dead child ends all the same."""
    gate = tmp_path / "gate"
    path = processor_file(
        tmp_path,
        """
import os, time

def process(job):
    job.log("first")
    while not os.path.exists(job.data): time.sleep(0.001)
    job.log("second")
    os._exit(3)
""",
    )

    async def main() -> None:
        caller, telemetry = _Refusing(), Telemetry()
        caller.pool = Pool(
            str(path), size=1, listener=caller, queue_name="tests", telemetry=telemetry
        )
        await caller.pool.start(30)
        call = caller.submit(str(gate))
        await wait_until_async(lambda: _has_reported(caller))
        gate.touch()
        failed = await caller.outcome(call)
        assert isinstance(failed, Failed)
        assert failed.cause == "JobExited"
        await caller.pool.stop(timeout=5)

    run_async(main())


async def _has_reported(caller: Caller) -> bool:
    return bool(caller.reports)
