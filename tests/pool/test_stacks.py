"""Where running jobs are: read from outside, whatever they do, and they go on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.child.stacks import STACKS_SIGNAL
from sandboxq.model.outcome import Completed
from sandboxq.pool import stacks as py_spy
from sandboxq.pool.kinds import this_interpreter
from sandboxq.pool.stacks import Stacks, read_stacks
from tests.conftest import SOON, run_async, wait_until, wait_until_async
from tests.pool.caller import Caller, open_pool, processor_file, stat_fields

if TYPE_CHECKING:
    from pathlib import Path

_CHORES = """
import ctypes, os, signal, sys, threading, time

def hold(end):
    libc = ctypes.PyDLL(None)  # keeps the GIL
    while time.monotonic() < end:
        libc.usleep(100_000)

def compute(end):
    while time.monotonic() < end:
        pass

def start_thread(end):
    thread = threading.Thread(target=compute, args=(end,))
    thread.start()
    thread.join()

def be_deaf(end):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMAX])
    compute(end)

def nap(end):
    time.sleep(end - time.monotonic())

def replace_program(end):
    os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(30)"])

def process(job):
    end = time.monotonic() + job.data["seconds"]
    globals()[job.data["do"]](end)
    return time.monotonic() - end >= 0
"""
_ASYNC_CHORES = """
import asyncio, time

async def deep(seconds):
    await asyncio.sleep(seconds)

async def alone(seconds):
    await deep(seconds)

async def together(seconds):
    await asyncio.gather(deep(seconds), deep(seconds))

async def block(seconds):
    time.sleep(seconds)

async def process(job):
    await globals()[job.data["do"]](job.data["seconds"])
    return True
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor."""
    return processor_file(tmp_path, _CHORES)


@pytest.fixture
def async_chores(tmp_path: Path) -> Path:
    """Return the path of an async processor."""
    return processor_file(tmp_path, _ASYNC_CHORES, "async_chores.py")


async def begun(caller: Caller, count: int) -> None:
    """Wait until so many jobs run, and have got into their code."""

    async def all_run() -> bool:
        return sum(len(child.running_calls()) for child in caller.pool.supervisor.children) == count

    await wait_until_async(all_run)
    await asyncio.sleep(0.1)


async def stacks_of(caller: Caller) -> Stacks:
    """Return the stacks of the only child, which must come in time."""
    started = time.monotonic()
    stacks = await read_stacks(caller.pool.supervisor.children[0])
    assert time.monotonic() - started < SOON
    return stacks


@pytest.mark.parametrize("policy", ["none", "strict"])
@pytest.mark.parametrize("where", ["hold", "compute", "nap"])
def test_a_job_goes_on_after_it_was_looked_at(chores: Path, where: str, policy: str) -> None:
    """In C with the GIL, in Python, in a sleep: the stack ends in the processor, nothing breaks."""

    async def main() -> None:
        async with open_pool(chores, policy=policy) as caller:
            call = caller.submit({"do": where, "seconds": 0.6})
            await begun(caller, 1)
            for _ in range(2):
                stacks = await stacks_of(caller)
                lines = stacks.of(call.seq).splitlines()
                assert stacks.source == "signal handler"
                assert lines[0].endswith(f" in {where}")
                assert lines[-1].endswith(" in process")
                assert str(chores) in lines[0]
            assert await caller.outcome(call) == Completed(b"true")

    run_async(main())


def test_threads_of_a_job_are_shown(chores: Path) -> None:
    """The main thread only waits: what it waits for is what one wants to see."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            call = caller.submit({"do": "start_thread", "seconds": 1})
            await begun(caller, 1)
            text = (await stacks_of(caller)).of(call.seq)
            # Without a GIL the others change their stacks while they are read.
            assert (" in compute" in text) == this_interpreter().has_gil
            assert " in start_thread" in text
            assert "sandboxq/child" not in text
            await caller.outcome(call)

    run_async(main())


