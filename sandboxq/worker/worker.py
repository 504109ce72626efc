"""The coordinator of one queue: the life of a worker, from start to close.

What it consists of, and how a job travels through that, is in worker/assembly.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
from typing import TYPE_CHECKING, NoReturn, Self, Unpack

from sandboxq.broker.keys import QueueKeys, chosen_prefix
from sandboxq.config import WorkerOptions, settings_from_options
from sandboxq.errors import ChildStartFailed, SandboxqError, UsageError
from sandboxq.model.clock import SYSTEM_CLOCK, Clock
from sandboxq.observe.log import defer_logging, log_events
from sandboxq.observe.telemetry import (
    Telemetry,
    WorkerClosed,
    WorkerFailed,
    WorkerReady,
)
from sandboxq.payload import signing
from sandboxq.pool.kinds import Wanted, decide, this_interpreter
from sandboxq.sandbox.policy import policy_from
from sandboxq.sandbox.support import usable_cores
from sandboxq.worker.assembly import VITAL, ChildrenOptions, assemble
from sandboxq.worker.banner import banner, summary
from sandboxq.worker.claimer import Mode
from sandboxq.worker.context import Address, HeldJobs, WorkerContext
from sandboxq.worker.control import Control, control_parts
from sandboxq.worker.counters import Counters
from sandboxq.worker.hooks import subscribe_hooks
from sandboxq.worker.locks import StalledChecker
from sandboxq.worker.manual import ManualJobs
from sandboxq.worker.operating import Operating
from sandboxq.worker.service import Service, Shared
from sandboxq.worker.shutdown import LAST_WORDS, ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.worker.assembly import Assembly
    from sandboxq.worker.context import Membership

_log = logging.getLogger("sandboxq.worker")


class WorkerState(enum.Enum):
    """Where a worker is in its life. Each state may also be followed by CLOSED."""

    NEW = "new"
    STARTING = "starting"
    READY = "ready"  # connected, children up, locks kept
    SETTLED = "settled"  # nothing is claimed any more, and what was held has been settled
    CLOSED = "closed"


class Worker(Operating):
    """Runs the jobs of a queue in sandboxed children.

    ``async with Worker("images", "processors/resize.py", procs="auto") as worker:
    await worker.run()``. The keyword arguments are those of ``WorkerOptions``, listed below;
    durations are seconds or timedelta.
    """

    def __init__(
        self,
        queue: str,
        processor: str | os.PathLike[str] | None = None,
        *,
        url: str | None = None,
        prefix: str | None = None,
        telemetry: Telemetry | None = None,
        clock: Clock = SYSTEM_CLOCK,
        directory: Path | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        """Check the arguments; nothing is started or connected yet.

        Without a processor there is nothing to ``run``: ``get_next_job`` takes single jobs.

        Raises:
            UsageError: an argument cannot work.

        """
        self.keys = QueueKeys(queue, chosen_prefix(prefix))
        self.processor = _checked_processor(processor)
        self.settings = settings_from_options(options)
        self.policy = policy_from(self.settings.policy)
        wanted = Wanted(
            self.settings.isolation,
            self.processor,
            self.policy,
            self.settings.timeout,
            self.settings.max_rss_per_child,
        )
        # The kind of its children, and what the banner says of it.
        self.kind, self.kind_notes = decide(wanted, this_interpreter())
        # Unverified functions never reach a child: without a secret there is no such worker.
        is_of_functions = self.processor.partition(":")[0] == signing.PROCESSOR
        self._secret = signing.checked_secret(self.settings.secret) if is_of_functions else None
        # Of this worker alone: what is passed in may be that of several.
        self.telemetry = Telemetry(telemetry)
        self.counters = Counters()
        self.telemetry.subscribe(self.counters, *Counters.KINDS)
        self._hooks = subscribe_hooks(self.telemetry, self.settings)
        self.cores = usable_cores()
        self.address = Address(url, directory, clock)
        self._held = HeldJobs()
        self._room = asyncio.Event()
        self._ended = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: Exception | None = None
        self._is_logged = False
        self._services: list[Service] = []
        self._claiming: Service | None = None
        self._winding = asyncio.Lock()
        self._reloading = Shared(lambda: self.pool.reload(self.settings.start_timeout))
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._broker: Broker | None = None
        self._parts: Assembly | None = None
        self._by_hand: ManualJobs | None = None
        self._membership: Membership | None = None
        self._state = WorkerState.NEW

    # ── life ────────────────────────────────────────────────────────────────

    def __enter__(self) -> NoReturn:
        """Say what to write instead. Raises: UsageError, always."""
        message = "a Worker is used in asynchronous code: write `async with Worker(…)`"
        raise UsageError(message)

    def __exit__(self, *_: object) -> None:
        """Exist beside ``__enter__``, which never returns."""

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
            UsageError: the queue's keys have no hash tag, on a cluster; or it was started before.
            BrokerUnavailable: Redis cannot be reached or refuses this client.
            ProcessorNotLoaded: the processor is missing or cannot be imported.
            ChildStartFailed: no child became ready.
        """
        if self._state is not WorkerState.NEW:
            message = "the worker was started before, or closed: a worker lives once, make another"
            raise UsageError(message)
        self._state = WorkerState.STARTING
        self._is_logged = log_events(self.telemetry)
        defer_logging()
        self._starting = asyncio.create_task(self._connect_and_start(), name="sandboxq start")
        try:
            await self._starting
        except BaseException as error:
            self._failure = error if isinstance(error, SandboxqError) else None
            await self.close()
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and not (task and task.cancelling()):
                message = "the worker was closed while it started"
                raise UsageError(message) from None
            raise
        self.telemetry.emit(WorkerReady(self.name))

    async def _connect_and_start(self) -> None:
        shared = self._membership.broker if self._membership else None
        self._broker = shared or await self.address.connect()
        self._broker.refuse_untagged(self.keys.base)
        await self._start_parts(self._broker)

    async def _start_parts(self, broker: Broker) -> None:
        context = WorkerContext(broker, self.keys, self.settings, self._held, self.telemetry)
        self._by_hand = ManualJobs(context)
        if not self.processor:
            if not self.settings.skip_stalled_check:
                self._start_service("stalled checker", StalledChecker(context).run)
            return
        parts = self._parts = assemble(
            context,
            ChildrenOptions(
                self.processor,
                self.procs,
                self.policy,
                self.kind,
                self.address.url is not None,
                self._membership.part if self._membership else None,
            ),
            room=self._room,
            secret=self._secret,
        )
        await parts.pool.start(self.settings.start_timeout)
        for name, loop in parts.loops(self.settings).items():
            self._start_service(name, loop)
        control = Control(broker, self.keys, self, control_parts(self, self._held))
        self._start_service("control", control.run)
        self._state = WorkerState.READY

    def _start_service(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        service = Service(name, loop, self._fail if name in VITAL else None)
        service.start()
        self._services.append(service)

    async def run(self, *, burst: bool = False, handle_signals: bool = True) -> None:
        """Run jobs until stopped; in a burst, until nothing is waiting, prioritized or active.

        SIGTERM and SIGINT stop it as ``stop`` does, in the main thread, unless the program has
        handlers of its own; the second hands back at once, the third kills. With
        ``handle_signals=False`` signals are left alone. What happens is logged, by ``logging``, as
        the command does: "sandboxq.worker", on level INFO all of it.

        Raises:
            SandboxqError: a part of the worker failed for good; all jobs were handed back.
            OutcomesLost: Redis was away until the shutdown timeout, and some jobs had ended.
            ChildStartFailed: in a burst, every job ends its child, or none can start.
            UsageError: the worker was not started, or has run already.

        """
        if self._broker is not None and not self.processor:
            message = "the worker has no processor: take jobs with get_next_job()"
            raise UsageError(message)
        if self._parts is None:
            message = (
                "the worker was not started: use 'async with Worker(...) as worker' or start()"
            )
            raise UsageError(message)
        if self._state is not WorkerState.READY or self._claiming is not None:
            message = "the worker runs, or has stopped: a worker runs once, make another"
            raise UsageError(message)
        self._claiming = Service(
            "claimer", lambda: self._claim(burst=burst), self._fail, may_wait=not burst
        )
        self._claiming.start()
        self._log(banner)
        with ended_by_signals(self) if handle_signals else contextlib.nullcontext():
            try:
                await self._ended.wait()
            finally:
                await self._claiming.stop()
                await self._wind_down()
        self._log(summary)
        if self._failure is not None:
            raise self._failure
        self.parts.stopping.check()

    def _log(self, lines_of: Callable[[Self], list[str]]) -> None:
        if self._is_logged:
            for line in lines_of(self):
                _log.info("%s", line)

    @property
    def is_paused(self) -> bool:
        """Whether this worker claims nothing until it is resumed."""
        return self._parts is not None and self._parts.claimer.is_paused

    async def pause(self) -> None:
        """Claim no more until ``resume``, and return when what was claimed has ended.

        That is when nothing of this worker runs, nothing will that a claim brings which is under
        way, and all of it is settled. Returns at once when the worker is resumed or has ended.
        Other workers of the queue go on; see Queue.pause for all of them.
        """
        if self._state is not WorkerState.READY:
            message = "the worker was not started, or has stopped: there is nothing to pause"
            raise UsageError(message)
        claimer = self.parts.claimer
        await claimer.pause()
        await self._held.wait_until_idle(unless=claimer.resumed)

    def resume(self) -> None:
        """Claim again."""
        if self._parts is not None:
            self._parts.claimer.resume()

    def stop(self) -> None:
        """Claim no more, finish what runs, hand back what does not end in time; end ``run``.

        A second call hands back at once.
        """
        if self._ended.is_set():
            self._hurry.set()
        self._ended.set()

    def kill(self) -> None:
        """Kill the children now; their jobs are found by the stalled check of another worker."""
        if self._parts is not None:
            self._parts.pool.kill()
        self._ended.set()
        self._hurry.set()

    async def close(self) -> None:
        """End what runs within the shutdown timeout, and release everything; called twice, once.

        Who is cancelled meanwhile has what runs handed back at once, and waits for that.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="sandboxq close")
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            self.stop()
            self._hurry.set()
            await asyncio.wait([self._closing])
            raise

    async def _close(self) -> None:
        self._ended.set()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        # A stack: whoever is cancelled while waiting here must not leave children or tasks behind.
        async with contextlib.AsyncExitStack() as closing:
            closing.push_async_callback(self._hooks.finish)
            closing.callback(self._held.abandon)
            if self._broker is not None and not (self._membership and self._membership.broker):
                closing.push_async_callback(self._broker.close)
            if self._by_hand is not None:
                closing.push_async_callback(self._by_hand.close)
            if self._parts is not None:
                closing.push_async_callback(self._parts.settler.close)
                closing.push_async_callback(self._parts.usage_recorder.close)
            for service in reversed(self._services):
                closing.push_async_callback(service.stop)
            if self._parts is not None:
                closing.callback(self._parts.pool.kill)
            await self._finish()
        self.telemetry.emit(WorkerClosed())

    async def _finish(self) -> None:
        """End what runs, and write how it ended."""
        if self._claiming is not None:
            await self._claiming.stop()
        await self._wind_down()
        self._state = WorkerState.CLOSED
        if self._parts is not None:
            await self._parts.pool.stop(timeout=LAST_WORDS)
            if not self._parts.stopping.is_over:
                await self._held.wait_until_idle(LAST_WORDS)

    async def _claim(self, *, burst: bool) -> None:
        claimer = self.parts.claimer
        try:
            await claimer.run(Mode.BURST if burst else Mode.FOREVER)
        finally:
            await claimer.close()
        if burst and self.pool.circuit.verdict:
            message = f"no job can be run: {self.pool.circuit.verdict}"
            self._fail(ChildStartFailed(message))
        self._ended.set()

    def _fail(self, error: Exception) -> None:
        self.telemetry.emit(WorkerFailed(str(error)))
        self._failure = error
        self._ended.set()

    # ── the end ─────────────────────────────────────────────────────────────

    async def _wind_down(self) -> None:
        """Finish what runs within the deadline, hand back the rest; a second call waits."""
        async with self._winding:
            if self._state is not WorkerState.READY:
                return
            self._state = WorkerState.SETTLED
            parts = self.parts
            for attempt in parts.blobs.take_back():
                parts.settler.hand_back(attempt)
            await parts.stopping.run(self.settings.shutdown_timeout, self._hurry)


def _checked_processor(processor: object) -> str:
    if processor is None:
        return ""
    if not isinstance(processor, str | os.PathLike):
        message = (
            "processor must be the path of a file or 'package.module:function', not "
            f"{type(processor).__name__}: children import it by that name"
        )
        raise UsageError(message)
    return os.fspath(processor)
