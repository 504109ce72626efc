"""The operating half of a queue: its limits, and changes to one job or to many."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from sandboxq.broker.codec import json_text, ms_from_seconds
from sandboxq.broker.commands import change_job, schedulers, settings
from sandboxq.broker.commands.settings import read_usage
from sandboxq.model.validation import (
    LONGEST_WAIT,
    checked_flag,
    checked_priority,
    checked_text,
    checked_whole,
    positive_seconds,
    seconds_from,
    waiting_seconds,
)
from sandboxq.queue import bulk
from sandboxq.queue.base import QueueBase

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.config import RateLimit
    from sandboxq.model.job import UsageTotals
    from sandboxq.queue.bulk import Progress


class QueueOperating(QueueBase):
    """What operators do to a queue."""

    async def pause(self) -> None:
        """Let no worker claim any more; jobs can still be added."""
        await settings.pause(await self._connected(), self._keys)

    async def resume(self) -> None:
        """Undo ``pause``."""
        await settings.resume(await self._connected(), self._keys)

    async def is_paused(self) -> bool:
        """Tell whether the queue is paused."""
        return await settings.is_paused(await self._connected(), self._keys)

    async def remove(self, job_id: str, *, with_children: bool = True) -> bool:
        """Remove a job wherever it is, and its children; False means that there is none.

        Raises: JobLocked when it, or a child that has not finished, is being processed;
        JobBelongsToScheduler. Nothing was removed then.
        """
        checked_text("job_id", job_id)
        checked_flag("with_children", with_children)
        broker = await self._connected()
        return await change_job.remove(broker, self._keys, job_id, with_children=with_children)

    async def cancel(
        self, job_id: str, reason: str | None = None, *, grace: float | timedelta = 5.0
    ) -> str | None:
        """End a job wherever it is; return the worker that was running it, None when none was.

        What waits, delayed or for children too, fails at once. A worker tells the code that it runs
        (``job.cancelled``; CancelledError in ``async def``), and kills it when it has not ended
        ``grace`` seconds later. The job fails as JobCancelled, saying who asked and why, and is not
        tried again. This returns as soon as the worker knows; ``result`` waits for the end.
        Raises: JobNotFound; JobNotInState when it has ended; JobBelongsToScheduler; CancelNotHeard
        when it is active, but no worker of sandboxq has it.
        """
        checked_text("job_id", job_id)
        if reason is not None:
            checked_text("reason", reason)
        who = f"cancelled by {socket.gethostname()}:{os.getpid()}"
        broker = await self._connected()
        return await change_job.cancel(
            broker,
            self._keys,
            job_id,
            reason=who if reason is None else f"{who}: {reason}",
            grace=waiting_seconds("grace", grace),
            now_ms=await broker.now_ms(),
        )

    async def obliterate(self, *, force: bool = False) -> None:
        """Pause the queue, then remove it with all its jobs, except those that wait for children.

        ``force`` removes active jobs too; their workers find their locks gone.
        Raises: QueueHasActiveJobs; the queue stays paused then.
        """
        broker = await self._connected()
        await settings.pause(broker, self._keys)
        await change_job.obliterate(broker, self._keys, force=force)

    async def usage(self) -> UsageTotals:
        """Return what sandboxq's workers have used for this queue's jobs; seconds late."""
        return await read_usage(await self._connected(), self._keys)

    async def remove_deprecated_priority_key(self) -> bool:
        """Remove the ``priority`` key of BullMQ before 4.0; False when there is none."""
        return await settings.remove_deprecated_priority_key(await self._connected(), self._keys)

    async def set_max_events(self, count: int) -> None:
        """Let the queue's event stream keep about so many events from now on; 10,000 is usual.

        A Queue of Node that is made later writes its own number (``streams.events.maxLen``).
        """
        checked_whole("count", count)
        await settings.set_max_events(await self._connected(), self._keys, count)

    async def trim_events(self, max_length: int) -> int:
        """Shorten the event stream to about so many entries; return how many went."""
        checked_whole("max_length", max_length)
        return await settings.trim_events(await self._connected(), self._keys, max_length)

    async def remove_scheduler(self, scheduler_id: str) -> bool:
        """Remove a scheduler and its delayed job; False means that there is none.

        A job of it that waits or is being processed stays, and makes no other.
        """
        checked_text("scheduler id", scheduler_id)
        return await schedulers.remove(await self._connected(), self._keys, scheduler_id)

    # ── all jobs of a state ──────────────────────────────────────────────────
    # ``progress`` is called with the number of jobs done so far, after each hundred.

    async def drain(self, *, delayed: bool = False, progress: Progress | None = None) -> int:
        """Remove all jobs that wait, ``delayed`` ones too if so; return how many.

        The next iterations of schedulers stay.
        """
        broker = await self._connected()
        return await bulk.drain(broker, self._keys, delayed=delayed, progress=progress)

    async def clean(
        self,
        grace: float | timedelta,
        state: str = "completed",
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Remove jobs of a state unchanged for ``grace``, oldest first; return their ids.

        ``limit`` is how many at most. Locked jobs and the next iterations of schedulers stay.
        """
        broker = await self._connected()
        return await bulk.clean(
            broker,
            self._keys,
            state,
            grace=grace,
            now_ms=await broker.now_ms(),
            limit=limit,
            progress=progress,
        )

    async def retry_jobs(
        self,
        state: str = "failed",
        *,
        until_ms: int | None = None,
        limit: int | None = None,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Let failed, or completed, jobs wait again, oldest first; return how many did.

        Those that finished after ``until_ms`` (default: now) stay, and all beyond ``limit``. Unlike
        Node's, jobs keep their priority and lifo. ``reset_…`` as in ``retry``.
        """
        resets = bulk.checked_resets(
            reset_attempts_made=reset_attempts_made, reset_attempts_started=reset_attempts_started
        )
        broker = await self._connected()
        return await bulk.retry_jobs(
            broker,
            self._keys,
            state,
            until_ms=await broker.now_ms() if until_ms is None else until_ms,
            limit=limit,
            resets=resets,
            progress=progress,
        )

    async def promote_jobs(
        self, *, limit: int | None = None, progress: Progress | None = None
    ) -> int:
        """Let delayed jobs wait from now on, the earliest first; return how many did.

        All beyond ``limit`` stay. Unlike Node's, jobs keep their priority.
        """
        broker = await self._connected()
        return await bulk.promote_jobs(broker, self._keys, limit=limit, progress=progress)

    async def remove_orphaned_jobs(
        self, *, limit: int | None = None, progress: Progress | None = None
    ) -> list[str]:
        """Remove jobs that no state holds, ``limit`` at most; return their ids.

        Walks over the whole database. Unlike Node's, it removes nothing but jobs.
        """
        broker = await self._connected()
        return await bulk.remove_orphaned_jobs(broker, self._keys, limit=limit, progress=progress)

    # ── limits of all workers together ───────────────────────────────────────

    async def set_global_concurrency(self, concurrency: int) -> None:
        """Let at most so many jobs of the queue be active at once."""
        checked_whole("concurrency", concurrency, least=1)
        await settings.set_limits(await self._connected(), self._keys, concurrency=concurrency)

    async def get_global_concurrency(self) -> int | None:
        """Return how many jobs may be active at once, None when any number may."""
        return (await settings.meta_of(await self._connected(), self._keys)).concurrency

    async def remove_global_concurrency(self) -> bool:
        """Let any number of jobs be active at once; False when it may already."""
        return bool(
            await settings.set_limits(await self._connected(), self._keys, concurrency=None)
        )

    async def is_maxed(self) -> bool:
        """Tell whether as many jobs are active as the global concurrency allows."""
        return await settings.is_maxed(await self._connected(), self._keys)

    async def set_global_rate_limit(self, max_jobs: int, duration: float | timedelta) -> None:
        """Let at most so many jobs be claimed in each ``duration``, by all workers together."""
        checked_whole("max_jobs", max_jobs, least=1)
        duration_ms = ms_from_seconds(positive_seconds("duration", duration, most=LONGEST_WAIT))
        broker = await self._connected()
        await settings.set_limits(broker, self._keys, max=max_jobs, duration=duration_ms)

    async def get_global_rate_limit(self) -> RateLimit | None:
        """Return how many jobs may be claimed in which time, None when any number may."""
        return (await settings.meta_of(await self._connected(), self._keys)).rate_limit

    async def remove_global_rate_limit(self) -> bool:
        """Undo ``set_global_rate_limit``; False when there was none."""
        broker = await self._connected()
        return bool(await settings.set_limits(broker, self._keys, max=None, duration=None))

    async def rate_limit(self, duration: float | timedelta) -> None:
        """Let no worker claim for so long; Node's heed it if they, or the queue, have a limit."""
        duration_ms = ms_from_seconds(positive_seconds("duration", duration, most=LONGEST_WAIT))
        await settings.close_window(await self._connected(), self._keys, duration_ms=duration_ms)

    async def rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """Return for how many seconds the rate limit is still used up; 0.0: it is not.

        ``max_jobs`` is a worker's own maximum; left out, the queue's counts.
        """
        if max_jobs is not None:
            checked_whole("max_jobs", max_jobs, least=1)
        broker = await self._connected()
        return await settings.window_ttl_ms(broker, self._keys, max_jobs=max_jobs) / 1000

    async def remove_rate_limit_key(self) -> bool:
        """Begin a new rate limit window now; False when there was none."""
        return await settings.open_window(await self._connected(), self._keys)

    # ── what is done to one job ──────────────────────────────────────────────

    async def promote(self, job_id: str) -> None:
        """Let a delayed job wait from now on. Raises: JobNotFound, JobNotInState."""
        checked_text("job_id", job_id)
        await change_job.promote(await self._connected(), self._keys, job_id)

    async def change_delay(self, job_id: str, delay: float | timedelta) -> None:
        """Delay a delayed job by so much from now. Raises: JobNotFound, JobNotInState."""
        checked_text("job_id", job_id)
        delay_ms = ms_from_seconds(seconds_from("delay", delay))
        broker = await self._connected()
        now_ms = await broker.now_ms()
        await change_job.change_delay(broker, self._keys, job_id, delay_ms=delay_ms, now_ms=now_ms)

    async def change_priority(self, job_id: str, priority: int, *, lifo: bool = False) -> None:
        """Give a job another priority; 0 is none, and before all others.

        One that waits goes behind all that have it, or in front of them when ``lifo``.
        Raises: JobNotFound.
        """
        checked_text("job_id", job_id)
        priority, is_first = checked_priority("priority", priority), checked_flag("lifo", lifo)
        await change_job.change_priority(
            await self._connected(), self._keys, job_id, priority=priority, is_first=is_first
        )

    async def retry(
        self,
        job_id: str,
        state: str = "failed",
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """Let a failed, or completed, job wait again.

        Without ``reset_attempts_made`` a job whose attempts are used up has one more.
        Raises: JobNotFound, JobNotInState.
        """
        checked_text("job_id", job_id)
        checked = bulk.checked_state(state, bulk.FINISHED_STATES)
        resets = bulk.checked_resets(
            reset_attempts_made=reset_attempts_made, reset_attempts_started=reset_attempts_started
        )
        broker = await self._connected()
        await change_job.retry(broker, self._keys, job_id, state=checked, resets=resets)

    async def update_job_data(self, job_id: str, data: Any) -> None:
        """Replace a job's data, any JSON. Raises: JobNotFound."""
        await self._update(job_id, "data", json_text(data, "data"))

    async def update_job_progress(self, job_id: str, progress: Any) -> None:
        """Say how far a job is, any JSON. Raises: JobNotFound."""
        await self._update(job_id, "progress", json_text(progress, "progress"))

    async def add_job_log(self, job_id: str, line: str, *, keep_logs: int | None = None) -> int:
        """Add a line to a job's log, of which ``keep_logs`` stay; return how many it has.

        Raises: JobNotFound.
        """
        if line != "":
            checked_text("line", line)
        keep = checked_whole("keep_logs", keep_logs or 0)
        await self._update(job_id, "log", line, keep_logs=keep)
        return await change_job.count_logs(await self._connected(), self._keys, job_id)

    async def clear_job_logs(self, job_id: str, *, keep_logs: int = 0) -> None:
        """Remove all but the newest ``keep_logs`` lines of a job's log."""
        checked_text("job_id", job_id)
        keep = checked_whole("keep_logs", keep_logs)
        await change_job.clear_logs(await self._connected(), self._keys, job_id, keep=keep)

    async def _update(self, job_id: str, kind: str, payload: str, *, keep_logs: int = 0) -> None:
        checked_text("job_id", job_id)
        broker = await self._connected()
        await change_job.update(broker, self._keys, job_id, kind, payload, keep_logs=keep_logs)

    # ── deduplication ────────────────────────────────────────────────────────

    async def deduplication_job_id(self, deduplication_id: str) -> str | None:
        """Return the id of the job because of which such jobs are not added, None when none is."""
        checked_text("deduplication_id", deduplication_id)
        return await change_job.deduplicated_job_id(
            await self._connected(), self._keys, deduplication_id
        )

    async def remove_deduplication_key(
        self, deduplication_id: str, *, job_id: str | None = None
    ) -> bool:
        """Let the next add with this id add a job; False when it would have anyway.

        With ``job_id``, only if that is the job because of which it would not.
        """
        checked_text("deduplication_id", deduplication_id)
        return await change_job.release_deduplication(
            await self._connected(), self._keys, deduplication_id, job_id=job_id
        )