def test_each_job_of_an_event_loop_has_its_own_stack(async_chores: Path) -> None:
    """One thread has only one stack; what a user asks for is where this job waits."""

    async def main() -> None:
        async with open_pool(async_chores, concurrency=3) as caller:
            alone = caller.submit({"do": "alone", "seconds": 1})
            await begun(caller, 1)
            lines = (await stacks_of(caller)).of(alone.seq).splitlines()
            names = [line.rsplit(" ", 1)[1] for line in lines]
            assert names == ["sleep", "deep", "alone", "process"]
            together = caller.submit({"do": "together", "seconds": 1})
            await begun(caller, 2)
            stacks = await stacks_of(caller)
            assert set(stacks.by_call) == {alone.seq, together.seq}
            assert stacks.source == "event loop"
            text = stacks.of(together.seq)
            assert text.startswith(f'  File "{async_chores}", line 11 in together')
            assert text.count(" in deep") == 2
            assert "Task" not in stacks.of(alone.seq)
            await caller.outcome(together)

    run_async(main())


def test_a_blocked_event_loop_is_shown_by_its_thread(async_chores: Path) -> None:
    """It answers nothing; where it is blocked is what one looks for. Its late answer is dropped."""

    async def main() -> None:
        async with open_pool(async_chores, concurrency=3) as caller:
            waiting = caller.submit({"do": "alone", "seconds": 2})
            await begun(caller, 1)
            blocking = caller.submit({"do": "block", "seconds": 1})
            await begun(caller, 2)
            stacks = await stacks_of(caller)
            assert "blocked" in stacks.note
            names = [line.rsplit(" ", 1)[1] for line in stacks.of(waiting.seq).splitlines()]
            assert names == ["block", "process"]
            await caller.outcome(blocking)
            assert (await stacks_of(caller)).source == "event loop"
            await caller.outcome(waiting)

    run_async(main())


def test_a_program_in_its_place_is_not_signalled(chores: Path) -> None:
    """The signal would end a process that no longer has the handler."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            caller.submit({"do": "replace_program", "seconds": 0})
            await begun(caller, 1)
            pid = caller.pool.pids[0]
            await asyncio.to_thread(wait_until, lambda: b"-S" in _command_line(pid))
            stacks = await stacks_of(caller)
            assert "does not answer" in stacks.note
            assert stat_fields(pid)

    run_async(main())


def _command_line(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - a file of the kernel
        return file.read()


@pytest.mark.parametrize("where", ["stopped", "be_deaf"])
def test_what_does_not_answer_is_read_from_outside(chores: Path, where: str) -> None:
    """Stopped, or with the signal blocked: py-spy where it is, else it is said what is missing."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            is_stopped = where == "stopped"
            call = caller.submit({"do": "compute" if is_stopped else where, "seconds": 2})
            await begun(caller, 1)
            pid = caller.pool.pids[0]
            if is_stopped:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.to_thread(wait_until, lambda: stat_fields(pid)[0] == "T")
            stacks = await stacks_of(caller)
            assert "does not answer" in stacks.note
            if is_stopped:
                assert "T (stopped)" in stacks.note
            if stacks.source == "py-spy":
                assert "compute" in stacks.of(call.seq)
            else:
                assert py_spy.find_py_spy() is None or "could not" in stacks.note
                assert "py-spy" in stacks.note
            os.kill(pid, signal.SIGCONT)
            await caller.outcome(call)

    run_async(main())


def test_no_child_is_ended_by_being_asked_often(chores: Path) -> None:
    """Looking is harmless at every moment of a child's life, between jobs too."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            pids = caller.pool.pids
            for _ in range(30):
                call = caller.submit({"do": "compute", "seconds": 0.005})
                os.kill(pids[0], STACKS_SIGNAL)
                await asyncio.gather(stacks_of(caller), stacks_of(caller))
                await caller.outcome(call)
            assert caller.pool.pids == pids

    run_async(main())
