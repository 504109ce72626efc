"""Where each job of an event loop waits: the frames of its task, and of the tasks it started."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.child.steps import in_steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

# A job with more tasks than this has them alike.
_MOST_TASKS = 20
_MOST_FRAMES = 100
_FOLDER = os.path.dirname(__file__)  # noqa: PTH120 - pathlib is not worth its import
_IN_STEPS = in_steps.__code__


class _Stack(NamedTuple):
    """The lines of a task, and the call whose job started it; 0: none."""

    lines: list[str]
    seq: int


def stacks_of(jobs: Mapping[int, asyncio.Task[Any]]) -> dict[int, str]:
    """Return for each job, by the number of its call, its stacks, the innermost frame first."""
    started: dict[int, list[str]] = {seq: [] for seq in jobs}
    counts = dict.fromkeys(jobs, 0)
    for task in asyncio.all_tasks():
        stack = _stack_of(task)
        if stack.seq not in jobs or jobs[stack.seq] is task:
            continue
        counts[stack.seq] += 1
        if counts[stack.seq] <= _MOST_TASKS:
            started[stack.seq] += [f"Task {task.get_name()!r}:", *stack.lines]
    for seq, count in counts.items():
        if count > _MOST_TASKS:
            started[seq].append(f"… and {count - _MOST_TASKS} more tasks")
    own = {seq: _stack_of(task).lines for seq, task in jobs.items()}
    return {seq: "\n".join(own[seq] + started[seq]) for seq in jobs}


def _stack_of(task: asyncio.Task[Any]) -> _Stack:
    """Return the frames of a task without ours, as faulthandler writes them."""
    lines: list[str] = []
    seq = 0
    awaitable: Any = task.get_coro()
    while awaitable is not None and len(lines) < _MOST_FRAMES:
        frame, awaitable = _step(awaitable)
        if frame is None:
            break
        code = frame.f_code
        if code is _IN_STEPS:
            seq, awaitable = frame.f_locals["seq"], frame.f_locals["coroutine"]
        elif not code.co_filename.startswith(_FOLDER):
            lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
    return _Stack(lines[::-1], seq)


def _step(awaitable: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of a coroutine or generator, and what it waits for."""
    for frame, inner in (
        ("cr_frame", "cr_await"),
        ("gi_frame", "gi_yieldfrom"),
        ("ag_frame", "ag_await"),
    ):
        if hasattr(awaitable, frame):
            return getattr(awaitable, frame), getattr(awaitable, inner)
    return None, None
