"""What a processor raised, as text. Nothing that an exception does can end the child here.

The names of an exception's classes, whatever their metaclass makes of names.

What a policy has to do with an error of a job, said to whoever reads it.

A processor may also raise to have its job moved, instead of ending it: that is told here too.
"""

from __future__ import annotations

import errno
import importlib
import os
import resource
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.child import by_path
from sandboxq.child.frames import (
    LONGEST_MS,
    OUT_OF_MEMORY,
    TO_DELAYED,
    TO_RATE_LIMIT,
    TO_WAIT,
    TO_WAITING_CHILDREN,
    TOO_LARGE,
    UNRECOVERABLE,
)
from sandboxq.errors import (
    DelayedError,
    RateLimitError,
    ResultTooLarge,
    SandboxViolation,
    UsageError,
)
from sandboxq.model.job_limits import DEFAULT_BUDGETS

if TYPE_CHECKING:
    from types import TracebackType

    from sandboxq.model.job_limits import Budgets

# Redis keeps these with the job, and dashboards show them whole: of a reason a part of this.
_REASON_SHARE = 4

_OUR_FOLDER = f"{PurePath(__file__).parent.parent}{os.sep}"
_IMPORT_FRAMES = ("<frozen importlib", str(importlib.__file__))

_mro_of = type.__dict__["__mro__"].__get__
_name_of = type.__dict__["__name__"].__get__
_MB = 1 << 20

# By the names of classes: a processor may define its own, so that it needs no sandboxq.
_TARGETS = {
    "DelayedError": TO_DELAYED,
    "WaitingError": TO_WAIT,
    "WaitingChildrenError": TO_WAITING_CHILDREN,
    "RateLimitError": TO_RATE_LIMIT,
}
_TIMED: dict[int, type[DelayedError | RateLimitError]] = {
    TO_DELAYED: DelayedError,
    TO_RATE_LIMIT: RateLimitError,
}


class Failure(NamedTuple):
    """Why an attempt failed, the trace of the user's frames, the class, and flags of ``frames``."""

    reason: str
    stack: str
    cause: str
    flags: int = 0


def failure_from(
    error: BaseException,
    *,
    memory: int | None = None,
    policy: str = "none",
    most: int = DEFAULT_BUDGETS.failure_text,
) -> Failure:
    """Describe what a processor raised under a policy, which grants ``memory`` bytes.

    The stack has at most ``most`` characters, the reason a quarter of that.
    """
    try:
        if isinstance(error, MemoryError):
            return _out_of_memory(error, memory)
        return _described(error, policy, most)
    except BaseException as broken:  # noqa: BLE001 - an exception's own code may raise anything
        text = f"an exception that cannot be described: its own code raised {class_name(broken)}"
        return Failure(text, text, class_name(error))


def _described(error: BaseException, policy: str, most: int) -> Failure:
    name = class_name(error)
    flags = UNRECOVERABLE if _is_unrecoverable(error) else 0
    if isinstance(error, ResultTooLarge):
        flags |= UNRECOVERABLE | TOO_LARGE  # the next attempt would return as much
    reason = _reason(error)[: most // _REASON_SHARE]
    violation = violation_from(error, policy)
    if violation is not None:
        reason = f"{reason} – {violation.text}"
        name = SandboxViolation.__name__ if violation.is_certain else name
    return Failure(reason, stack_of(error, most), name, flags)


def stack_of(error: BaseException, most: int = DEFAULT_BUDGETS.failure_text) -> str:
    """Return the trace without the frames of this package and of the import system."""
    try:
        trace = user_frames(error.__traceback__)
        described = traceback.TracebackException(type(error), error, trace)
        _leave_out_our_frames(described)
        text = "".join(described.format()).replace(f"{by_path.__name__}.", "")
    except BaseException as broken:  # noqa: BLE001 - an exception's own code may raise anything
        text = f"{class_name(error)} (its text could not be made: {class_name(broken)})"
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n  … {len(text) - most} characters left out …\n{text[-half:]}"
    return text


def user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a trace that starts in the user's code."""
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _leave_out_our_frames(described: traceback.TracebackException) -> None:
    """Take ours out of a trace and of those it came from: they are no help to who wrote the job."""
    seen: set[int] = set()
    ahead: list[traceback.TracebackException | None] = [described]
    while ahead:
        one = ahead.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        frames = [frame for frame in one.stack if not _is_ours(frame.filename)]
        one.stack = traceback.StackSummary.from_list(frames)
        ahead += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OUR_FOLDER, *_IMPORT_FRAMES))


