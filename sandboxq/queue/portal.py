"""One background event loop per process, on which blocking callers run coroutines."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Portal:
    """A daemon thread that runs an event loop for the life of the process."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="sandboxq-portal", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result; an interrupt cancels it."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            message = "a blocking method was called on the event loop that would have to run it"
            raise UsageError(message)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # KeyboardInterrupt while waiting; does nothing to a future that is done.
            future.cancel()
            raise


class Blocking:
    """What all blocking twins have in common: the thread on which their coroutines run."""

    # The class whose methods these are.
    _twin: str

    async def __aenter__(self) -> NoReturn:
        """Say what to write instead. Raises: UsageError, always."""
        message = (
            f"this {self._twin} is for code without an event loop: write `with`, or "
            f"`async with {self._twin}(…)` in asynchronous code"
        )
        raise UsageError(message)

    async def __aexit__(self, *_: object) -> None:
        """Exist beside ``__aenter__``, which never returns."""

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return portal().run(coroutine)


_lock = threading.Lock()
_portals: list[Portal] = []
# Portals of the processes that this one was forked from. Their threads do not exist here, and
# they must never be collected: closing a loop would edit the epoll set that the parent still uses.
_of_parents: list[Portal] = []


def portal() -> Portal:
    """Return this process's portal; the first call starts it."""
    with _lock:
        if not _portals:
            _portals.append(Portal())
        return _portals[0]


def _leave_behind() -> None:
    global _lock  # noqa: PLW0603 - the parent's lock may have been held when it forked
    _lock = threading.Lock()
    _of_parents.extend(_portals)
    _portals.clear()


os.register_at_fork(after_in_child=_leave_behind)
