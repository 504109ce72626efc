"""The events of a queue for code without an event loop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.broker.stream_place import NEWEST
from sandboxq.queue.events import QueueEvent, QueueEvents
from sandboxq.queue.portal import portal

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine
    from datetime import timedelta

T = TypeVar("T")

# Of the processes that this one was forked from; see portal.py for why they are kept.
_of_parents: list[QueueEvents] = []


class SyncQueueEvents:
    """QueueEvents for a plain ``for``; every method is documented there.

    After a fork the child goes on by itself where the parent stood, on a connection of its own.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        last_id: str = NEWEST,
        names: Collection[str] | None = None,
        job_ids: Collection[str] | None = None,
    ) -> None:
        """See QueueEvents."""
        self._arguments: dict[str, Any] = {
            "name": name,
            "url": url,
            "prefix": prefix,
            "names": names,
            "job_ids": job_ids,
        }
        self._pid = os.getpid()
        self._events = QueueEvents(**self._arguments, last_id=last_id)

    def __enter__(self) -> Self:
        """Connect, and take the place in the stream."""
        self._run(self._here().connect())
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> QueueEvent:
        """Return the next event; ends when this is closed."""
        event = self.read()
        if event is None:
            raise StopIteration
        return event

    @property
    def last_id(self) -> str:
        """See QueueEvents.last_id."""
        return self._events.last_id

    def read(self, timeout: float | timedelta | None = None) -> QueueEvent | None:
        """See QueueEvents.read."""
        return self._run(self._here().read(timeout))

    def close(self) -> None:
        """See QueueEvents.close."""
        self._run(self._here().close())

    def _here(self) -> QueueEvents:
        """Return this process's events: a forked child must not use its parent's connection."""
        if self._pid != os.getpid():
            _of_parents.append(self._events)
            self._events = QueueEvents(**self._arguments, last_id=self._events.last_id)
            self._pid = os.getpid()
        return self._events

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return portal().run(coroutine)
