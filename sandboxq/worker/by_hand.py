"""Jobs that their caller runs itself: claimed one at a time, settled by a method of the job.

ByHand.next_job ─► claim ─► HeldJob ──► move_to_completed, move_to_failed, … ─► settle
                               └──► extend_lock: nobody else renews it
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from sandboxq.broker.claim import claim
from sandboxq.broker.codec import json_text, ms_from_seconds, options_from_wire
from sandboxq.broker.extend import extend
from sandboxq.broker.jobs import job_of
from sandboxq.broker.report import Report, report
from sandboxq.broker.settle import Settlement, settle
from sandboxq.child.failure import failure_from
from sandboxq.child.frames import UNRECOVERABLE
from sandboxq.errors import (
    JobHasFailedChildren,
    JobNotFound,
    JobNotInState,
    JobPendingChildren,
    LockMismatch,
    LockMissing,
    OptionsUnreadable,
    QueueError,
)
from sandboxq.job import Job
from sandboxq.limits import LONGEST_WAIT, positive_seconds, seconds_from
from sandboxq.outcome import (
    ChildrenAwaited,
    Completed,
    Failed,
    HandBack,
    HandedBack,
    Postponed,
    Retention,
    RetryRules,
    decide,
)
from sandboxq.worker.claimer import LONGEST_DELAY_WAIT, refusal_of
from sandboxq.worker.scheduler import SchedulerKeeper

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.broker.claim import Claim, ClaimedJob
    from sandboxq.broker.reader import BlockingReader
    from sandboxq.outcome import Outcome
    from sandboxq.worker.context import WorkerContext

# What the scripts answer (bullmq-wire.md 3.1).
_ERRORS: dict[int, tuple[type[QueueError], str]] = {
    -1: (JobNotFound, "does not exist any more"),
    -2: (LockMissing, "has no lock: it has ended, or was found stalled"),
    -3: (JobNotInState, "is not active any more"),
    -4: (JobPendingChildren, "still waits for children"),
    -6: (LockMismatch, "is locked by somebody else"),
    -9: (JobHasFailedChildren, "has at least one failed child"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldJob(Job):
    """A job that the caller holds until it is moved; its lock must be extended in time.

    Every method raises LockMissing or LockMismatch when the lock is lost, JobNotFound when the job
    is gone, JobNotInState when it is not active. Nothing was written then.
    """

    token: str
    claimed: ClaimedJob = field(repr=False, compare=False)
    hand: ByHand = field(repr=False, compare=False)

    async def move_to_completed(self, value: Any) -> None:
        """End the job with a JSON value.

        Raises: JobPendingChildren, JobHasFailedChildren.
        """
        await self.hand.settle(self, Completed(json_text(value, "the value").encode()))

    async def move_to_failed(self, error: BaseException | str) -> None:
        """Count a failed attempt: the job is tried again as its options say, or has failed."""
        if isinstance(error, str):
            await self.hand.settle(self, Failed(error))
            return
        reason, stack, cause, flags = failure_from(error)
        is_final = bool(flags & UNRECOVERABLE)
        await self.hand.settle(self, Failed(reason, stack, cause, is_unrecoverable=is_final))

    async def move_to_delayed(self, seconds: float | timedelta) -> None:
        """Let the job run again after so long; no attempt counts."""
        delay_ms = ms_from_seconds(seconds_from("seconds", seconds))
        await self.hand.settle(self, Postponed(delay_ms))

    async def move_to_wait(self) -> None:
        """Put the job back in front of its queue; no attempt counts."""
        await self.hand.settle(self, HandedBack(was_started=True))

    async def move_to_waiting_children(self) -> bool:
        """Let the job wait for its children; False, and it is held on, when none is pending.

        Raises: JobHasFailedChildren.
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


