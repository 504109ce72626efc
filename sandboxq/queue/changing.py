"""What is done to one job of a queue, whoever runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.broker import (
    change,
    deduplicated,
)
from sandboxq.broker.codec import json_text, ms_from_seconds
from sandboxq.limits import (
    checked_flag,
    checked_priority,
    checked_text,
    checked_whole,
    seconds_from,
)
from sandboxq.queue import bulk
from sandboxq.queue.of_queue import OfQueue

if TYPE_CHECKING:
    from datetime import timedelta


class Changing(OfQueue):
    """Changes to single jobs and to what keeps jobs from being added."""

    async def promote(self, job_id: str) -> None:
        """Let a delayed job wait from now on. Raises: JobNotFound, JobNotInState."""
        checked_text("job_id", job_id)
        await change.promote(await self._connected(), self._keys, job_id)

    async def change_delay(self, job_id: str, delay: float | timedelta) -> None:
        """Let a delayed job wait so long from now. Raises: JobNotFound, JobNotInState."""
        checked_text("job_id", job_id)
        delay_ms = ms_from_seconds(seconds_from("delay", delay))
        broker = await self._connected()
        now_ms = await broker.now_ms()
        await change.change_delay(broker, self._keys, job_id, delay_ms=delay_ms, now_ms=now_ms)

    async def change_priority(self, job_id: str, priority: int, *, lifo: bool = False) -> None:
        """Give a job another priority; 0 is none, and before all others.

        One that waits goes behind all that have it, or in front of them when ``lifo``.
        Raises: JobNotFound.
        """
        checked_text("job_id", job_id)
        priority, is_first = checked_priority("priority", priority), checked_flag("lifo", lifo)
        await change.change_priority(
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
        await change.retry(broker, self._keys, job_id, state=checked, resets=resets)

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
        return await change.count_logs(await self._connected(), self._keys, job_id)

    async def clear_job_logs(self, job_id: str, *, keep_logs: int = 0) -> None:
        """Remove all but the newest ``keep_logs`` lines of a job's log."""
        checked_text("job_id", job_id)
        keep = checked_whole("keep_logs", keep_logs)
        await change.clear_logs(await self._connected(), self._keys, job_id, keep=keep)

    async def _update(self, job_id: str, kind: str, payload: str, *, keep_logs: int = 0) -> None:
        checked_text("job_id", job_id)
        broker = await self._connected()
        await change.update(broker, self._keys, job_id, kind, payload, keep_logs=keep_logs)

    # ── deduplication ───────────────────────────────────────────────────────

    async def deduplication_job_id(self, deduplication_id: str) -> str | None:
        """Return the id of the job because of which such jobs are not added, None when none is."""
        checked_text("deduplication_id", deduplication_id)
        return await deduplicated.job_id_of(await self._connected(), self._keys, deduplication_id)

    async def remove_deduplication_key(
        self, deduplication_id: str, *, job_id: str | None = None
    ) -> bool:
        """Let the next add with this id add a job; False when it would have anyway.

        With ``job_id``, only if that is the job because of which it would not.
        """
        checked_text("deduplication_id", deduplication_id)
        return await deduplicated.release(
            await self._connected(), self._keys, deduplication_id, job_id=job_id
        )
