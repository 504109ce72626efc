"""How long each step of a child's life may take, and what follows when it takes longer."""

from __future__ import annotations

import logging
import signal
from functools import partial
from typing import TYPE_CHECKING

from sandboxq.sandbox.processes import is_stopped

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.source import SourceSupervisor

_log = logging.getLogger("sandboxq.pool")

# A child that is not ready by then (setup() hangs) is killed and counts as a failed start, unless
# the worker has a start timeout of its own.
START_SECONDS = 60.0
# The zygote tells of starts and deaths within milliseconds. One that does not is perhaps stopped;
# one that does not for longer is stuck and replaced.
_LOOK_SECONDS = 0.2
_REPORT_SECONDS = 3.0
# A child that is retired closes files and connections in its teardown().
_TEARDOWN_SECONDS = 10.0


class Timers:
    """Sets the timer of a child, which has one at most."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source_supervisor: SourceSupervisor
    ) -> None:
        """Blame the server of ``source_supervisor`` for what children cannot be blamed for."""
        self._loop = loop
        self._source_supervisor = source_supervisor
        self.start_seconds = START_SECONDS

    def expect_start(self, child: Child) -> None:
        """Wait for READY."""
        left = self.start_seconds
        self._set(child, min(_LOOK_SECONDS, left), partial(self._look_for_birth, left=left))

    def expect_report(self, child: Child) -> None:
        """Wait for the zygote's word on a child that has ended."""
        self._set(child, _LOOK_SECONDS, self._look_for_report)

    def expect_leave(self, child: Child) -> None:
        """Wait for the end of a child that has nothing left but its teardown()."""
        if child.timer is None:
            self._set(child, _TEARDOWN_SECONDS, _end_teardown)

    def _set(self, child: Child, seconds: float, then: Callable[[Child], None]) -> None:
        child.stop_timer()
        child.timer = self._loop.call_later(seconds, then, child)

    def _look_for_birth(self, child: Child, left: float) -> None:
        """Send SIGCONT to what was stopped: the zygote, or a spare that becomes the child."""
        if left <= 0:
            self._give_up_on(child)
        elif child.pidfd < 0:
            self._source_supervisor.wake_stopped()
        elif is_stopped(child.pid):
            _log.warning("child %d was stopped before it was ready; it is sent on", child.pid)
            child.signal(signal.SIGCONT)
        if left > 0:
            self._set(
                child, _LOOK_SECONDS, partial(self._look_for_birth, left=left - _LOOK_SECONDS)
            )

    def _give_up_on(self, child: Child) -> None:
        seconds = self.start_seconds
        child.start_failure = f"it was not ready within {seconds:g} s (does setup() hang?)"
        if child.pidfd < 0:
            self._source_supervisor.kill_stuck(child.source)  # it was not even forked
        child.kill()

    def _look_for_report(self, child: Child) -> None:
        self._source_supervisor.wake_stopped()
        self._set(child, _REPORT_SECONDS - _LOOK_SECONDS, self._kill_stuck)

    def _kill_stuck(self, child: Child) -> None:
        self._source_supervisor.kill_stuck(child.source)


def _end_teardown(child: Child) -> None:
    _log.warning("child %d had %g s for its teardown() and is killed", child.pid, _TEARDOWN_SECONDS)
    child.kill()