class ByHand:
    """Claims and settles single jobs."""

    def __init__(self, context: WorkerContext) -> None:
        """Work on the queue of this context, by its settings."""
        self._broker = context.broker
        self._keys = context.keys
        self._settings = settings = context.settings
        self._retention = Retention(settings.remove_on_complete, settings.remove_on_fail)
        self._rules = RetryRules(settings.backoff_strategies, settings.max_started_attempts)
        self._scheduler_keeper = SchedulerKeeper(context)
        self._reader: BlockingReader | None = None
        # What was claimed for callers who were cancelled, on its way back.
        self._giving_back: set[asyncio.Task[None]] = set()

    async def next_job(self, token: str | None, timeout: float) -> HeldJob | None:
        """Claim a job under ``token``; wait for one for at most so many seconds."""
        token = token or str(uuid.uuid4())
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while True:
            found = await self._claim(token)
            for job in found.jobs:
                held = await self._taken_or_given_back(found, job, token)
                if held is not None:
                    return held
            if found.jobs:
                # It had to fail, or was gone: others may be behind it.
                continue
            left = deadline - clock()
            if left <= 0:
                return None
            await self._wait(found, left)

    async def settle(self, job: HeldJob, outcome: Outcome) -> None:
        """Write how the job goes on."""
        transition = decide(
            outcome,
            job.opts,
            attempts_made=job.claimed.attempts_made,
            attempts_started=job.claimed.attempts_started,
            retention=self._retention,
            rules=self._rules,
        )
        (code,) = await settle(
            self._broker,
            self._keys,
            [Settlement(job.id.encode(), job.token.encode(), transition)],
            now_ms=await self._broker.now_ms(),
            metrics_points=self._settings.metrics_points,
        )
        self._check(job, code)

    async def has_pending_children(self, job: HeldJob) -> bool:
        """Tell whether a child of the job has not ended."""
        return bool(await self._broker.command("EXISTS", self._keys[f"{job.id}:dependencies"]))

    async def extend(self, job: HeldJob, seconds: float | None) -> None:
        """Renew the job's lock."""
        lock_ms = self._settings.lock_ms if seconds is None else ms_from_seconds(seconds)
        pair = (job.id.encode(), job.token.encode())
        if await extend(self._broker, self._keys, [pair], lock_ms=lock_ms):
            message = f"job {job.id} is not locked by {job.token!r} any more"
            raise LockMissing(message)

    async def report(self, job: HeldJob, kind: str, text: str) -> None:
        """Write progress, data or a log line."""
        keep_logs = job.opts.keep_logs or 0
        payload = text.encode("utf-8", "backslashreplace")
        row = Report(job.id.encode(), job.token.encode(), kind, payload, keep_logs)
        (code,) = await report(self._broker, self._keys, [row])
        self._check(job, code)

    async def close(self) -> None:
        """Close the connection that waits; twice is harmless."""
        await asyncio.gather(*self._giving_back)
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await reader.close()

    async def _claim(self, token: str) -> Claim:
        limiter = self._settings.limiter
        asking = claim(
            self._broker,
            self._keys,
            limit=1,
            token=token,
            lock_ms=self._settings.lock_ms,
            now_ms=await self._broker.now_ms(),
            worker_name=self._settings.name,
            limiter=None if limiter is None else (limiter.max, limiter.duration_ms),
        )
        claiming = asyncio.ensure_future(asking)
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # What Redis hands out all the same nobody would know of until it is found stalled.
            self._give_back_soon(claiming, token)
            raise

    def _give_back_soon(self, claiming: asyncio.Future[Claim], token: str) -> None:
        """Give back what a claim took, or takes; its caller does not wait for that."""
        task = asyncio.create_task(self._give_back(claiming, token))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)

    async def _give_back(self, claiming: asyncio.Future[Claim], token: str) -> None:
        with contextlib.suppress(QueueError):
            jobs = (await claiming).jobs
            rows = [Settlement(job.id, token.encode(), HandBack()) for job in jobs]
            await settle(self._broker, self._keys, rows, now_ms=await self._broker.now_ms())

    async def _taken_or_given_back(
        self, found: Claim, claimed: ClaimedJob, token: str
    ) -> HeldJob | None:
        try:
            return await self._taken(claimed, token)
        except BaseException:
            claiming: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
            claiming.set_result(found)
            self._give_back_soon(claiming, token)
            raise

    async def _taken(self, claimed: ClaimedJob, token: str) -> HeldJob | None:
        """Return the job as its caller gets it; None when it had to fail, or is gone already."""
        job = await job_of(self._broker, self._keys, claimed.id.decode())
        if job is None:
            return None
        members = {each.name: getattr(job, each.name) for each in fields(Job)}
        held = HeldJob(**members, token=token, claimed=claimed, hand=self)
        if claimed.scheduler_id:
            # When that cannot be, whoever claims it next keeps its scheduler going.
            await self._scheduler_keeper.advance([claimed])
        refusal = refusal_of(claimed, self._settings.max_started_attempts) or _unreadable(claimed)
        if not refusal:
            return held
        await self.settle(held, Failed(refusal, is_unrecoverable=True))
        return None

    async def _wait(self, found: Claim, left: float) -> None:
        if found.rate_limit_ms:
            await asyncio.sleep(min(found.rate_limit_ms / 1000, left))
            return
        if found.next_delayed_ms:
            due = (found.next_delayed_ms - await self._broker.now_ms()) / 1000
            left = min(left, max(due, 0.001), LONGEST_DELAY_WAIT)
        if self._reader is None:
            self._reader = await self._broker.blocking(self._keys.client_name, self._keys["marker"])
        try:
            await self._wait_for_marker(self._reader, left)
        except asyncio.CancelledError:
            # It may have taken the marker with it; a needless one harms nobody.
            with contextlib.suppress(QueueError):
                await self._broker.command("ZADD", self._keys["marker"], 0, "0")
            raise

    async def _wait_for_marker(self, reader: BlockingReader, left: float) -> None:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + left
        while left > 0:
            score = await reader.pop_marker(self._keys["marker"], left)
            if not score:
                return
            # That of a delayed job says when it is due; until then others may come.
            due = (score - await self._broker.now_ms()) / 1000
            ends_at = min(ends_at, clock() + due)
            left = ends_at - clock()

    def _check(self, job: HeldJob, code: int) -> None:
        if code:
            kind, what = _ERRORS.get(code, (QueueError, f"was refused with code {code}"))
            message = f"job {job.id} of queue {self._keys.queue} {what}"
            raise kind(message)


def _unreadable(claimed: ClaimedJob) -> str:
    try:
        options_from_wire(claimed.opts)
    except OptionsUnreadable as error:
        return str(error)
    return ""
