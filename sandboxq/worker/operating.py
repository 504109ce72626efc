"""The methods of a started worker: its parts, scaling, reload, cancelling jobs."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from sandboxq.config import MOST_CHILDREN
from sandboxq.errors import JobCancelled, UsageError
from sandboxq.model.validation import checked_text, checked_whole, waiting_seconds
from sandboxq.worker.attempt import AttemptState

if TYPE_CHECKING:
    import asyncio
    from datetime import timedelta

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.config import WorkerSettings
    from sandboxq.pool.kinds import Kind
    from sandboxq.pool.pool import Pool
    from sandboxq.sandbox.policy import Policy
    from sandboxq.sandbox.support import Cores
    from sandboxq.worker.assembly import Assembly
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import HeldJobs, Membership
    from sandboxq.worker.counters import Counters
    from sandboxq.worker.manual import ManualJobs
    from sandboxq.worker.manual_job import HeldJob
    from sandboxq.worker.service import Service, Shared

# Seconds that cancelled code has to end by itself.
GRACE = 5.0
_BY_WORKER = "cancelled by its worker"
_CANCELLABLE = (AttemptState.CLAIMED, AttemptState.RUNNING, AttemptState.ANSWERED)


class Operating:
    """The part of a Worker that depends only on whether it was started."""

    keys: QueueKeys
    processor: str
    settings: WorkerSettings
    policy: Policy
    kind: Kind
    kind_notes: tuple[str, ...]
    cores: Cores
    counters: Counters
    _held: HeldJobs
    _room: asyncio.Event
    _broker: Broker | None
    _parts: Assembly | None
    _by_hand: ManualJobs | None
    _membership: Membership | None
    _reloading: Shared
    _claiming: Service | None
    _failure: Exception | None
    _ended: asyncio.Event

    @property
    def failure(self) -> Exception | None:
        """Why it could not start, or has ended, if it was an error."""
        return self._failure

    @property
    def is_connected(self) -> bool:
        """Whether it was connected: it has been started, perhaps closed since."""
        return self._broker is not None

    @property
    def is_running(self) -> bool:
        """Whether it runs jobs: ``run`` was called. True also while it stops."""
        return self._claiming is not None

    @property
    def is_stopping(self) -> bool:
        """Whether it claims no more, for good."""
        return self._ended.is_set()

    @property
    def name(self) -> str:
        """The worker's name for people: as set, else host and process id."""
        return self.settings.name or f"{socket.gethostname()}:{os.getpid()}"

    @property
    def is_limited(self) -> bool:
        """Whether it waits for the rate limit of its queue."""
        return self._parts is not None and self._parts.claimer.is_limited

    @property
    def procs(self) -> int:
        """The number of children to start with."""
        if self.settings.procs != "auto":
            return self.settings.procs
        return self.cores.number if self._membership is None else self._membership.procs

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that running jobs have to finish when it is stopped."""
        return self.settings.shutdown_timeout

    def join(self, membership: Membership) -> None:
        """Take part in a group, before it is started: see WorkerGroup."""
        self._membership = membership

    @property
    def broker(self) -> Broker:
        """The connection; only after ``start``."""
        if self._broker is None:
            raise _not_started()
        return self._broker

    @property
    def parts(self) -> Assembly:
        """What it consists of; only after ``start``."""
        if self._parts is None:
            raise _not_started()
        return self._parts

    @property
    def pool(self) -> Pool:
        """The children; only after ``start``."""
        return self.parts.pool

    @property
    def running(self) -> int:
        """Jobs whose locks this worker holds."""
        return len(self._held)

    async def scale(self, procs: int) -> int:
        """Have ``procs`` children from now on; children in excess finish their job first."""
        await self.pool.resize(checked_whole("procs", procs, least=1, limit=MOST_CHILDREN))
        self._room.set()
        return self.pool.size

    async def reload(self) -> None:
        """Import the processor anew, and replace the children one by one; no job is disturbed.

        Returns when all children that take jobs have the new code; those before may still finish a
        job. Asked meanwhile, by however many, it happens once more afterwards.
        Raises: ProcessorNotLoaded, ChildStartFailed, UsageError: the new code cannot be run, or the
        children are threads; the code before runs on.
        """
        await self._reloading.run()

    async def get_next_job(
        self, token: str | None = None, *, timeout: float | timedelta = 0.0
    ) -> HeldJob | None:
        """Claim a job for code that runs it itself; None when there was none for so long.

        ``token`` locks it, for ``lock_duration``: extend the lock in time, and end the job with one
        of its ``move_to`` methods. A job that must fail without being run is failed on the way.
        Raises: UsageError, also when the worker was not started.
        """
        if self._by_hand is None:
            raise _not_started()
        if token is not None:
            checked_text("token", token)
        return await self._by_hand.next_job(token, waiting_seconds("timeout", timeout))

    def cancel(
        self, job_id: str, reason: str = _BY_WORKER, *, grace: float | timedelta = GRACE
    ) -> bool:
        """End a job that this worker has, else return False; see Queue.cancel for others.

        Its code is told, and killed when it has not ended ``grace`` seconds later; what has not
        begun fails at once. It fails as JobCancelled with ``reason`` and is not tried again.
        """
        seconds = waiting_seconds("grace", grace)
        attempt = self._held.get(job_id.encode(errors="surrogateescape"))
        return attempt is not None and self._cancelled(attempt, reason, seconds)

    def cancel_all(
        self, reason: str = _BY_WORKER, *, grace: float | timedelta = GRACE
    ) -> list[str]:
        """End every job that this worker has; return their ids."""
        seconds = waiting_seconds("grace", grace)
        return [
            attempt.job.id.decode(errors="replace")
            for attempt in list(self._held.values())
            if self._cancelled(attempt, reason, seconds)
        ]

    def _cancelled(self, attempt: Attempt, reason: str, grace: float) -> bool:
        if attempt.state not in _CANCELLABLE or attempt.call is None:
            return False
        self.pool.cancel_call(attempt.call, JobCancelled(reason), grace=grace)
        return True


def _not_started() -> UsageError:
    return UsageError("the worker was not started")
