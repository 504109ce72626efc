"""Reads where the jobs of a child are, without stopping or ending them.

event loop ──STACKS, one a job──► (async def, while it is not blocked)
process ────STACKS_SIGNAL───────► faulthandler, in C, writes to the child's StackPage
py-spy ─────────────────────────► reads the memory of what answers neither

The StackPage (transport/arena.py) is memory that the child writes and the coordinator reads.
Whether the handler runs, /proc/PID/status says (man 5 proc).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import sandboxq
from sandboxq.child.stacks import STACKS_SIGNAL
from sandboxq.sandbox.processes import is_caught

if TYPE_CHECKING:
    import threading

    from sandboxq.pool.children.child import Child

# A loop that has not answered by then is blocked; together with py-spy's time below two seconds.
_LOOP_SECONDS = 0.3
_SIGNAL_SECONDS = 0.5
_LOOK_SECONDS = 0.002

# What calls the processor.
_FOLDER = Path(sandboxq.__file__).parent / "child"
_CALLERS = tuple(f'  File "{_FOLDER / name}"' for name in ("loop.py", "async_loop.py", "steps.py"))
_PY_SPY_SECONDS = 1.0


class Stacks(NamedTuple):
    """The stacks of a child: by call, or of its process; ``note`` is a remark for people."""

    by_call: dict[int, str]
    whole: str = ""
    source: str = ""
    note: str = ""

    def of(self, seq: int) -> str:
        """Return the stack of a call, or the one of its process."""
        return self.by_call.get(seq, self.whole)


async def read_stacks(child: Child) -> Stacks:
    """Return the stacks of a child, within two seconds; its jobs go on."""
    async with child.page.turn:
        note = ""
        if child.is_async:
            told = await _from_loop(child)
            if told is not None:
                return Stacks(told, source="event loop")
            note = "the event loop is blocked; this is what its thread does"
        text = child.own_stack()
        if text:
            return Stacks({}, without_ours(text) or "  between two jobs", "thread", note)
        text = await _from_handler(child)
        if text:
            return Stacks({}, text, "signal handler", note)
        return await _from_outside(child)


async def read_main_stack(child: Child) -> str:
    """Return the stack of a child whose event loop is blocked; empty where it cannot be read."""
    async with child.page.turn:
        return await _from_handler(child)


def stack_of_thread(thread: threading.Thread) -> str:
    """Return the stack of a thread of this interpreter, in the form of faulthandler; or nothing."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way
    if frame is None:
        return ""
    lines = [f"Thread {thread.name}:"]
    while frame is not None:
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
        frame = frame.f_back
    return "\n".join(lines)


async def _from_loop(child: Child) -> dict[int, str] | None:
    """Return the stacks of a child's tasks, or None when its event loop does not answer."""
    told: dict[int, str] = {}
    has_ended = asyncio.Event()

    def take(seq: int, payload: bytes) -> None:
        if seq in child.flying:
            told[seq] = payload.decode("utf-8", "replace")
        elif not seq:
            has_ended.set()

    child.on_stacks = take
    child.ask_for_stacks()
    try:
        async with asyncio.timeout(_LOOP_SECONDS):
            await has_ended.wait()
    except TimeoutError:
        return None
    finally:
        child.on_stacks = None
    return told


async def _from_handler(child: Child) -> str:
    """Return what a child's signal handler writes; nothing when it has none, or does not run."""
    if not is_caught(child.pid, STACKS_SIGNAL):
        return ""  # the signal would end it: it has replaced its program
    deaf = threads_that_block(child.pid, STACKS_SIGNAL)
    child.page.restart()
    child.signal(STACKS_SIGNAL)
    clock = asyncio.get_running_loop().time
    deadline = clock() + _SIGNAL_SECONDS
    while clock() < deadline:
        await asyncio.sleep(_LOOK_SECONDS)
        if child.page.fd >= 0 and child.page.size() and not _is_at_it(child.pid, deaf):
            break
    if child.page.fd < 0 or not child.page.size():
        return ""
    return without_ours(child.page.text()) or "  between two jobs"


def _is_at_it(pid: int, deaf: set[str]) -> bool:
    return is_pending(pid, STACKS_SIGNAL) or bool(threads_that_block(pid, STACKS_SIGNAL) - deaf)


async def _from_outside(child: Child) -> Stacks:
    state = state_of(child.pid)
    if not state:
        return Stacks({}, note="it has just ended")
    note = f"the child does not answer; its state is {state}"
    program = find_py_spy()
    if program is None:
        return Stacks({}, note=f"{note}; py-spy is not installed here")
    text = await read_by_py_spy(program, child.pid)
    if not text:
        return Stacks({}, note=f"{note}; py-spy could not read it")
    return Stacks({}, text, "py-spy", note)


def without_ours(text: str) -> str:
    """Return the stacks without the outermost frames of the main thread, which are sandboxq's."""
    lines: list[str] = []
    is_ours = False
    for line in filter(None, text.splitlines()):
        if not line.startswith("  "):
            is_ours = False  # the next thread begins
        elif line.startswith(_CALLERS):
            is_ours = True
        if not is_ours:
            lines.append(line)
    is_alone = sum(not line.startswith("  ") for line in lines) == 1
    return "\n".join(lines[1:] if is_alone else lines)


def threads_that_block(pid: int, number: int) -> set[str]:
    """Return the threads that keep a signal out; one does so while it handles it."""
    tasks = _tasks(pid)
    return {task.name for task in tasks if _has(_status(task / "status"), "SigBlk", number)}


def is_pending(pid: int, number: int) -> bool:
    """Tell whether a process has not begun to handle a signal that it was sent."""
    return _has(_status(Path(f"/proc/{pid}/status")), "ShdPnd", number)


def state_of(pid: int) -> str:
    """Return what a process does, in the kernel's words: ``T (stopped)``; empty when it is gone."""
    return _status(Path(f"/proc/{pid}/status")).get("State", "")


def _has(status: dict[str, str], name: str, number: int) -> bool:
    return bool(int(status.get(name, "0"), 16) >> (number - 1) & 1)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _status(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def find_py_spy() -> str | None:
    """Return the path of the program, beside this interpreter or on the path."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which("py-spy", path=os.pathsep.join(folders))


async def read_by_py_spy(program: str, pid: int) -> str:
    """Return the stacks of a process, which is not stopped for it; empty when they cannot be read.

    The kernel refuses where ptrace_scope is 1 or more and this user is not root.
    """
    command = [program, "dump", "--nonblocking", "--pid", str(pid)]
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            check=False,
            env={},  # no password of Redis
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_PY_SPY_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.rstrip() if done.returncode == 0 else ""
