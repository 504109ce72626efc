"""Functions of the user that a worker calls: ``Worker(on_failed=…, on_stalled=…, on_died=…)``.

They are called on the worker's loop, which renews all locks: a plain function may only do what
takes no time. One that waits for something is `async def`; it runs as a task beside the worker.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from sandboxq.observe.telemetry import AttemptFailed, ChildDied, JobsStalled
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sandboxq.config import WorkerSettings
    from sandboxq.observe.telemetry import Event, Hook, Telemetry

_log = logging.getLogger("sandboxq.worker")
# Calls that have not ended: while so many wait for whatever they wait for, more are left out.
MOST_CALLS = 1000
# Seconds that those of the last events may take when the worker is closed.
_LAST_SECONDS = 5.0


def subscribe_hooks(telemetry: Telemetry, settings: WorkerSettings) -> Calls:
    """Have the hooks of these settings called; what they raise is logged and harms nothing."""
    calls = Calls()
    hooks: tuple[tuple[Hook[Any] | None, type[Event]], ...] = (
        (settings.on_failed, AttemptFailed),
        (settings.on_stalled, JobsStalled),
        (settings.on_died, ChildDied),
    )
    for hook, kind in hooks:
        if hook is not None:
            telemetry.subscribe(partial(calls.call, hook), kind)
    return calls


class Calls:
    """The calls of hooks that are `async def`."""

    def __init__(self) -> None:
        """Begin with none."""
        self._running: set[asyncio.Task[None]] = set()
        self._seldom = Seldom()

    def call(self, hook: Hook[Any], event: Event) -> None:
        """Call a hook, unless too many calls wait."""
        if len(self._running) >= MOST_CALLS:
            self._seldom.warn("a hook was not called, too many of its calls run", repr(hook))
            return
        result = hook(event)
        if inspect.isawaitable(result):
            task = asyncio.create_task(_ended(result), name="sandboxq hook")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Wait for those that run, for a bounded time; what does not end then is left alone."""
        if not self._running:
            return
        _, left = await asyncio.wait(self._running, timeout=_LAST_SECONDS)
        if left:
            _log.warning("%d calls of hooks had not ended when the worker closed", len(left))


async def _ended(result: Awaitable[Any]) -> None:
    try:
        await result
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException:  # noqa: BLE001 - around a telemetry handler, which must end nothing
        _log.exception("a hook failed")
