"""What all parts of a queue share: its keys, its connection, and jobs that know their queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sandboxq.broker.keys import QueueKeys
from sandboxq.queue.connected import Connected

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.clock import Clock
    from sandboxq.job import Job
    from sandboxq.queue.job import QueuedJob
    from sandboxq.tracing import Tracing


class OfQueue(Connected, ABC):
    """One part of a queue; Queue has them all."""

    def __init__(
        self,
        name: str,
        url: str | None,
        *,
        prefix: str,
        broker: Broker | None,
        clock: Clock,
        tracing: Tracing | None,
    ) -> None:
        """See Queue."""
        super().__init__(url, broker=broker, clock=clock, tracing=tracing)
        self._keys = QueueKeys(name, prefix)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._keys.queue

    @property
    def keys(self) -> QueueKeys:
        """The names of the queue's keys."""
        return self._keys

    @abstractmethod
    def _bound(self, job: Job) -> QueuedJob:
        """Return the job as one of this queue."""
