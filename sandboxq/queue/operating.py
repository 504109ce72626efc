"""The operating half of a queue: what is done to it and to all jobs of a state."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sandboxq.broker import (
    cancel,
    meta,
    pause,
    remove,
)
from sandboxq.broker.usage import read_usage
from sandboxq.limits import (
    checked_flag,
    checked_text,
    checked_whole,
    waiting_seconds,
)
from sandboxq.queue import bulk
from sandboxq.queue.of_queue import OfQueue

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.job import UsageTotals
    from sandboxq.queue.bulk import Progress


class Operating(OfQueue):
    """What operators do to a queue."""

    async def pause(self) -> None:
        """Let no worker claim any more; jobs can still be added."""
        await pause.pause(await self._connected(), self._keys)

    async def resume(self) -> None:
        """Undo ``pause``."""
        await pause.resume(await self._connected(), self._keys)

    async def is_paused(self) -> bool:
        """Tell whether the queue is paused."""
        return await pause.is_paused(await self._connected(), self._keys)

    async def remove(self, job_id: str, *, with_children: bool = True) -> bool:
        """Remove a job wherever it is, and its children; False means that there is none.

        Raises: JobLocked when it, or a child that has not finished, is being processed;
        JobBelongsToScheduler. Nothing was removed then.
        """
        checked_text("job_id", job_id)
        checked_flag("with_children", with_children)
        broker = await self._connected()
        return await remove.remove(broker, self._keys, job_id, with_children=with_children)

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
        return await cancel.cancel(
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
        await pause.pause(broker, self._keys)
        await remove.obliterate(broker, self._keys, force=force)

    async def usage(self) -> UsageTotals:
        """Return what sandboxq's workers have used for this queue's jobs; seconds late."""
        return await read_usage(await self._connected(), self._keys)

    async def remove_deprecated_priority_key(self) -> bool:
        """Remove the ``priority`` key of BullMQ before 4.0; False when there is none."""
        return await meta.remove_deprecated_priority_key(await self._connected(), self._keys)

    async def set_max_events(self, count: int) -> None:
        """Let the queue's event stream keep about so many events from now on; 10,000 is usual.

        A Queue of Node that is made later writes its own number (``streams.events.maxLen``).
        """
        checked_whole("count", count)
        await meta.set_max_events(await self._connected(), self._keys, count)

    async def trim_events(self, max_length: int) -> int:
        """Shorten the event stream to about so many entries; return how many went."""
        checked_whole("max_length", max_length)
        return await meta.trim_events(await self._connected(), self._keys, max_length)

    # ── all jobs of a state ─────────────────────────────────────────────────
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
        """Remove jobs of a state that nobody touched for ``grace``, oldest first; return their ids.

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

        Walks over the whole database. Unlike Node's, it takes nothing for a job that is none.
        """
        broker = await self._connected()
        return await bulk.remove_orphaned_jobs(broker, self._keys, limit=limit, progress=progress)
