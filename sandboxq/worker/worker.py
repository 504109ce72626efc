"""The coordinator of one queue: wires claimer, pool, settler and lock keeper together.

Redis ──claim──► Claimer ──call──► Pool ──► children
▲                                  │ outcome, progress, log
├──────settle, report────── Settler ◄─┘
└──────extend────── LockKeeper   (for as long as a job is held)
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import socket
from typing import TYPE_CHECKING, Self, Unpack

from sandboxq.broker.connection import Broker
from sandboxq.broker.keys import DEFAULT_PREFIX, QueueKeys
from sandboxq.clock import SYSTEM_CLOCK, Clock
from sandboxq.config import WorkerOptions, settings_from_options
from sandboxq.errors import JobCancelled, LockLost, UsageError
from sandboxq.outcome import HandedBack
from sandboxq.pool.pool import Pool
from sandboxq.sandbox.probe import usable_cores
from sandboxq.telemetry import Telemetry
from sandboxq.worker.attempt import AttemptState, HeldJobs
from sandboxq.worker.claimer import Claimer, Mode
from sandboxq.worker.context import WorkerContext
from sandboxq.worker.control import Control
from sandboxq.worker.listener import WorkerListener
from sandboxq.worker.lock_keeper import LockKeeper
from sandboxq.worker.service import Service
from sandboxq.worker.settler import Settler
from sandboxq.worker.stalled_checker import StalledChecker
from sandboxq.worker.tally import Tally

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from sandboxq.worker.attempt import Attempt

_log = logging.getLogger("sandboxq.worker")

# What is left after the deadline for killing children and writing what is handed back.
LAST_WORDS = 5.0


class WorkerState(enum.Enum):
    """Where a worker is in its life. Each state may also be followed by CLOSED."""

    NEW = "new"
    READY = "ready"  # connected, children up, locks kept
    SETTLED = "settled"  # nothing is claimed any more, and what was held has been settled
    CLOSED = "closed"


class Worker:
    """Runs the jobs of a queue in sandboxed children.

    ``async with Worker("images", "processors/resize.py", procs="auto") as worker:
    await worker.run()``. The keyword arguments are the fields of ``WorkerSettings``; durations are
    seconds or timedelta.
    """

    def __init__(
        self,
        queue: str,
        processor: str | os.PathLike[str],
        *,
        url: str | None = None,
        prefix: str = DEFAULT_PREFIX,
        telemetry: Telemetry | None = None,
        clock: Clock = SYSTEM_CLOCK,
        directory: Path | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        """Check the arguments; nothing is started or connected yet.

        Raises:
            UsageError: an argument cannot work.

        """
        self.keys = QueueKeys(queue, prefix)
        self.processor = os.fspath(processor)
        self.settings = settings_from_options(options)
        self.telemetry = telemetry or Telemetry()
        self.tally = Tally()
        self.telemetry.subscribe(self.tally)
        self.cores = usable_cores()
        self._url = url
        self._directory = directory
        self._clock = clock
        self._held = HeldJobs()
        self._room = asyncio.Event()
        self._ended = asyncio.Event()
        self._hurry = asyncio.Event()
        self._settled = asyncio.Event()
        self._failure: Exception | None = None
        self._services: list[Service] = []
        self._broker: Broker | None = None
        self._pool: Pool | None = None
        self._state = WorkerState.NEW

    # ── life ────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop and close."""
        await self.close()

    async def start(self) -> None:
        """Connect, import the processor, start the children.

        Raises:
            BrokerUnavailable: Redis cannot be reached or refuses this client.
            ProcessorNotLoaded: the processor is missing or cannot be imported.
            ChildStartFailed: no child became ready.

        """
        self._broker = await Broker.connect(self._url, directory=self._directory)
        try:
            await self._start_parts(self._broker)
        except BaseException:
            await self.close()
            raise

    async def _start_parts(self, broker: Broker) -> None:
        context = WorkerContext(
            broker, self.keys, self.settings, self._held, self._clock, self.telemetry
        )
        self._settler = Settler(context, on_settled=self._settled.set)
        self._pool = Pool(
            self.processor,
            size=self.procs,
            listener=WorkerListener(self._settler, self.telemetry, self._room),
            queue_name=self.keys.queue,
            concurrency=self.settings.concurrency,
            policy=self.settings.policy,
            telemetry=self.telemetry,
        )
        await self._pool.start(self.settings.start_timeout)
        self._claimer = Claimer(context, pool=self._pool, settler=self._settler, room=self._room)
        self._start_services(context)

    def _start_services(self, context: WorkerContext) -> None:
        lock_keeper = LockKeeper(context, on_lost=self._give_up_lost)
        checker = StalledChecker(context)
        control = Control(context.broker, self.keys, name=self.name, scale=self.scale)
        for name, loop in (
            ("settler", self._settler.run),
            ("lock keeper", lock_keeper.run),
            ("stalled checker", checker.run),
            ("control", control.run),
        ):
            service = Service(name, loop, self._fail)
            service.start()
            self._services.append(service)
        self._state = WorkerState.READY

    async def run(self, *, burst: bool = False) -> None:
        """Run jobs until stopped; in a burst, until nothing is waiting, prioritized or active.

        Raises:
            SandboxqError: a part of the worker failed for good; all jobs were handed back.

        """
        if self._pool is None:
            message = (
                "the worker was not started: use 'async with Worker(...) as worker' or start()"
            )
            raise UsageError(message)
        claimer = Service("claimer", lambda: self._claim(burst=burst), self._fail)
        claimer.start()
        try:
            await self._ended.wait()
        finally:
            await claimer.stop()
            await self._wind_down()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Claim no more, finish what runs, hand back what does not end in time; end ``run``.

        A second call hands back at once.
        """
        if self._ended.is_set():
            self._hurry.set()
        self._ended.set()

    def kill(self) -> None:
        """Kill the children now; their jobs are found by the stalled check of another worker."""
        if self._pool is not None:
            self._pool.kill()

    async def close(self) -> None:
        """Release everything; called twice, it does nothing."""
        if self._state is WorkerState.CLOSED:
            return
        self._ended.set()
        await self._wind_down()
        self._state = WorkerState.CLOSED
        for service in self._services:
            await service.stop()
        if self._pool is not None:
            await self._pool.stop(timeout=LAST_WORDS)
        if self._broker is not None:
            await self._broker.close()

    # ── while it runs ───────────────────────────────────────────────────────

    @property
    def name(self) -> str:
        """The worker's name for people: as set, else host and process id."""
        return self.settings.name or f"{socket.gethostname()}:{os.getpid()}"

    @property
    def procs(self) -> int:
        """The number of children to start with."""
        return self.cores.number if self.settings.procs == "auto" else self.settings.procs

    @property
    def broker(self) -> Broker:
        """The connection; only after ``start``."""
        if self._broker is None:
            message = "the worker was not started"
            raise UsageError(message)
        return self._broker

    @property
    def pool(self) -> Pool:
        """The children; only after ``start``."""
        if self._pool is None:
            message = "the worker was not started"
            raise UsageError(message)
        return self._pool

    @property
    def running(self) -> int:
        """Jobs whose locks this worker holds."""
        return len(self._held)

    async def scale(self, procs: int) -> int:
        """Have ``procs`` children from now on; children in excess finish their job first."""
        if procs < 1:
            message = f"procs must be 1 or more, not {procs}"
            raise UsageError(message)
        await self.pool.resize(procs)
        self._room.set()
        return self.pool.size

    async def _claim(self, *, burst: bool) -> None:
        try:
            await self._claimer.run(Mode.BURST if burst else Mode.FOREVER)
        finally:
            await self._claimer.close()
        self._ended.set()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._ended.set()

    def _give_up_lost(self, attempt: Attempt) -> None:
        job_id = attempt.job.id.decode()
        is_running = attempt.state is AttemptState.RUNNING
        attempt.state = AttemptState.LOST
        del self._held[attempt.job.id]
        if is_running and attempt.call is not None:
            message = f"renewal of the lock of job {job_id} was refused: another worker owns it now"
            self.pool.end_call(attempt.call, LockLost(message))

    # ── the end ─────────────────────────────────────────────────────────────

    async def _wind_down(self) -> None:
        """Finish what runs within the deadline, hand back the rest."""
        if self._state is not WorkerState.READY:
            return
        self._state = WorkerState.SETTLED
        for call in self.pool.take_back():
            self._settler.hand_back(call.context)
        await self._wait_until_settled(self.settings.shutdown_timeout, hurry=self._hurry)
        await self._give_up_running(self.pool)
        await self._wait_until_settled(LAST_WORDS)
        if self._held:
            _log.error(
                "%d jobs could not be settled; others will find them stalled", len(self._held)
            )

    async def _give_up_running(self, pool: Pool) -> None:
        """Kill what runs, and when all of it has gone, hand the jobs back in their order."""
        running = [
            attempt for attempt in self._held.values() if attempt.state is AttemptState.RUNNING
        ]
        for attempt in running:
            attempt.state = AttemptState.GIVEN_UP
            if attempt.call is not None:
                pool.end_call(attempt.call, JobCancelled("the worker stops"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while pool.held:
                    self._room.clear()
                    await self._room.wait()
        for attempt in running:
            if attempt.state is AttemptState.GIVEN_UP:
                self._settler.end(attempt, HandedBack(was_started=True))

    async def _wait_until_settled(
        self, timeout: float, *, hurry: asyncio.Event | None = None
    ) -> None:
        """Return when nothing is held any more, when the time is up, or when told to hurry."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        hurried = asyncio.ensure_future(hurry.wait()) if hurry else None
        while self._held and loop.time() < deadline and not (hurried and hurried.done()):
            self._settled.clear()
            settled = asyncio.ensure_future(self._settled.wait())
            waiting = {settled} if hurried is None else {settled, hurried}
            await asyncio.wait(
                waiting, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
            settled.cancel()
        if hurried:
            hurried.cancel()
