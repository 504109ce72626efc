"""Asynchronous methods for code without an event loop: ``counts = blocking(Queue.counts)``.

blocking method ─► portal().run(coroutine) ─► (one background thread a process: its event loop)
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from abc import ABC, abstractmethod
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    overload,
)

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

A = TypeVar("A")  # the asynchronous class
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")  # the blocking class
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

    async def run_for_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on this loop for a caller on another one; cancelling reaches it."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))


class HasTwin(Protocol[A_co]):
    """Wraps an object of asynchronous code."""

    @property
    def _twin(self) -> A_co: ...


class Blocking(ABC, Generic[A]):
    """What all blocking classes have in common: ``with``, and the asynchronous object."""

    def __init__(self, twin: A) -> None:
        """Wrap this asynchronous object, which nothing else uses."""
        self._twin = twin

    @abstractmethod
    def connect(self) -> None:
        """Connect."""

    @abstractmethod
    def close(self) -> None:
        """Close."""

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    async def __aenter__(self) -> NoReturn:
        """Say what to write instead. Raises: UsageError, always."""
        name = type(self._twin).__name__
        message = (
            f"this {name} is for code without an event loop: write `with`, or "
            f"`async with {name}(…)` in asynchronous code"
        )
        raise UsageError(message)

    async def __aexit__(self, *_: object) -> None:
        """Needed beside ``__aenter__``, which always raises."""


@overload
def blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[HasTwin[A], P], R]: ...


@overload
def blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]], returning: Callable[[S, R], T]
) -> Callable[Concatenate[S, P], T]: ...


def blocking(method: Callable[..., Any], returning: Callable[..., Any] | None = None) -> Any:
    """Return a method that runs an asynchronous one on ``self._twin`` and waits for its end.

    It has the other's parameters, name and docstring, for type checkers, editors and ``help``.
    ``returning`` gets ``self`` and the result of the other and makes the result.
    """

    def call(self: HasTwin[Any], *arguments: Any, **options: Any) -> Any:
        value = portal().run(method(self._twin, *arguments, **options))
        return value if returning is None else returning(self, value)

    # Not functools.wraps: by __wrapped__ it would be taken for a coroutine function.
    signature = inspect.signature(method)
    if returning is not None:
        returned = inspect.signature(returning).return_annotation
        signature = signature.replace(return_annotation=returned)
    call.__name__, call.__doc__ = method.__name__, method.__doc__
    call.__signature__ = signature  # type: ignore[attr-defined]  # inspect looks for it
    return call


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
