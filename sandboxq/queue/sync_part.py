"""What all parts of the blocking queue share: a queue of this process, and the thread it is on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.queue.portal import Blocking
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from sandboxq.model.job import StoredJob
    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.options import AddOptions
    from sandboxq.queue.sync_job import SyncJob


class SyncPart(Blocking, ABC):
    """One part of a blocking queue; SyncQueue has them all."""

    _twin = "Queue"

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        tracing: Tracing | None = None,
        default_job_options: AddOptions | None = None,
    ) -> None:
        """See Queue."""
        self._queue = Queue(
            name,
            url,
            prefix=prefix,
            tracing=tracing,
            default_job_options=default_job_options,
        )

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._queue.name

    def connect(self) -> None:
        """See Queue.connect."""
        self._run(self._queue.connect())

    def close(self) -> None:
        """See Queue.close."""
        self._run(self._queue.close())

    @abstractmethod
    def _bound(self, job: StoredJob) -> SyncJob:
        """Return the job as one of this queue."""
