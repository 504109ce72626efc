"""The outcome of a call: from what its child answered, or from how its child died.

A value needs no more than its bytes: it stays in the arena of its child until it is stored.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.child import frames
from sandboxq.child.frames import (
    OUT_OF_MEMORY,
    UNRECOVERABLE,
    decode_blob,
    decode_failure,
    decode_move,
)
from sandboxq.errors import (
    ChildError,
    JobCancelled,
    JobCrashed,
    JobExited,
    JobMemoryExceeded,
    JobProcessesExceeded,
    JobScratchExceeded,
    SandboxViolation,
)
from sandboxq.model.outcome import (
    ChildrenAwaited,
    Completed,
    Failed,
    HandedBack,
    Postponed,
    RateLimited,
)
from sandboxq.pool.breach import Breach

if TYPE_CHECKING:
    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.transport.arena import Arena, ResultBlob

_MB = 1 << 20
# Of the reasons for which we end children, those for which the job is to blame as for a crash.
_CRASHES = (
    *(JobCrashed, JobMemoryExceeded, JobProcessesExceeded, JobScratchExceeded),
    SandboxViolation,
)
# The first line of what faulthandler writes when a signal ends Python.
_FATAL = "Fatal Python error"
_OUR_FOLDER = str(Path(__file__).parents[2])


@dataclass(slots=True)
class Unstored(Completed):
    """A value whose arrays and bytes are still in the arena of the child that returned it."""

    blob: ResultBlob | None = None
    table: str = ""


def completed_from_frame(payload: bytes, arena: Arena, *, most: int) -> Unstored | None:
    """Return the value in a DONE with HAS_BLOB; None when it is larger than ``most`` bytes.

    Raises: struct.error when it is no such frame, Breach when the value cannot be there.
    """
    place, value = decode_blob(payload)
    if place.size > most:
        return None
    blob = arena.result(place.offset, place.size)
    if blob is None:
        message = "referred to a value outside of its shared memory"
        raise Breach(message)
    return Unstored(value, blob=blob, table=place.table.decode("utf-8", "replace"))


def failure_from_frame(
    payload: bytes, flags: int, *, pid: int, memory: int | None, peak: int
) -> Failed:
    """Return the failure in a FAILED of a child with this grant and this peak of memory."""
    reason, stack, cause = decode_failure(payload)
    facts = None
    if flags & OUT_OF_MEMORY:
        facts = {"pid": str(pid), "limit": str(memory), "peak": str(peak)}
    is_final = bool(flags & UNRECOVERABLE)
    is_crash = bool(flags & OUT_OF_MEMORY)  # its child leaves after it
    return Failed(reason, stack, cause, is_unrecoverable=is_final, facts=facts, is_crash=is_crash)


def move_from_frame(payload: bytes, detail: int) -> Outcome:
    """Return where the job goes by a MOVE."""
    duration_ms = decode_move(payload)
    match detail:
        case frames.TO_DELAYED:
            return Postponed(duration_ms)
        case frames.TO_WAITING_CHILDREN:
            return ChildrenAwaited()
        case frames.TO_RATE_LIMIT:
            return RateLimited(duration_ms)
        case _:
            return HandedBack(was_started=True)


class Death(NamedTuple):
    """How a child ended. ``status`` is as from wait(2), None when nobody was left to ask.

    ``max_rss`` is bytes, ``user`` and ``system`` seconds of CPU, ``note`` a cause that lies outside
    the child. ``is_abandoned``: a thread that did not end, and nobody can end; its code may go on.
    """

    status: int | None = None
    max_rss: int = 0
    user: float = 0.0
    system: float = 0.0
    note: str = ""
    is_abandoned: bool = False
    memory_limit: int = 0  # what the kernel ended this one for, if it did
    is_limit_of_all: bool = False  # of all children together, or of this one


def text_of_status(status: int | None) -> str:
    """Return how a process ended: ``was killed by SIGSEGV``, ``left with exit code 3``."""
    if status is None:
        return "ended in an unknown way"
    if os.WIFSIGNALED(status):
        return f"was killed by {_signal_name(os.WTERMSIG(status))}"
    return f"left with exit code {os.waitstatus_to_exitcode(status)}"


def text_of_failed_start(death: Death, *, pid: int, reason: str, stderr: str) -> str:
    """Return why a child was never ready: its own ``reason``, or else what it wrote last."""
    why = reason or death.note or f"it {text_of_status(death.status)}"
    text = f"child {pid} ended before it was ready: {why}"
    return text if reason or not stderr else f"{text}\n{stderr}"


def failure_from_death(death: Death, *, pid: int, error: ChildError | None, stderr: str) -> Failed:
    """Return the failure of a job whose child died.

    ``error`` is why we ended it ourselves, if we did; ``stderr`` the last that it wrote there.
    """
    facts = {
        "pid": str(pid),
        "max_rss": str(death.max_rss),
        "cpu_seconds": f"{death.user + death.system:.3f}",
    }
    error = error or _out_of_memory(death, pid)
    if error is not None:
        failure = failure_from_error(error, facts=facts)
        failure.is_crash = isinstance(error, _CRASHES)
        return failure
    status = death.status
    if status is not None and not os.WIFSIGNALED(status):
        facts["exit_code"] = str(os.waitstatus_to_exitcode(status))
        cause = JobExited.__name__
    else:
        if status is not None:
            facts["signal"] = _signal_name(os.WTERMSIG(status))
        cause = JobCrashed.__name__
    stack = _fatal_part(stderr)
    return Failed(_sentence(death, pid), stack=stack, cause=cause, facts=facts, is_crash=True)


def _out_of_memory(death: Death, pid: int) -> JobMemoryExceeded | None:
    """Return what the kernel ended a child for; None when it did not."""
    if not death.memory_limit:
        return None
    users = "all children together" if death.is_limit_of_all else "it and all it has started"
    error = JobMemoryExceeded(
        f"the kernel ended child {pid}: {users} used more than the limit of their control group, "
        f"{death.memory_limit // _MB} MB, with files in memory, pipes and sockets; its process had "
        f"{death.max_rss // _MB} MB"
    )
    error.facts = {"limit": str(death.memory_limit), "peak": str(death.max_rss)}
    return error


def failure_from_abandoned(error: ChildError | None, *, pid: int) -> Failed:
    """Return the failure of a job whose thread goes on; ``error`` None: another job was ended.

    It is final: the next attempt would run beside this one.
    """
    why = error or JobCrashed("another job in the same thread did not end when it was told to")
    failure = failure_from_error(why, facts={"pid": str(pid), "end": "abandoned"})
    failure.facts = {**(failure.facts or {}), "end": "abandoned"}
    failure.reason += (
        f"; thread {pid} cannot be killed and was given up: as the job's code may still run there, "
        "the job is not tried again"
    )
    failure.is_unrecoverable = True
    return failure


def failure_from_error(error: ChildError, *, facts: dict[str, str] | None = None) -> Failed:
    """Return the failure of a job that was ended for ``error``."""
    facts = {**(facts or {}), **(error.facts or {})}
    return Failed(str(error), cause=type(error).__name__, facts=facts or None)


def failure_from_ending(error: ChildError, outcome: Outcome) -> Failed:
    """Return how a job failed that was told to end; one that was cancelled is not tried again."""
    failure = failure_from_error(error)
    failure.is_unrecoverable = isinstance(error, JobCancelled)
    if isinstance(outcome, Failed):
        failure.stack = outcome.stack
        failure.facts = {**(outcome.facts or {}), **(failure.facts or {})} or None
    return failure


def _sentence(death: Death, pid: int) -> str:
    text = f"child {pid} {text_of_status(death.status)} while it ran this job"
    facts = [f"max RSS {death.max_rss // _MB} MB"] if death.max_rss else []
    if death.note:
        facts.append(death.note)
    elif death.status is not None and is_kill(death.status):
        facts.append("not by sandboxq: perhaps by the kernel, which was out of memory")
    return f"{text} ({'; '.join(facts)})" if facts else text


def is_kill(status: int) -> bool:
    """Tell whether a wait status is of SIGKILL."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _fatal_part(stderr: str) -> str:
    """Return what faulthandler wrote, without the frames of this package."""
    start = stderr.find(_FATAL)
    if start < 0:
        return ""
    return "\n".join(line for line in stderr[start:].splitlines() if not _is_our_frame(line))


def _is_our_frame(line: str) -> bool:
    return line.startswith((f'  File "{_OUR_FOLDER}', '  File "<string>"'))
