"""Samples jobs of this worker that somebody asks for: one that runs, or the next of a name.

    control channel ──► now ───────────────────────────► Profiles of the pool ──► report
                    └─► reload ──► wanted, by name          ▲
    Claimer ──calls──► submit_all ──► pool, and those that are wanted

While nothing is wanted, calls go to the pool directly: a job costs nothing more.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.profiles import next_wanted, take_run
from sandboxq.errors import BrokerUnavailable, QueueError, SandboxqError
from sandboxq.pool.calls import CallState
from sandboxq.pool.profile_table import Asked
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from sandboxq.broker.commands.profiles import NextRuns
    from sandboxq.broker.commands.workers import ProfileRequest
    from sandboxq.model.profile import Sampling
    from sandboxq.pool.calls import Call
    from sandboxq.pool.pool import Pool
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.blob_transfer import BlobTransfer
    from sandboxq.worker.claimer import Claimer
    from sandboxq.worker.context import WorkerContext

# Seconds: how often it is asked whether a child has got a job by now.
_LOOK_SECONDS = 0.005
# Jobs of a name that are waited for at once: those in children and, ahead of them, a few more.
_MOST_WAITING = 32


class WorkerProfiles:
    """What is to be sampled of the jobs of one worker."""

    def __init__(
        self, context: WorkerContext, pool: Pool, claimer: Claimer, blobs: BlobTransfer
    ) -> None:
        """Sample jobs that ``claimer`` and ``blobs`` give to ``pool``."""
        self._broker = context.broker
        self._keys = context.keys
        self._held = context.held
        self._worker = context.settings.name
        self._pool = pool
        self._claimer = claimer
        self._blobs = blobs
        self._wanted: dict[bytes, NextRuns] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._seldom = Seldom()

    async def now(self, request: ProfileRequest) -> dict[str, Any]:
        """Begin to sample a running job; say whether it is here, and why it cannot be sampled."""
        attempt = self._held.get(request.job_id.encode(errors="surrogateescape"))
        if attempt is None:
            return {"has_it": False, "error": ""}
        if attempt.call is None:
            return {"has_it": True, "error": "it has not begun: its data is still being read"}
        meta = self._meta(attempt, request.profile_id, request.sampling)
        error = self._pool.profiles.begin(
            attempt.call, _asked(request.sampling, request.seconds, meta)
        )
        return {"has_it": True, "error": error}

    async def reload(self) -> None:
        """Read of which names the next runs are to be sampled. Raises: BrokerUnavailable.

        What cannot be read, or may not be by this user, asks for nothing.
        """
        wanted: dict[bytes, NextRuns] = {}
        try:
            wanted = await next_wanted(self._broker, self._keys)
        except BrokerUnavailable:
            raise
        except QueueError as error:
            self._seldom.warn("which jobs are to be sampled cannot be read", error)
        self._want(wanted)

    def close(self) -> None:
        """Wait for no more jobs."""
        self._want({})
        for task in self._tasks:
            task.cancel()

    def _want(self, wanted: dict[bytes, NextRuns]) -> None:
        self._wanted = wanted
        pool, is_any = self._pool, bool(wanted)
        self._claimer.submit_all = self._submit_all if is_any else pool.submit_all
        self._blobs.deliver = self._submit if is_any else pool.submit

    def _submit(self, call: Call) -> None:
        self._pool.submit(call)
        self._look_at([call])

    def _submit_all(self, calls: list[Call]) -> None:
        self._pool.submit_all(calls)
        self._look_at(calls)

    def _look_at(self, calls: list[Call]) -> None:
        now_ms = self._broker.time.now_ms()
        late = [name for name, wanted in self._wanted.items() if wanted.ends_ms <= now_ms]
        if late:
            self._want({name: it for name, it in self._wanted.items() if name not in late})
        for call in calls:
            name = call.context.job.name
            wanted = self._wanted.get(name)
            if wanted is not None and len(self._tasks) < min(wanted.runs, _MOST_WAITING):
                task = asyncio.create_task(self._sample(call, name, wanted))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _sample(self, call: Call, name: bytes, wanted: NextRuns) -> None:
        """Sample a job from when a child has it, if one of the runs is left for it."""
        try:
            while call.state in (CallState.NEW, CallState.RESERVED):  # noqa: ASYNC110 - no hook
                await asyncio.sleep(_LOOK_SECONDS)
            if call.state is CallState.ENDED or name not in self._wanted:
                return
            meta = self._meta(call.context, uuid.uuid4().hex, wanted.sampling)
            if self._pool.profiles.begin(call, _asked(wanted.sampling, 0.0, meta)):
                return
            now_ms = self._broker.time.now_ms()
            if not await take_run(self._broker, self._keys, name, now_ms=now_ms):
                self._pool.profiles.stop(call)
                self._want({key: it for key, it in self._wanted.items() if key != name})
        except SandboxqError as error:
            self._pool.profiles.stop(call)
            self._seldom.warn("a job that was to be sampled is not", error)

    def _meta(self, attempt: Attempt, profile_id: str, sampling: Sampling) -> dict[str, Any]:
        job = attempt.job
        return {
            "id": profile_id,
            "job_id": job.id.decode(errors="replace"),
            "name": job.name.decode(errors="replace")[:200],
            "attempt": job.attempts_made + 1,
            "worker": self._worker,
            "at": round(time.time(), 3),
            "clock": sampling.clock,
            "hz": sampling.hz,
        }


def _asked(sampling: Sampling, seconds: float, meta: dict[str, Any]) -> Asked:
    return Asked(sampling.hz, seconds, sampling.clock == "cpu", meta)