def _reason(error: BaseException) -> str:
    try:
        if isinstance(error, SystemExit):
            return f"the processor called sys.exit({error.code!r})"
        if isinstance(error, KeyboardInterrupt):
            return "the processor raised KeyboardInterrupt"
        # An empty reason would look like no failure at all.
        return "".join((str(error),)) or class_name(error)  # joined: str may be a class of its own
    except BaseException:  # noqa: BLE001 - an exception's own code may raise anything
        return f"{class_name(error)} (its message could not be read)"


def _is_unrecoverable(error: BaseException) -> bool:
    """Tell by name too: a processor may define its own, so that it needs no sandboxq."""
    return "UnrecoverableError" in class_names(error)


def _out_of_memory(error: MemoryError, memory: int | None) -> Failure:
    traceback.clear_frames(error.__traceback__)  # gives back what the job had gathered
    granted = (
        f"its policy grants {memory >> 20} MB" if memory else "the machine has no more to give"
    )
    reason = f"the job ran out of memory: {granted}"
    try:
        stack = stack_of(error)
    except MemoryError:
        stack = "MemoryError"
    return Failure(reason, stack, "JobMemoryExceeded", OUT_OF_MEMORY)


def class_name(error: BaseException) -> str:
    """Return the name of its class."""
    return str(_name_of(type(error)))


def class_names(error: BaseException) -> list[str]:
    """Return the names of its class and of those that it inherits from, nearest first."""
    return [str(_name_of(kind)) for kind in _mro_of(type(error))]


class Violation(NamedTuple):
    """A sentence for the reader; ``is_certain`` when nothing but the policy can be the cause."""

    text: str
    is_certain: bool = False


def violation_from(error: BaseException, policy: str) -> Violation | None:
    """Return what the policy has to do with an error; None when it has nothing."""
    if not isinstance(error, OSError) or policy == "none":
        return None
    if error.errno == errno.EFBIG:
        limit = _limit(resource.RLIMIT_FSIZE)
        text = f"policy {policy!r} grants files of {limit // _MB} MB (file_size={limit})"
        return Violation(text, is_certain=True)
    if error.errno == errno.EMFILE:
        limit = _limit(resource.RLIMIT_NOFILE)
        text = f"policy {policy!r} grants {limit} open files, and all are open (files={limit})"
        return Violation(text, is_certain=True)
    return _forbidden(error) if policy == "strict" else None


def _forbidden(error: OSError) -> Violation | None:
    """Say which grant may be missing; file modes refuse with the same numbers."""
    if error.errno == errno.EAGAIN:
        return Violation("policy 'strict' starts no processes unless it has subprocess=True")
    if error.errno == errno.ENOSYS:
        return Violation("policy 'strict' forbids what can be seen outside of the child")
    if not isinstance(error, PermissionError):
        return None
    if error.filename is not None:
        return Violation("policy 'strict' opens only what read=[…] and write=[…] grant")
    return Violation("policy 'strict' forbids network and processes unless it grants them")


def _limit(kind: int) -> int:
    return resource.getrlimit(kind)[0]


class Move(NamedTuple):
    """Where a job goes (detail of a MOVE frame), and for how long."""

    target: int
    duration_ms: int = 0

    def is_within(self, budgets: Budgets) -> bool:
        """Tell whether a job may ask for that; how long it waits itself is its own affair."""
        limited = self.target == TO_RATE_LIMIT
        return not limited or self.duration_ms <= budgets.rate_limit * 1000

    def refusal(self, budgets: Budgets) -> UsageError:
        """Return why it may not."""
        return UsageError(
            f"RateLimitError({self.duration_ms / 1000:g}) is more than the {budgets.rate_limit:g} s"
            " that a job may have its queue rest (max_rate_limit of the worker)"
        )


def move_from(error: BaseException) -> Move | None:
    """Return the move that an exception asks for; None when it is a failure.

    Many a client library has a ``RateLimitError``: where a duration belongs to the move, a class
    counts only if it has a number of ``seconds``.
    """
    for name in class_names(error):
        target = _TARGETS.get(name)
        if target is not None:
            return _timed(target, error) if target in _TIMED else Move(target)
    return None


def _timed(target: int, error: BaseException) -> Move | None:
    try:
        seconds = _TIMED[target](getattr(error, "seconds", None)).seconds  # type: ignore[arg-type]  # checked there
        return Move(target, min(round(seconds * 1000), LONGEST_MS))
    except BaseException:  # noqa: BLE001 - UsageError, or whatever the code of the exception raises
        return None
