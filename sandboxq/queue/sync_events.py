"""The events of a queue for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from sandboxq.broker.connect.stream_position import NEWEST
from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.queue.events import QueueEvent, QueueEvents
from sandboxq.queue.portal import Blocking

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta


class SyncQueueEvents(Blocking):
    """QueueEvents for a plain ``for``; every method is documented there.

    After a fork the child goes on by itself where the parent stood, on a connection of its own.
    """

    _twin = "QueueEvents"

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
        self._events = QueueEvents(
            name, url, prefix=prefix, last_id=last_id, names=names, job_ids=job_ids
        )

    def __enter__(self) -> Self:
        """Connect, and take the place in the stream."""
        self.connect()
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

    def connect(self) -> None:
        """See QueueEvents.connect."""
        self._run(self._events.connect())

    def read(self, timeout: float | timedelta | None = None) -> QueueEvent | None:
        """See QueueEvents.read."""
        return self._run(self._events.read(timeout))

    def close(self) -> None:
        """See QueueEvents.close."""
        self._run(self._events.close())
