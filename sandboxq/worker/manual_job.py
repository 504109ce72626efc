"""A job that its caller runs itself, and the ways in which it may go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sandboxq.broker.codec import json_text, ms_from_seconds
from sandboxq.child.failure import failure_from
from sandboxq.child.frames import UNRECOVERABLE
from sandboxq.model.job import StoredJob
from sandboxq.model.outcome import (
    ChildrenAwaited,
    Completed,
    Failed,
    HandedBack,
    Postponed,
)
from sandboxq.model.validation import LONGEST_WAIT, positive_seconds, seconds_from

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.model.outcome import Outcome
    from sandboxq.worker.attempt import Attempt


class Hand(Protocol):
    """Writes how a job goes on."""

    async def settle(self, job: HeldJob, outcome: Outcome) -> None:
        """Write how the job goes on."""

    async def settle_and_go_on(
        self, job: HeldJob, outcome: Outcome, *, fetch_next: bool
    ) -> HeldJob | None:
        """Write how the job goes on; return the next job if that is wanted and one waits."""

    async def has_pending_children(self, job: HeldJob) -> bool:
        """Tell whether a child of the job has not ended."""

    async def extend(self, job: HeldJob, seconds: float | None) -> None:
        """Renew the job's lock."""

    async def report(self, job: HeldJob, kind: str, text: str) -> None:
        """Write progress, data or a log line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldJob(StoredJob):
    """A job that the caller holds until it is moved; its lock must be extended in time.

    Every method raises LockMissing or LockMismatch when the lock is lost, JobNotFound when the job
    is gone, JobNotInState when it is not active. Nothing was written then.
    """

    token: str
    attempt: Attempt = field(repr=False, compare=False)
    hand: Hand = field(repr=False, compare=False)
    claimed_at: float = field(repr=False, compare=False)

    async def move_to_completed(self, value: Any, *, fetch_next: bool = False) -> HeldJob | None:
        """End the job with a JSON value; with ``fetch_next`` return the next one, if one waits.

        It is claimed under the same token. Raises: JobPendingChildren, JobHasFailedChildren.
        """
        outcome = Completed(json_text(value, "the value").encode())
        return await self.hand.settle_and_go_on(self, outcome, fetch_next=fetch_next)

    async def move_to_failed(
        self, error: BaseException | str, *, fetch_next: bool = False
    ) -> HeldJob | None:
        """Count a failed attempt: the job is tried again as its options say, or has failed.

        With ``fetch_next`` the next job is returned, as by ``move_to_completed``.
        """
        if isinstance(error, str):
            failure = Failed(error)
        else:
            reason, stack, cause, flags = failure_from(error)
            is_final = bool(flags & UNRECOVERABLE)
            failure = Failed(reason, stack, cause, is_unrecoverable=is_final)
        return await self.hand.settle_and_go_on(self, failure, fetch_next=fetch_next)

    async def move_to_delayed(self, seconds: float | timedelta) -> None:
        """Let the job run again after so long; no attempt counts."""
        delay_ms = ms_from_seconds(seconds_from("seconds", seconds))
        await self.hand.settle(self, Postponed(delay_ms))

    async def move_to_wait(self) -> None:
        """Put the job back in front of its queue; no attempt counts."""
        await self.hand.settle(self, HandedBack(was_started=True))

    async def move_to_waiting_children(self) -> bool:
        """Let the job wait for its children; False, and it is held on, when none is pending.

        Raises: JobHasFailedChildren, whatever else is pending.
        """
        if not await self.hand.has_pending_children(self):
            return False
        await self.hand.settle(self, ChildrenAwaited())
        return True

    async def extend_lock(self, duration: float | timedelta | None = None) -> None:
        """Hold the job for so long from now, by default for the worker's ``lock_duration``."""
        if duration is not None:
            duration = positive_seconds("duration", duration, most=LONGEST_WAIT)
        await self.hand.extend(self, duration)

    async def update_progress(self, progress: Any) -> None:
        """Say how far the job is: any JSON."""
        await self.hand.report(self, "progress", json_text(progress, "the progress"))

    async def update_data(self, data: Any) -> None:
        """Replace the job's data: any JSON."""
        await self.hand.report(self, "data", json_text(data, "the data"))

    async def log(self, line: str) -> None:
        """Add a line to the job's log."""
        await self.hand.report(self, "log", line)
