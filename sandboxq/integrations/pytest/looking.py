"""Which job a test expects in a queue, and what it is told when there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from sandboxq.model.job import StoredJob

# How many jobs of the queue are shown.
_SHOWN = 20
_LONGEST = 200
_READ = {
    "data": lambda job: job.data,
    "delay": lambda job: job.delay_ms / 1000,
    "priority": lambda job: job.priority,
    "attempts": lambda job: job.opts.attempts,
    "job_id": lambda job: job.id,
}


class Expected:
    """What a job must be like."""

    def __init__(self, name: str | None, **members: Any) -> None:
        """Keep what is compared. Raises: UsageError for what cannot be."""
        unknown = [member for member in members if member not in _READ]
        if unknown:
            message = f"a job is compared by name, {', '.join(_READ)}, not by {unknown[0]!r}"
            raise UsageError(message)
        self._name = name
        self._members = members

    def fits(self, job: StoredJob) -> bool:
        """Tell whether a job is as expected."""
        return self._name in {None, job.name} and all(
            is_part(wanted, _READ[member](job)) for member, wanted in self._members.items()
        )

    def __str__(self) -> str:
        """Say what is expected."""
        members = [f"{member}={wanted!r}" for member, wanted in self._members.items()]
        if self._name is not None:
            members.insert(0, f"name={self._name!r}")
        return f"a job with {', '.join(members)}" if members else "any job"


def is_part(wanted: Any, value: Any) -> bool:
    """Tell whether all of ``wanted`` is in ``value``; members of mappings that it has not count."""
    if isinstance(wanted, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and is_part(part, value[key]) for key, part in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        return (
            isinstance(value, Sequence)
            and len(value) == len(wanted)
            and all(map(is_part, wanted, value))
        )
    return bool(wanted == value)


def missing_job(
    queue: str, wanted: Expected, jobs: Sequence[StoredJob], *, found: int, count: int | None
) -> str:
    """Say which job is missing, and what is there."""
    number = "no job" if count is None else f"{found} jobs, not {count},"
    head = f"{number} in queue {queue!r} fits: expected {wanted}"
    if not jobs:
        return f"{head}; the queue is empty"
    rows = [f"  {_row(job)}" for job in jobs[:_SHOWN]]
    more = [f"  and {len(jobs) - _SHOWN} more"] if len(jobs) > _SHOWN else []
    return "\n".join([f"{head}; the queue has", *rows, *more])


def unexpected_job(queue: str, job: StoredJob) -> str:
    """Say which job is there and should not be."""
    return f"queue {queue!r} has {_row(job)}"


def _row(job: StoredJob) -> str:
    data = repr(job.data)
    if len(data) > _LONGEST:
        data = f"{data[:_LONGEST]}…"
    options = [
        f"{member}={value!r}"
        for member in ("delay", "priority")
        if (value := _READ[member](job))  # the usual ones are not shown
    ]
    return ", ".join([f"job {job.id} {job.name!r}", f"data={data}", *options])
