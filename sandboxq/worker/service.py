"""A background duty of the worker: a loop that is started, watched and stopped.

Shared runs what several may ask for at once. Seldom limits warnings that others can cause at will:
one in a while, with how many were left out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from sandboxq.errors import QueueError, SandboxqError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger("sandboxq.worker")

# A loop that crashed is started again after this long, twice as long each time in a row.
FIRST_RESTART = 0.1
LONGEST_RESTART = 5.0
# After so many crashes in a row a worker that needs the service gives up.
MOST_CRASHES = 6
# A loop that ran this long before it crashed starts counting anew.
STEADY_SECONDS = 60.0

# Seconds between two warnings of one kind.
QUIET_SECONDS = 60.0


class Service:
    """Runs one loop as a task. May be stopped before it was started, and twice.

    A crash of the loop is logged and the loop is started again with growing delays: each loop does
    first what its predecessor has left. After MOST_CRASHES in a row ``on_failure`` is called, which
    stops the worker; without it the service is tried for ever. So it is when Redis refuses, unless
    ``may_wait`` is False: a key of another type, or a missing permission, may be corrected.
    """

    def __init__(
        self,
        name: str,
        loop: Callable[[], Awaitable[None]],
        on_failure: Callable[[Exception], None] | None = None,
        *,
        may_wait: bool = True,
    ) -> None:
        """Prepare the service ``name``; nothing runs yet."""
        self.name = name
        self._loop = loop
        self._on_failure = on_failure
        self._may_wait = may_wait
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Start the loop."""
        self._task = asyncio.create_task(self._watch(), name=f"sandboxq {self.name}")

    async def stop(self) -> None:
        """Cancel the loop and wait until it has gone; who is cancelled meanwhile may ask again."""
        if self._task is None:
            return
        if not self._is_stopping:
            self._is_stopping = True
            self._task.cancel()
        # Not ``await task``: that would pass a cancellation on to the last words of the loop.
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        crashes = 0
        while True:
            started = clock()
            try:
                await self._loop()
            except Exception as error:  # noqa: BLE001 - the service's boundary: logged, counted, restarted
                crash = error
            except asyncio.CancelledError as error:
                if _is_being_cancelled():
                    raise
                # Something in it has raised it by itself: nobody wants the service to end.
                crash = RuntimeError(f"cancelled from within: {error!r}")
            else:
                return
            if self._is_stopping:  # its last words failed
                _log.warning("%s: %s", self.name, crash)
                return
            crashes = 1 if clock() - started > STEADY_SECONDS else crashes + 1
            self._tell(crash, crashes)
            if self._is_hopeless(crash, crashes) and self._on_failure is not None:
                self._on_failure(crash)
                return
            await asyncio.sleep(min(LONGEST_RESTART, FIRST_RESTART * 2 ** min(crashes, 16)))

    def _is_hopeless(self, crash: Exception, crashes: int) -> bool:
        is_refusal = isinstance(crash, QueueError)
        return crashes >= MOST_CRASHES and not (is_refusal and self._may_wait)

    def _tell(self, crash: Exception, crashes: int) -> None:
        if isinstance(crash, QueueError):
            # Redis refused a command; our frames would not say why.
            _log.error("%s was refused (%d in a row): %s", self.name, crashes, crash)
        else:
            _log.error("%s crashed (%d in a row)", self.name, crashes, exc_info=crash)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Shared:
    """Runs an action, never twice at once: all who ask while it runs share one run after it."""

    def __init__(self, action: Callable[[], Awaitable[None]]) -> None:
        """Run ``action`` when asked."""
        self._action = action
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Return when a run that began after this call is over; who gives up does not end it.

        Raises: what the action raises.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            # Heard, for whoever has given up.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._next)

    async def _run(self) -> None:
        async with self._turn:
            self._next = None
            await self._action()


class Seldom:
    """Logs warnings, of each kind one in QUIET_SECONDS."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, kind: str, detail: object) -> None:
        """Log ``kind``, a sentence, and what it is about; of an unknown error the trace too."""
        now = time.monotonic()
        if now - self._said_at.get(kind, -QUIET_SECONDS) < QUIET_SECONDS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._said_at[kind] = now
        left_out = self._left_out.pop(kind, 0)
        more = f" (and {left_out} more since it was last said)" if left_out else ""
        trace = detail if isinstance(detail, Exception) else None
        is_known = trace is None or isinstance(trace, SandboxqError)
        _log.warning("%s: %s%s", kind, detail, more, exc_info=None if is_known else trace)
