"""What a processor raised, as text. Nothing that an exception does can end the child here."""

from __future__ import annotations

import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.budgets import DEFAULT_BUDGETS
from sandboxq.child.class_names import class_name, class_names
from sandboxq.child.frames import OUT_OF_MEMORY, TOO_LARGE, UNRECOVERABLE
from sandboxq.child.violation import violation_from
from sandboxq.errors import ResultTooLarge, SandboxViolation

if TYPE_CHECKING:
    from types import TracebackType

# Redis keeps these with the job, and dashboards show them whole: of a reason a part of this.
_REASON_SHARE = 4

_OUR_FOLDER = str(PurePath(__file__).parent)
_IMPORT_FRAMES = "<frozen importlib"


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
        lines = traceback.format_exception(type(error), error, trace)
        text = "".join(lines)
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


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OUR_FOLDER, _IMPORT_FRAMES))


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
