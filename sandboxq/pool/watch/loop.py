"""Notices event loops that do not turn: a job that computes or sleeps without ``await``.

Such a job stops all others in its child, and none of them can be told to end. Each loop that has
jobs is asked for a sign some times a second; the mark says whose code has it meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandboxq.errors import JobBlockedLoop
from sandboxq.observe.telemetry import LoopBlocked
from sandboxq.pool.stacks.stacks import read_main_stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool

_INTERVAL = 0.2
# A loop that owes its sign for so long is blocked: said then, at most 1 s after it began.
_WORTH_SAYING = 0.7
# A job is killed for others only when it has blocked them for so long.
BLOCKED_SECONDS = 1.0


class LoopWatch:
    """Looks at the children of one pool of async processors."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        telemetry: Telemetry,
        *,
        limit: float | None,
        on_held: Callable[[Child, bytes], None],
    ) -> None:
        """Tell ``telemetry`` of blocked loops; end jobs that block one for ``limit`` seconds.

        ``on_held`` gets the answers of other jobs that such a loop does not come to send.
        """
        self._on_held = on_held
        self._loop = loop
        self._pool = pool
        self._telemetry = telemetry
        self._limit = limit
        self._told: set[int] = set()  # numbers of the children of which it was said
        self._telling: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        told, self._told = self._told, set()
        for child in self._pool.supervisor.children:
            if child.flying and child.doom is None:
                self._look(child, told)
        self._timer = self._loop.call_later(_INTERVAL, self.start)

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._telling:
            task.cancel()

    def _look(self, child: Child, told: set[int]) -> None:
        answers = child.packets.take_stale()
        if answers:
            self._on_held(child, answers)
        seconds = child.blocked_for()
        if seconds < _WORTH_SAYING:
            child.ask_whether_it_turns()
            return
        self._told.add(child.number)
        blocker = child.call_on_loop()
        if child.number not in told:
            task = asyncio.create_task(self._tell(child, blocker, seconds))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        if self._limit is not None and seconds >= self._limit:
            error = blocked_loop(child, f"may do so for {self._limit:g} s")
            self._pool.doom(child, error, victim=blocker)

    async def _tell(self, child: Child, blocker: Call | None, seconds: float) -> None:
        job_id = "" if blocker is None else blocker.key.decode(errors="replace")
        waiting = len(child.flying) - (blocker is not None)
        stack = await read_main_stack(child)
        self._telemetry.emit(LoopBlocked(child.pid, job_id, seconds, waiting, stack))


def blocked_loop(child: Child, why: str) -> JobBlockedLoop:
    """Return why the job is ended that blocks the loop of a child."""
    seconds = child.blocked_for()
    text = f"the job blocked the event loop of child {child.pid} for {seconds:.2f} s and {why}"
    error = JobBlockedLoop(text)
    error.facts = {"pid": str(child.pid), "elapsed": f"{seconds:.3f}"}
    return error
