"""What all parts of the blocking queue share: a queue of this process, and the thread it is on."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.queue.portal import portal
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sandboxq.job import Job
    from sandboxq.queue.options import AddOptions
    from sandboxq.queue.sync_job import SyncJob
    from sandboxq.tracing import Tracing

T = TypeVar("T")

# Queues of the processes that this one was forked from; see portal.py for why they are kept.
_of_parents: list[Queue] = []


class SyncPart(ABC):
    """One part of a blocking queue; SyncQueue has them all."""

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
        self._new_queue = partial(
            Queue,
            name,
            url,
            prefix=prefix,
            tracing=tracing,
            default_job_options=default_job_options,
        )
        self._pid = os.getpid()
        self._queue = self._new_queue()

    def __enter__(self) -> Self:
        """Connect."""
        self._run(self._here().connect())
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._queue.name

    def close(self) -> None:
        """See Queue.close."""
        self._run(self._here().close())

    def _here(self) -> Queue:
        """Return this process's queue: a forked child must not use its parent's connections."""
        if self._pid != os.getpid():
            _of_parents.append(self._queue)
            self._queue = self._new_queue()
            self._pid = os.getpid()
        return self._queue

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return portal().run(coroutine)

    @abstractmethod
    def _bound(self, job: Job) -> SyncJob:
        """Return the job as one of this queue."""
