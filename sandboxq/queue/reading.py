"""The reading half of a queue: its jobs by state, its counts, its workers and its settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands import jobs, schedulers, settings, workers
from sandboxq.errors import JobNotFound, UsageError
from sandboxq.model.job import JobState
from sandboxq.model.validation import (
    checked_flag,
    checked_place,
    checked_priority,
    checked_text,
    checked_whole,
    waiting_seconds,
)
from sandboxq.observe.exposition import text_of_labels
from sandboxq.payload.binary import WHOLE
from sandboxq.queue import bulk
from sandboxq.queue.base import QueueBase
from sandboxq.queue.binary import part_of_data
from sandboxq.queue.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from sandboxq.broker.commands.schedulers import Scheduler
    from sandboxq.observe.metering import Metering
    from sandboxq.queue.job import QueuedJob

# The states of jobs that still have to be run.
_PENDING = (
    JobState.WAITING,
    JobState.PRIORITIZED,
    JobState.DELAYED,
    JobState.WAITING_CHILDREN,
)
# What Prometheus takes for the name of a label.
_LABEL_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


class QueueReading(QueueBase):
    """What can be asked of a queue."""

    _results: Results | None = None

    async def close(self) -> None:
        """Close the connections that the queue opened; may be called twice."""
        if self._owns_broker:
            self._come_here()
        if self._results is not None:
            await self._results.close()
            self._results = None
        await super().close()

    def _forget_loop(self) -> None:
        self._results = None

    async def get_job(self, job_id: str) -> QueuedJob | None:
        """Return a job, None when there is none."""
        checked_text("job_id", job_id)
        job = await jobs.job_of(await self._connected(), self._keys, job_id)
        return None if job is None else self._bound(job)

    async def read_job(self, job_id: str) -> QueuedJob:
        """Return a job. Raises: JobNotFound."""
        job = await self.get_job(job_id)
        if job is None:
            message = f"job {job_id} does not exist in queue {self.name}"
            raise JobNotFound(message)
        return job

    async def get_jobs(
        self,
        states: str | Iterable[str],
        start: int = 0,
        end: int = -1,
        *,
        ascending: bool = False,
    ) -> list[QueuedJob]:
        """Return the jobs ``start`` to ``end`` (inclusive; -1 is the last) of each of the states.

        Newest first, or oldest first when ``ascending``.
        """
        named = _checked_states(_names(states))
        _check_places(start, end)
        checked_flag("ascending", ascending)
        broker = await self._connected()
        found = await jobs.jobs_in(
            broker, self._keys, named, start=start, end=end, ascending=ascending
        )
        return [self._bound(job) for job in found]

    async def counts(self, states: str | Iterable[str] | None = None) -> dict[str, int]:
        """Return how many jobs are in each state, or in these, by BullMQ's words (JobState's)."""
        counts = await jobs.counts_of(await self._connected(), self._keys)
        named = counts if states is None else _checked_states(_names(states))
        return {str(each): counts[each] for each in named}

    async def record_job_counts_metric(
        self, metering: Metering, states: str | Iterable[str] | None = None
    ) -> dict[str, int]:
        """Record what ``counts`` returns as OpenTelemetry gauges, and return it."""
        counts = await self.counts(states)
        metering.record_counts(self.name, counts)
        return counts

    async def counts_per_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """Return how many jobs wait with each of these priorities; 0 is none."""
        checked = [checked_priority("priorities", each) for each in priorities]
        return await jobs.counts_per_priority(await self._connected(), self._keys, checked)

    async def delayed_count(self, until_ms: int | None = None) -> int:
        """Return how many jobs are delayed, or how many of them are due until then."""
        if until_ms is not None:
            checked_whole("until_ms", until_ms)
        return await jobs.delayed_count(await self._connected(), self._keys, until_ms)

    async def count(self) -> int:
        """Return how many jobs still have to be run; active ones are not among them."""
        counts = await self.counts()
        return sum(counts[each] for each in _PENDING)

    async def job_state(self, job_id: str) -> JobState:
        """Return the state that holds a job, UNKNOWN when there is none."""
        checked_text("job_id", job_id)
        return await jobs.state_of(await self._connected(), self._keys, job_id)

    async def result(self, job_id: str, timeout: float | timedelta | None = None) -> Any:
        """Wait for a job to finish and return its value; see QueuedJob.result."""
        checked_text("job_id", job_id)
        seconds = None if timeout is None else waiting_seconds("timeout", timeout)
        broker = await self._connected()
        if self._results is None:
            self._results = Results(broker, self._keys)
        return await self._results.wait(job_id, seconds)

    async def job_array(self, job_id: str, name: str = WHOLE) -> Any:
        """Return one numpy array of a job's data, by its place: ``pixels``, ``frames.0.pixels``.

        Raises: JobNotFound, BinaryMissing; UsageError when there is none of that name.
        """
        checked_text("job_id", job_id)
        return await part_of_data(await self._connected(), self._keys, job_id, name)

    async def job_binary(self, job_id: str, name: str = WHOLE) -> bytes:
        """Return some bytes of a job's data; see ``job_array``."""
        checked_text("job_id", job_id)
        found = await part_of_data(await self._connected(), self._keys, job_id, name)
        return bytes(found)

    async def logs(self, job_id: str, start: int = 0, end: int = -1) -> list[str]:
        """Return the lines ``start`` to ``end`` (inclusive; -1 is the last) of a job's log."""
        checked_text("job_id", job_id)
        _check_places(start, end)
        return await jobs.logs_of(await self._connected(), self._keys, job_id, start=start, end=end)

    async def get_workers(self) -> list[dict[str, str]]:
        """Return one row per connected worker, Node's or ours: CLIENT LIST's fields.

        ``name`` is the queue's, ``rawname`` the connection's.
        """
        return await workers.workers_of(await self._connected(), self._keys)

    async def get_queue_events_clients(self) -> list[dict[str, str]]:
        """Return one row per connection that reads events; see ``get_workers``.

        Node has one for each QueueEvents, we have one for all of an event loop.
        """
        return await workers.listeners_of(await self._connected(), self._keys)

    async def get_meta(self) -> settings.QueueMeta:
        """Return the queue's settings."""
        return await settings.meta_of(await self._connected(), self._keys)

    async def version(self) -> str | None:
        """Return the library that opened the queue last, such as ``bullmq:6.7.0``."""
        return (await self.get_meta()).version

    async def get_metrics(
        self, kind: str = "completed", start: int = 0, end: int = -1
    ) -> settings.Metrics:
        """Return how many jobs ``completed`` or ``failed``, in all and in each minute.

        Minutes ``start`` to ``end`` (inclusive; 0 is the newest, -1 the oldest) are in ``data``.
        Ours count unless their ``metrics_points`` are 0, Node's workers with ``metrics`` alone.
        """
        state = bulk.checked_state(kind, bulk.FINISHED_STATES)
        _check_places(start, end)
        broker = await self._connected()
        return await settings.metrics_of(broker, self._keys, state, start=start, end=end)

    async def export_prometheus_metrics(self, labels: Mapping[str, str] | None = None) -> str:
        """Return counts and totals in Prometheus' text format, ``labels`` added to every line."""
        totals = {each: (await self.get_metrics(each)).count for each in ("completed", "failed")}
        return prometheus_text(self.name, await self.counts(), totals, labels or {})

    async def get_scheduler(self, scheduler_id: str) -> Scheduler | None:
        """Return a scheduler, None when there is none."""
        checked_text("scheduler id", scheduler_id)
        return await schedulers.scheduler_of(await self._connected(), self._keys, scheduler_id)

    async def get_schedulers(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[Scheduler]:
        """Return the schedulers ``start`` to ``end`` (inclusive; -1 is the last).

        The one that runs last comes first, or last when ``ascending``.
        """
        _check_places(start, end)
        checked_flag("ascending", ascending)
        return await schedulers.schedulers_in(
            await self._connected(), self._keys, start=start, end=end, ascending=ascending
        )

    async def count_schedulers(self) -> int:
        """Return how many schedulers there are."""
        return await schedulers.count_schedulers(await self._connected(), self._keys)

    # ── jobs of one state ───────────────────────────────────────────────────
    # As in BullMQ, finished jobs come newest first, all others oldest first.

    async def get_waiting(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait without priority, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.WAITING, start, end, ascending=ascending)

    async def get_waiting_count(self) -> int:
        """Return how many jobs there are that wait without priority."""
        return (await self.counts(JobState.WAITING))[JobState.WAITING]

    async def get_prioritized(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait with a priority, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.PRIORITIZED, start, end, ascending=ascending)

    async def get_prioritized_count(self) -> int:
        """Return how many jobs there are that wait with a priority."""
        return (await self.counts(JobState.PRIORITIZED))[JobState.PRIORITIZED]

    async def get_delayed(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait for their time, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.DELAYED, start, end, ascending=ascending)

    async def get_delayed_count(self) -> int:
        """Return how many jobs there are that wait for their time."""
        return (await self.counts(JobState.DELAYED))[JobState.DELAYED]

    async def get_active(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that are being processed, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.ACTIVE, start, end, ascending=ascending)

    async def get_active_count(self) -> int:
        """Return how many jobs there are that are being processed."""
        return (await self.counts(JobState.ACTIVE))[JobState.ACTIVE]

    async def get_waiting_children(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait for their children, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.WAITING_CHILDREN, start, end, ascending=ascending)

    async def get_waiting_children_count(self) -> int:
        """Return how many jobs there are that wait for their children."""
        return (await self.counts(JobState.WAITING_CHILDREN))[JobState.WAITING_CHILDREN]

    async def get_completed(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[QueuedJob]:
        """Return those that completed, ``start`` to ``end``, newest first."""
        return await self.get_jobs(JobState.COMPLETED, start, end, ascending=ascending)

    async def get_completed_count(self) -> int:
        """Return how many jobs there are that completed."""
        return (await self.counts(JobState.COMPLETED))[JobState.COMPLETED]

    async def get_failed(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[QueuedJob]:
        """Return those that failed, ``start`` to ``end``, newest first."""
        return await self.get_jobs(JobState.FAILED, start, end, ascending=ascending)

    async def get_failed_count(self) -> int:
        """Return how many jobs there are that failed."""
        return (await self.counts(JobState.FAILED))[JobState.FAILED]


def _names(states: str | Iterable[str]) -> list[str]:
    return [states] if isinstance(states, str) else list(states)


def _check_places(start: int, end: int) -> None:
    checked_place("start", start)
    checked_place("end", end)


def _checked_states(names: Iterable[str]) -> list[JobState]:
    wanted = list(names)
    for name in wanted:
        if name not in jobs.STATES:
            message = f"a state must be one of {', '.join(jobs.STATES)}, not {name!r}"
            raise UsageError(message)
    return [JobState(name) for name in wanted]


# ── Prometheus' text format, with the names that Node's export uses ─────────


def prometheus_text(
    queue: str, counts: Mapping[str, int], totals: Mapping[str, int], labels: Mapping[str, str]
) -> str:
    """Return the counts by state, and how many jobs completed and failed since metrics were on.

    Raises: UsageError for a label name that Prometheus does not know.
    """
    own = {"queue": queue}
    lines = _metric("bullmq_job_count", "gauge", "Number of jobs in the queue by state")
    lines += [
        f"bullmq_job_count{_labels_of({**own, 'state': state}, labels)} {count}"
        for state, count in counts.items()
    ]
    for kind, total in totals.items():
        name = f"bullmq_job_{kind}_total"
        lines += _metric(name, "counter", f"Total number of {kind} jobs")
        lines.append(f"{name}{_labels_of(own, labels)} {total}")
    return "\n".join(lines)


def _metric(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _labels_of(own: Mapping[str, str], labels: Mapping[str, str]) -> str:
    for name in labels:
        if not _LABEL_NAME.fullmatch(name) or name in own:
            message = f"labels must be named in letters, digits and _, and not {name!r}"
            raise UsageError(message)
    return text_of_labels({**own, **labels})
