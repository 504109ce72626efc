"""What all parts of one worker share, and the jobs that it owns.

It owns a job from the claim that brought it until nothing of the job is left here.

    claiming ──► hold ──► settled    Redis has taken the outcome, or never will
                   └────► lost ────► gone    somebody else owns the job, and its run has ended

There is no other way in or out. A pause, a stop and the end of a burst wait here until nothing is
held.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.server_info import warn_of_clock
from sandboxq.worker.attempt import ENDED, Attempt, AttemptState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, ValuesView
    from pathlib import Path

    from sandboxq.broker.commands.claim import ClaimedJob
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.config import WorkerSettings
    from sandboxq.model.clock import Clock
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.sandbox.support import Part


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """One queue on one broker, the settings, and the jobs whose locks are held."""

    broker: Broker
    keys: QueueKeys
    settings: WorkerSettings
    held: HeldJobs
    telemetry: Telemetry


class Address(NamedTuple):
    """Where a worker's Redis is, and the clock that it uses."""

    url: str | None
    directory: Path | None
    clock: Clock

    async def connect(self) -> Broker:
        """Connect, and ask for the facts of the server. Raises: BrokerUnavailable."""
        broker = await Broker.connect(self.url, directory=self.directory, clock=self.clock)
        try:
            warn_of_clock(broker.time)
            await broker.most_bytes()
        except BaseException:
            await broker.close()
            raise
        return broker


class Membership(NamedTuple):
    """What a worker gets from its group."""

    broker: Broker | None  # None: it makes connections of its own
    procs: int
    part: Part


class HeldJobs:
    """The attempts whose locks this worker keeps, by job id."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._attempts: dict[bytes, Attempt] = {}
        # Their jobs belong to others, their code has not ended yet.
        self._leaving: set[Attempt] = set()
        self._claims = 0
        self._idle = asyncio.Event()
        self._idle.set()

    # ── in ──

    def begin_claim(self) -> None:
        """Count a claim that is under way: what it brings is as good as held."""
        self._claims += 1
        self._idle.clear()

    def end_claim(self) -> None:
        """Note that a claim is over, however it ended."""
        self._claims -= 1
        self._tell_if_idle()

    def hold(self, jobs: Sequence[ClaimedJob], token: bytes) -> tuple[list[Attempt], list[Attempt]]:
        """Hold what a claim brought; return its attempts, and those whose jobs it has taken over.

        A job is taken over whose lock had run out: it was put back and is claimed again here, all
        before the next renewal could tell. Whoever claims has begun a claim.
        """
        held, former, attempts = self._attempts, [], []
        for job in jobs:
            job_id, attempt = job.id, Attempt(job, token)
            if job_id in held and held[job_id].state is not ENDED:
                former.append(held[job_id])
            held[job_id] = attempt
            attempts.append(attempt)
        return attempts, former

    # ── out ──

    def settled(self, attempt: Attempt) -> None:
        """Hold an attempt no more whose outcome is in Redis, or cannot be."""
        # A job that was put back may have been claimed again already, under another attempt.
        if self._attempts.get(attempt.job.id) is attempt:
            del self._attempts[attempt.job.id]
            if not self._attempts:
                self._tell_if_idle()

    def all_settled(self, endings: Sequence[tuple[Attempt, object]]) -> None:
        """Hold no more what these are of, as ``settled`` does."""
        held = self._attempts
        for attempt, _ in endings:
            job_id = attempt.job.id
            if held.get(job_id) is attempt:
                del held[job_id]
        self._tell_if_idle()

    def lost(self, attempt: Attempt) -> bool:
        """Hold an attempt no more whose job is another worker's; tell whether its run is to end.

        The run is waited for until it is ``gone``.
        """
        is_running = attempt.state is AttemptState.RUNNING
        attempt.state = AttemptState.LOST
        if is_running:
            self._leaving.add(attempt)
        self.settled(attempt)
        return is_running

    def gone(self, attempt: Attempt) -> None:
        """Take note that the run of a lost attempt has ended."""
        self._leaving.discard(attempt)
        self._tell_if_idle()

    def abandon(self) -> None:
        """Leave what is held to the stalled check of other workers: this one has ended."""
        self._attempts.clear()
        self._leaving.clear()
        self._idle.set()

    # ── what there is ──

    def __len__(self) -> int:
        """Return how many locks are kept."""
        return len(self._attempts)

    def __contains__(self, job_id: bytes) -> bool:
        """Tell whether this worker has a job."""
        return job_id in self._attempts

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the job ids."""
        return iter(self._attempts)

    def get(self, job_id: bytes) -> Attempt | None:
        """Return the attempt of a job."""
        return self._attempts.get(job_id)

    def values(self) -> ValuesView[Attempt]:
        """Return all attempts, in the order in which they were claimed."""
        return self._attempts.values()

    def has(self, job_id: bytes, token: bytes) -> bool:
        """Tell whether a job is held that was claimed under this token."""
        attempt = self._attempts.get(job_id)
        return attempt is not None and attempt.token == token

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held and no lost run goes on; a claim may be under way."""
        return not self._attempts and not self._leaving

    async def wait_until_idle(
        self, timeout: float | None = None, *, unless: asyncio.Event | None = None
    ) -> bool:
        """Return True once nothing is held, lost and still running, or under way to here.

        False when the time (seconds) is over, or ``unless`` was set before.
        """
        idle = asyncio.ensure_future(self._idle.wait())
        waiting = [idle] if unless is None else [idle, asyncio.ensure_future(unless.wait())]
        try:
            await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return self._idle.is_set()

    def _tell_if_idle(self) -> None:
        if not (self._attempts or self._leaving or self._claims):
            self._idle.set()
