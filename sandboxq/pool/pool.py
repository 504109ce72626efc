"""Runs calls in children: gives calls to them, takes answers, and tells the outcome of each.

    submit ─► reserve ─► Child.flying ─► socket ─► (child runs it)
                ▲             │                          │
                │  never started: read back             answer, or death
                └─────────────┘                          ▼
    take_back ◄─ reserve                      PoolListener.on_outcome

Nothing here awaits a job: everything happens in callbacks of the loop. A call is in exactly one
place, the reserve or one child's ``flying``, until its outcome is told.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from sandboxq.errors import ChildError, ChildStartFailed, UsageError
from sandboxq.model.job_limits import DEFAULT_BUDGETS, Budgets
from sandboxq.model.outcome import Failed, HandedBack
from sandboxq.payload.binary import MOST_BYTES
from sandboxq.pool.blame import Blame
from sandboxq.pool.calls import Call, PoolListener
from sandboxq.pool.children.circuit import Circuit
from sandboxq.pool.children.supervisor import Supervisor
from sandboxq.pool.core import PoolCore
from sandboxq.pool.inbound import Inbound
from sandboxq.pool.kinds import Kind
from sandboxq.pool.options import PoolOptions
from sandboxq.pool.outcomes import failure_from_error
from sandboxq.pool.placement import USUAL, Ahead, Placement
from sandboxq.pool.profiles import Profiles
from sandboxq.pool.watch.deadlines import Deadlines
from sandboxq.pool.watch.recycler import NO_RECYCLING, Recycler, Recycling
from sandboxq.pool.watch.watches import PacketWatch, Watches
from sandboxq.sandbox import support
from sandboxq.sandbox.mechanisms.process import hide_memory
from sandboxq.sandbox.policy import Policy, policy_from

if TYPE_CHECKING:
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.outcomes import Death
    from sandboxq.sandbox.support import Part

__all__ = ["Call", "Pool", "PoolListener"]

_MB = 1 << 20
_log = logging.getLogger("sandboxq.pool")


class Pool(PoolCore):
    """A number of children that run one processor under one policy."""

    profiles: Profiles

    def __init__(  # noqa: PLR0913 - what a worker says of its children, each with a default
        self,
        processor: str,
        *,
        size: int,
        listener: PoolListener,
        queue_name: str,
        telemetry: Telemetry,
        concurrency: int = 1,
        policy: str | Policy = "limits",
        recycling: Recycling = NO_RECYCLING,
        max_result: int = MOST_BYTES,
        budgets: Budgets = DEFAULT_BUDGETS,
        max_block: float | None = None,
        kind: Kind = Kind.PROCESS,
        ahead: Ahead = USUAL,
        withholds_redis: bool = False,
        part: Part | None = None,
    ) -> None:
        """Check what can be checked; ``start`` does the rest.

        Raises:
            UsageError: a number or the policy makes no sense.
            MechanismMissing: the policy cannot be enforced here.
        """
        if size < 1 or concurrency < 1:
            message = (
                f"a pool needs at least one child and one job at once, not {size}×{concurrency}"
            )
            raise UsageError(message)
        self._ahead = ahead
        granted = policy_from(policy)
        support.require(granted)
        terms = PoolOptions(
            processor,
            queue_name,
            concurrency,
            granted,
            part or support.whole_machine(),
            max_result,
            kind,
            budgets,
            withholds_redis,
        )
        terms.check()
        super().__init__(terms, listener)
        self._max_block = max_block
        self._first_size = size
        self._telemetry = telemetry
        self._recycling = replace(recycling, max_jobs=1) if terms.policy.fresh else recycling
        self._loop: asyncio.AbstractEventLoop
        self._watches: Watches
        self._inbound: Inbound
        self._deadlines: Deadlines
        self._packet_watch: PacketWatch
        self._blame = Blame(self)

    # ── what the worker calls ──

    async def start(self, timeout: float = 60.0) -> None:
        """Start all children, for at most ``timeout`` seconds.

        Raises:
            ProcessorNotLoaded: the processor cannot be imported; the text has the user's frames.
            ChildStartFailed: a child cannot start: setup() failed, or the policy cannot be applied.
        """
        self._loop = asyncio.get_running_loop()
        hide_memory()  # our environment holds the password of Redis
        self._inbound = Inbound(self, self._listener)
        self.profiles = Profiles(self, self._listener)
        self._supervisor = Supervisor(self._terms, self, self._inbound, self._telemetry)
        self._deadlines = Deadlines(self._loop, self)
        supervisor = self._supervisor
        self._packet_watch = PacketWatch(
            self._loop, lambda: supervisor.children, self._inbound.on_held
        )
        self.placement = Placement(
            self._loop,
            self.calls,
            self._supervisor.ready,
            self._terms.concurrency,
            on_spent=self._supervisor.replace_spent,
            on_timed=self._deadlines.expect,
            on_packed=self._packet_watch.expect,
            on_unsendable=self._end_unsendable,
            may_send_ahead=not self._terms.is_strict,
            ahead=self._ahead,
        )
        self.circuit = Circuit(
            self._loop,
            self._telemetry,
            on_open=self._give_back_unstarted,
            on_probe=self._listener.on_room,
        )
        self.recycler = Recycler(self._loop, self._supervisor, self._recycling)
        self._watches = Watches(
            self._loop,
            self,
            self._terms,
            telemetry=self._telemetry,
            max_block=self._max_block,
            on_held=self._inbound.on_held,
            end_soon=self._end_soon,
        )
        try:
            await self._supervisor.start(self._first_size, timeout)
            if self.is_ending:
                message = "the pool was stopped while it started"
                raise ChildStartFailed(message)  # noqa: TRY301 - cleaned up as any failed start
            self.recycler.start()
        except BaseException:
            self.is_ending = True
            await self._supervisor.close()
            raise
        self._watches.start()

    @property
    def size(self) -> int:
        """How many children there are, without those that are leaving."""
        return self._supervisor.size if self._supervisor is not None else 0

    @property
    def busy(self) -> int:
        """How many children run something."""
        return (
            sum(bool(child.flying) for child in self._supervisor.children)
            if self._supervisor
            else 0
        )

    @property
    def held(self) -> int:
        """How many calls are in the pool, running or not."""
        return self.calls.held

    @property
    def is_preloaded(self) -> bool:
        """Whether children inherit the imported processor; False when each imports it itself."""
        return self._supervisor is not None and self._supervisor.source_supervisor.is_preloaded

    @property
    def memory(self) -> int | None:
        """What the policy grants each child, in bytes; None without a limit."""
        return (
            self._supervisor.children[0].memory
            if self._supervisor is not None and self.size
            else None
        )

    @property
    def notes(self) -> list[str]:
        """Lines about the children for the banner: label and text."""
        notes = [f"memory     {self.memory // _MB} MB a child"] if self.memory else []
        notes += [f"limits     {text}" for text in (self._terms.policy.limits(),) if text]
        notes += [f"sandbox    {text}" for text in self._terms.policy.in_force()]
        return notes + (
            self._supervisor.source_supervisor.notes if self._supervisor is not None else []
        )

    @property
    def pids(self) -> list[int]:
        """The process ids of the children."""
        return (
            [child.pid for child in self._supervisor.children if child.pid]
            if self._supervisor
            else []
        )

    def is_rushed(self) -> bool:
        """Tell whether more calls will end within a millisecond or two."""
        return self._supervisor is not None and self.placement.is_rushed

    def is_stocked(self) -> bool:
        """Tell whether what waits for children is enough for now."""
        return self._supervisor is not None and self.placement.is_stocked

    def room(self) -> int:
        """Return how many calls the pool would accept now."""
        if self._supervisor is None or self.is_ending:
            return 0
        return self.circuit.limit(self.placement.room(), self.calls.held)

    def submit(self, call: Call) -> None:
        """Take a call, and run it as soon as a child has room for it."""
        if self.is_ending:
            self.tell(call, HandedBack())
        else:
            self.placement.put(call)

    def submit_all(self, calls: list[Call]) -> None:
        """Take calls together: of those that take microseconds several share a packet."""
        if self.is_ending:
            for call in calls:
                self.tell(call, HandedBack())
        else:
            self.placement.put_all(calls)

    def take_back(self, *, waiting_longer_than: float = 0.0) -> list[Call]:
        """Remove and return calls that were never started, in order; no outcome is told."""
        if self._supervisor is None:
            return []
        taken = self.placement.take(self._loop.time() - waiting_longer_than)
        self.placement.pump()
        return taken

    def end_call(self, call: Call, error: ChildError) -> None:
        """End a call for ``error``: its child is killed, unless it was never started."""
        child = self._holder(call)
        if self.placement.remove(call):
            self.tell(call, failure_from_error(error))
        elif child is not None:
            self.kill_child(child, error, victim=call)
        self.placement.pump()

    def cancel_call(self, call: Call, error: ChildError, *, grace: float) -> None:
        """Ask a call to end for ``error``, and kill its child after ``grace`` seconds.

        What was never started ends at once. Asked again, the shorter grace counts.
        """
        child = self._holder(call)
        if self.placement.remove(call):
            call.ending = error
            self.tell(call, HandedBack())
        elif child is not None:
            self._deadlines.ask_to_end(child, call, error, grace)
        else:
            call.ending = error  # its data is on the way from Redis, or it has just ended
        self.placement.pump()

    def _holder(self, call: Call) -> Child | None:
        """Return the child that has a call, after taking back what it has not read."""
        child = next((c for c in self.supervisor.children if c.flying.get(call.seq) is call), None)
        if child is not None and child in self.supervisor.ready:
            self.placement.unsend(child)
        return child

    async def resize(self, size: int) -> None:
        """Have ``size`` children; returns when new ones are ready. Surplus ones finish first.

        Raises:
            ChildStartFailed: a new child could not start; it is tried again all the same.
        """
        if size < 1:
            message = f"a pool needs at least one child, not {size}"
            raise UsageError(message)
        await self.supervisor.resize(size)
        self._listener.on_room()

    async def reload(self, timeout: float) -> None:
        """Have children with the code as it is now; see Supervisor.reload."""
        await self.supervisor.reload(timeout)
        self._listener.on_room()

    async def stop(self, *, timeout: float) -> None:
        """Let children finish and tear down, for at most ``timeout`` seconds, then kill the rest.

        The outcome of calls that did not finish is: handed back. Twice is harmless.
        """
        if self._supervisor is None:
            return
        self._begin_to_end()
        await self._supervisor.retire_all(timeout)
        await self._supervisor.close()
        self._stop_looking()

    def kill(self) -> None:
        """End everything now, within milliseconds; the outcome of each call is: handed back."""
        if self._supervisor is not None:
            self._begin_to_end()
            self._supervisor.kill()
            self._stop_looking()

    # ── starts and deaths ──

    def on_child_ready(self, child: Child) -> None:
        """Give a new child something to do."""
        child.progress_at = self._loop.time()
        self.recycler.welcome(child)
        self.circuit.start()
        self.placement.adjust()
        self.placement.pump()
        self._listener.on_room()

    def on_import_line(self, pid: int, stream: str, line: str) -> None:
        """Pass on a line that was printed while the processor was imported."""
        self._listener.on_lines(None, pid, stream, [line])

    def on_child_leaving(self, child: Child) -> None:
        """Take back what a child that is retired has not read."""
        self.unsend(child)
        self.placement.pump()

    def on_child_dead(self, child: Child, death: Death) -> None:
        """Settle what a dead child held."""
        self.profiles.on_death(child)
        self._blame.settle(child, death, self._loop.time())
        self.placement.adjust()
        self.placement.pump()
        self._listener.on_room()

    def on_failed_start(self, reason: str) -> None:
        """Count it for the circuit, which stops claiming in the end."""
        self.circuit.fail_start(reason)

    def _end_unsendable(self, call: Call, error: Exception) -> None:
        reason = f"the job cannot be given to a child: {error!r}"
        if isinstance(error, (MemoryError, OSError)):
            reason = f"there is no memory for the arrays and bytes of the job: {error}"
        self.tell(call, Failed(reason, cause=type(error).__name__))

    def _give_back_unstarted(self) -> None:
        for call in self.placement.take(self._loop.time()):
            self.tell(call, HandedBack())

    def _end_soon(self, child: Child, call: Call, error: ChildError) -> None:
        """Tell a running call that it is to end, and kill its child after the call's grace."""
        self._deadlines.ask_to_end(child, call, error, call.grace)

    def _stop_looking(self) -> None:
        self._watches.stop()
        self._deadlines.stop()
        self._packet_watch.stop()
        self.profiles.close()

    def _begin_to_end(self) -> None:
        self.is_ending = True
        self.circuit.stop()
        self.recycler.stop()
        self.placement.stop()
        for call in self.placement.empty():
            self.tell(call, HandedBack())
