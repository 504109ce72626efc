"""The queue for code without an event loop: the methods of Queue, blocking."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.job import Job, JobState
from sandboxq.queue.job import members_of
from sandboxq.queue.portal import portal
from sandboxq.queue.queue import BulkEntry, Queue

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from datetime import timedelta

    from sandboxq.queue.options import AddOptions

T = TypeVar("T")

# Queues of the processes that this one was forked from; see portal.py for why they are kept.
_of_parents: list[Queue] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncJob(Job):
    """QueuedJob for code without an event loop."""

    queue: SyncQueue = field(repr=False, compare=False)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """See QueuedJob.result."""
        return self.queue.result(self.id, timeout)

    def state(self) -> JobState:
        """See QueuedJob.state."""
        return self.queue.job_state(self.id)

    def refresh(self) -> SyncJob:
        """See QueuedJob.refresh."""
        return self.queue.read_job(self.id)

    def remove(self, *, with_children: bool = True) -> bool:
        """See QueuedJob.remove."""
        return self.queue.remove(self.id, with_children=with_children)

    def logs(self, start: int = 0, end: int = -1) -> list[str]:
        """See QueuedJob.logs."""
        return self.queue.logs(self.id, start, end)


class SyncQueue:
    """Queue for code without an event loop; every method is documented there.

    Any thread may use it. All queues of a process share one background thread. After a fork the
    child connects anew by itself; a call that another thread was making is not carried over.
    """

    def __init__(self, name: str, url: str | None = None, *, prefix: str = DEFAULT_PREFIX) -> None:
        """See Queue."""
        self._arguments = (name, url, prefix)
        self._pid = os.getpid()
        self._queue = Queue(name, url, prefix=prefix)

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

    def add(self, name: str, data: Any, **options: Unpack[AddOptions]) -> SyncJob:
        """See Queue.add."""
        return self._bound(self._run(self._here().add(name, data, **options)))

    def add_bulk(self, entries: Iterable[BulkEntry]) -> list[SyncJob]:
        """See Queue.add_bulk."""
        return [self._bound(job) for job in self._run(self._here().add_bulk(entries))]

    def get_job(self, job_id: str) -> SyncJob | None:
        """See Queue.get_job."""
        job = self._run(self._here().get_job(job_id))
        return None if job is None else self._bound(job)

    def read_job(self, job_id: str) -> SyncJob:
        """See Queue.read_job."""
        return self._bound(self._run(self._here().read_job(job_id)))

    def get_jobs(
        self, states: str | Iterable[str], start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[SyncJob]:
        """See Queue.get_jobs."""
        jobs = self._run(self._here().get_jobs(states, start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def counts(self) -> dict[str, int]:
        """See Queue.counts."""
        return self._run(self._here().counts())

    def count(self) -> int:
        """See Queue.count."""
        return self._run(self._here().count())

    def job_state(self, job_id: str) -> JobState:
        """See Queue.job_state."""
        return self._run(self._here().job_state(job_id))

    def result(self, job_id: str, timeout: float | timedelta | None = None) -> Any:
        """See Queue.result."""
        return self._run(self._here().result(job_id, timeout))

    def logs(self, job_id: str, start: int = 0, end: int = -1) -> list[str]:
        """See Queue.logs."""
        return self._run(self._here().logs(job_id, start, end))

    def get_workers(self) -> list[dict[str, str]]:
        """See Queue.get_workers."""
        return self._run(self._here().get_workers())

    def pause(self) -> None:
        """See Queue.pause."""
        self._run(self._here().pause())

    def resume(self) -> None:
        """See Queue.resume."""
        self._run(self._here().resume())

    def is_paused(self) -> bool:
        """See Queue.is_paused."""
        return self._run(self._here().is_paused())

    def remove(self, job_id: str, *, with_children: bool = True) -> bool:
        """See Queue.remove."""
        return self._run(self._here().remove(job_id, with_children=with_children))

    def obliterate(self, *, force: bool = False) -> None:
        """See Queue.obliterate."""
        self._run(self._here().obliterate(force=force))

    def _here(self) -> Queue:
        """Return this process's queue: a forked child must not use its parent's connections."""
        if self._pid != os.getpid():
            _of_parents.append(self._queue)
            name, url, prefix = self._arguments
            self._queue = Queue(name, url, prefix=prefix)
            self._pid = os.getpid()
        return self._queue

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return portal().run(coroutine)

    def _bound(self, job: Job) -> SyncJob:
        return SyncJob(**members_of(job), queue=self)
