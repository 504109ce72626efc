"""A job together with the queue that it is in."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from sandboxq.job import Job, JobState

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.queue.queue import Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob(Job):
    """A job as it stood when it was added or read, and what can be done with it.

    Nothing in it changes; ``refresh`` reads the job anew.
    """

    queue: Queue = field(repr=False, compare=False)

    async def result(self, timeout: float | timedelta | None = None) -> Any:
        """Return the value of the job once it has completed.

        Raises: JobFailed with the failed reason, or the ChildError that ended it (JobCrashed, …);
        ResultTimeout after ``timeout`` seconds; JobNotFound when it was removed before its value
        could be read.
        """
        return await self.queue.result(self.id, timeout)

    async def state(self) -> JobState:
        """Return the state that holds the job, UNKNOWN when it is gone."""
        return await self.queue.job_state(self.id)

    async def refresh(self) -> QueuedJob:
        """Return the job as it is now. Raises: JobNotFound."""
        return await self.queue.read_job(self.id)

    async def remove(self, *, with_children: bool = True) -> bool:
        """Remove the job; see Queue.remove."""
        return await self.queue.remove(self.id, with_children=with_children)

    async def logs(self, start: int = 0, end: int = -1) -> list[str]:
        """Return lines of the job's log; see Queue.logs."""
        return await self.queue.logs(self.id, start, end)


_FIELDS = tuple(each.name for each in fields(Job))


def members_of(job: Job) -> dict[str, Any]:
    """Return what makes a job, for another object bound to a queue."""
    return {name: getattr(job, name) for name in _FIELDS}
