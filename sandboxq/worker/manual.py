"""Jobs that their caller runs itself: claimed one at a time, settled by a method of the job.

ManualJobs.next_job ─► claim ─► HeldJob ──► move_to_completed, move_to_failed, … ─► settle
                               └──► extend_lock: nobody else renews it
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import fields
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from sandboxq.broker.codec import ms_from_seconds, options_from_wire
from sandboxq.broker.commands.attempts import Refusal, Report, Settlement, extend, report, settle
from sandboxq.broker.commands.claim import claim, locked_by
from sandboxq.broker.commands.jobs import job_of
from sandboxq.errors import (
    BrokerUnavailable,
    JobHasFailedChildren,
    JobNotFound,
    JobNotInState,
    JobPendingChildren,
    LockMismatch,
    LockMissing,
    OptionsUnreadable,
    QueueError,
)
from sandboxq.model.job import StoredJob
from sandboxq.model.outcome import (
    Failed,
    HandBack,
    Retention,
    RetryRules,
    decide,
)
from sandboxq.observe.telemetry import JobClaimed, JobProgressed, JobsClaimed
from sandboxq.worker.attempt import Announcer, Attempt
from sandboxq.worker.claimer import LONGEST_DELAY_WAIT, refusal_of
from sandboxq.worker.claims import give_back
from sandboxq.worker.manual_job import HeldJob
from sandboxq.worker.scheduler import SchedulerAdvancer

if TYPE_CHECKING:
    from sandboxq.broker.commands.claim import Claim, ClaimedJob
    from sandboxq.broker.connect.blocking import BlockingReader
    from sandboxq.model.outcome import Outcome
    from sandboxq.worker.context import WorkerContext

# What the scripts answer (protocol.md 3.1).
_NOT_FOUND = -1
_FAILED_CHILD = -9
# It has ended, unless another worker has taken it.
_GONE = (-1, -2)
# The caller still has the job.
_HELD_ON = (-4, _FAILED_CHILD)
_ERRORS: dict[int, tuple[type[QueueError], str]] = {
    -1: (JobNotFound, "does not exist any more"),
    -2: (LockMissing, "has no lock: it has ended, or was found stalled"),
    -3: (JobNotInState, "is not active any more"),
    -4: (JobPendingChildren, "still waits for children"),
    -6: (LockMismatch, "is locked by somebody else"),
    -9: (JobHasFailedChildren, "has at least one failed child"),
}


class ManualJobs:
    """Claims and settles single jobs."""

    def __init__(self, context: WorkerContext) -> None:
        """Work on the queue of this context, by its settings."""
        self._context = context
        self._broker = context.broker
        self._keys = context.keys
        self._settings = settings = context.settings
        self._telemetry = context.telemetry
        self._announcer = Announcer(context.telemetry, context.keys.queue)
        self._retention = Retention(settings.remove_on_complete, settings.remove_on_fail)
        self._rules = RetryRules(settings.backoff_strategies, settings.max_started_attempts)
        self._scheduler_advancer = SchedulerAdvancer(context)
        self._reader: BlockingReader | None = None
        # Jobs claimed for callers that were cancelled, on their way back.
        self._giving_back: set[asyncio.Task[None]] = set()
        # Claims whose reply was lost, and what callers have still: a token may be used for both.
        self._lost_tokens: list[str] = []
        self._given: WeakValueDictionary[bytes, Attempt] = WeakValueDictionary()

    async def next_job(self, token: str | None, timeout: float) -> HeldJob | None:
        """Claim a job under ``token``; wait for one for at most so many seconds."""
        token = token or str(uuid.uuid4())
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while True:
            await self._give_back_lost()
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
        job.attempt.seconds = asyncio.get_running_loop().time() - job.claimed_at
        self._check(job.id, await self._settled(job.attempt, outcome))

    async def settle_and_go_on(
        self, job: HeldJob, outcome: Outcome, *, fetch_next: bool
    ) -> HeldJob | None:
        """Write how the job goes on; return the next job if that is wanted and one waits."""
        await self.settle(job, outcome)
        return await self.next_job(job.token, 0.0) if fetch_next else None

    async def _settled(self, attempt: Attempt, outcome: Outcome) -> int:
        transition = decide(
            outcome,
            attempt.options,
            attempts_made=attempt.job.attempts_made,
            attempts_started=attempt.job.attempts_started,
            retention=self._retention,
            rules=self._rules,
        )
        row = Settlement(attempt.job.id, attempt.token, transition)
        try:
            (code,) = await settle(
                self._broker,
                self._keys,
                [row],
                now_ms=await self._broker.now_ms(),
                metrics_points=self._settings.metrics_points,
            )
        except BrokerUnavailable:
            attempt.tries += 1
            raise
        if code in _GONE and attempt.tries and await self._has_ended(attempt):
            code = 0  # by the try before this one, whose answer was lost
        if code not in _HELD_ON:
            self._given.pop(attempt.job.id, None)
        if not code:
            self._announcer.tell_settled([(attempt, transition)])
        return code

    async def _has_ended(self, attempt: Attempt) -> bool:
        """Tell whether this very attempt has ended its job, or the job is gone."""
        key = self._keys.base.encode() + attempt.job.id
        started, finished_on = await self._broker.command("HMGET", key, "ats", "finishedOn")
        is_same = started == str(attempt.job.attempts_started).encode() and finished_on is not None
        return is_same or started is None

    async def has_pending_children(self, job: HeldJob) -> bool:
        """Tell whether a child of the job has not ended.

        Raises: as Node does, JobNotFound or JobHasFailedChildren.
        """
        key = self._keys[job.id]
        names = (key, f"{key}:unsuccessful", f"{key}:dependencies")
        exists, has_failed, is_pending = await self._broker.pipeline(
            [("EXISTS", name) for name in names]
        )
        if not exists:
            self._check(job.id, _NOT_FOUND)
        if has_failed:
            self._check(job.id, _FAILED_CHILD)
        return bool(is_pending)

    async def extend(self, job: HeldJob, seconds: float | None) -> None:
        """Renew the job's lock."""
        lock_ms = self._settings.lock_ms if seconds is None else ms_from_seconds(seconds)
        lock = (job.attempt.job.id, job.attempt.token, b"")
        if await extend(self._broker, self._keys, [lock], lock_ms=lock_ms):
            message = f"job {job.id} is not locked by {job.token!r} any more"
            raise LockMissing(message)

    async def report(self, job: HeldJob, kind: str, text: str) -> None:
        """Write progress, data or a log line."""
        keep_logs = job.opts.keep_logs or 0
        payload = text.encode("utf-8", "backslashreplace")
        row = Report(job.attempt.job.id, job.attempt.token, kind, payload, keep_logs)
        (code,) = await report(self._broker, self._keys, [row])
        self._check(job.id, code)
        if kind == "progress":
            self._telemetry.emit(JobProgressed(job.id, payload))

    async def close(self) -> None:
        """Give back jobs that no caller got, and close the connection; twice is harmless."""
        await asyncio.gather(*self._giving_back)
        with contextlib.suppress(QueueError):
            await self._give_back_lost()
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
        except BaseException:
            self._lost_tokens.append(token)
            raise

    async def _give_back_lost(self) -> None:
        """Give back what claims took whose reply was lost, or could not be read."""
        while self._lost_tokens:
            token = self._lost_tokens[0]
            found = await locked_by(self._broker, self._keys, [token])
            lost = [(i, token.encode()) for i in reversed(found) if not self._has_given(i, token)]
            await give_back(self._context, lost)
            del self._lost_tokens[0]

    def _has_given(self, job_id: bytes, token: str) -> bool:
        attempt = self._given.get(job_id)
        return attempt is not None and attempt.token == token.encode()

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
        attempt = Attempt(claimed, token.encode())
        if claimed.scheduler_id:
            # When that cannot be, whoever claims it next keeps its scheduler going.
            await self._scheduler_advancer.advance([claimed])
        refusal = refusal_of(claimed, self._settings.max_started_attempts) or _read(attempt)
        if refusal:
            await self._settled(attempt, Failed(refusal, is_unrecoverable=True))
            return None
        job = await job_of(self._broker, self._keys, claimed.id.decode())
        if job is None:
            return None
        self._telemetry.emit(JobsClaimed(1))
        self._telemetry.emit(JobClaimed(job.id, job.name))
        self._given[claimed.id] = attempt
        members = {each.name: getattr(job, each.name) for each in fields(StoredJob)}
        now = asyncio.get_running_loop().time()
        return HeldJob(**members, token=token, attempt=attempt, hand=self, claimed_at=now)

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

    def _check(self, job_id: str, code: int | QueueError) -> None:
        if isinstance(code, QueueError):
            raise code
        if isinstance(code, Refusal):
            raise code.error
        if code:
            kind, what = _ERRORS.get(code, (QueueError, f"was refused with code {code}"))
            message = f"job {job_id} of queue {self._keys.queue} {what}"
            raise kind(message)


def _read(attempt: Attempt) -> str:
    """Read the job's options; return why it cannot be given to anybody, or nothing."""
    try:
        attempt.job.id.decode()
        attempt.options = options_from_wire(attempt.job.opts)
    except OptionsUnreadable as error:
        return str(error)
    except UnicodeDecodeError:
        return f"the job's id {attempt.job.id!r} is not UTF-8"
    return ""
