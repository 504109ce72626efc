"""Keeps the wanted number of children alive: starts, replaces, retires and reaps them.

resize ─► _fill ─► ZygoteClient.spawn ─► on_forked ─► READY ─► SupervisorOwner.on_child_ready
            ▲                                                      │ pidfd readable
            └── RestartDelay ◄── _remove ◄── on_exit (status) ◄──────┘ or server gone
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from sandboxq.errors import ChildStartFailed
from sandboxq.observe.telemetry import ChildDied, ChildReady, ChildRecycled
from sandboxq.pool.children.circuit import RestartDelay
from sandboxq.pool.children.registry import Registry
from sandboxq.pool.children.threads import ThreadSupervisor
from sandboxq.pool.children.timers import Timers
from sandboxq.pool.children.zygote_client import ZygoteClient
from sandboxq.pool.children.zygote_supervisor import ZygoteSupervisor
from sandboxq.pool.kinds import Kind
from sandboxq.pool.options import ChildState
from sandboxq.pool.outcomes import Death, text_of_failed_start, text_of_status
from sandboxq.sandbox.plan import plan_from_policy
from sandboxq.sandbox.support import require_descriptors

if TYPE_CHECKING:
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.source import Source, SourceSupervisor, SupervisorOwner
    from sandboxq.pool.options import ChildOwner, PoolOptions

# To ask the class for a member takes ten times as long as a global.
_LEAVING = ChildState.LEAVING

_log = logging.getLogger("sandboxq.pool")

_LOOK_AGAIN = 1.0  # seconds, where nothing is told: another child is just being replaced
# SIGKILL takes effect within milliseconds, except in the middle of a disk that hangs.
_KILL_SECONDS = 5.0


class Supervisor:
    """The children of one pool and their zygote."""

    def __init__(
        self,
        terms: PoolOptions,
        owner: SupervisorOwner,
        inbound: ChildOwner[Child],
        telemetry: Telemetry,
    ) -> None:
        """Prepare; ``start`` does it. ``inbound`` hears what children say."""
        self._terms = terms
        self._owner = owner
        self._inbound = inbound
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._registry = Registry()
        self._number = 0  # of the newest child
        self._target = 0
        self.delay = RestartDelay()
        self.source_supervisor: SourceSupervisor = (
            ZygoteSupervisor(terms, self, self.delay, self._fill)
            if terms.kind is Kind.PROCESS
            else ThreadSupervisor(terms, self)
        )
        self._timers = Timers(self._loop, self.source_supervisor)
        self._outgoing: Child | None = None  # it works on until its successor is ready
        self._timer: asyncio.TimerHandle | None = None
        self._start_failure = ""
        self._is_ending = False
        self.ready = self._registry.ready

    @property
    def size(self) -> int:
        """How many children live or are being started, without those that leave or are spent."""
        return self._registry.size

    @property
    def server(self) -> ZygoteClient | None:
        """The zygote, while there is one."""
        server = self.source_supervisor.server
        return server if isinstance(server, ZygoteClient) else None

    @property
    def servers(self) -> list[ZygoteClient]:
        """All zygotes: one, and while code is reloaded those before it."""
        return self.source_supervisor.servers

    @property
    def children(self) -> list[Child]:
        """Every child that is not removed yet."""
        return self._registry.all()

    async def start(self, size: int, timeout: float) -> None:
        """Start the zygote and ``size`` children, and wait until all of them are ready.

        Raises: ProcessorNotLoaded, UsageError, ChildStartFailed (ended, or not ready in time).
        """
        self._timers.start_seconds = timeout
        deadline = self._loop.time() + timeout
        await self.source_supervisor.start(size, timeout)
        await self.resize(size, timeout=max(1.0, deadline - self._loop.time()))

    async def resize(self, size: int, *, timeout: float | None = None) -> None:
        """Have ``size`` children; returns when new ones are ready, not when old ones have left.

        Raises: ChildStartFailed: one could not start, which is tried again; too few open files.
        """
        require_descriptors(size - len(self._registry.by_number))
        self._target = size
        self.source_supervisor.limit(size)
        self._start_failure = ""
        self._retire_surplus()
        self._fill()
        timeout = timeout or self._timers.start_seconds
        deadline = self._loop.time() + timeout
        while self._registry.fresh < self._target and not self._is_ending:
            if self._start_failure:
                raise ChildStartFailed(self._start_failure)
            await self._registry.change(deadline - self._loop.time())
            if self._loop.time() >= deadline:
                message = f"children were not ready within {timeout:g} s (does setup() hang?)"
                raise ChildStartFailed(message)

    async def reload(self, timeout: float) -> None:
        """Import the processor anew, and replace the children one by one by some that have it.

        What they run they finish. When the import fails, or the first new child cannot start,
        nothing changes. Raises: as ``start``; UsageError for threads too.
        """
        self._timers.start_seconds, before = timeout, self.server
        await self.source_supervisor.renew(self._target, timeout)
        self.source_supervisor.let_go(before, self._registry.by_number.values())
        self._start_failure = ""
        while (former := self._registry.not_forked_by(self.server)) and not self._is_ending:
            if self._start_failure and not any(each.source is self.server for each in self.ready):
                await self._go_back()
                raise ChildStartFailed(self._start_failure)
            self.replace(former[0], "for new code")
            await self._registry.change(_LOOK_AGAIN)

    async def _go_back(self) -> None:
        """Give up the newest zygote, and go on with the one before."""
        self._outgoing, given_up = None, self.server
        for child in self._registry.forked_by(given_up):
            self.leave(child)
        await self.source_supervisor.go_back()  # first: successors are of the one before
        self._end_children_of(given_up, "its code could not be started")
        self._fill()

    async def retire_all(self, timeout: float) -> None:
        """Start nothing any more; let children finish what they run, for at most ``timeout``."""
        self._end()
        for child in self.children:
            if child in self.ready:  # else it is dying with its zygote
                self._retire(child)
            elif child.state is ChildState.STARTING:
                child.move(ChildState.LEAVING)
                child.kill()
        await self._registry.until_empty(timeout)

    async def close(self) -> None:
        """Kill what is left, the zygote last, and wait until all is gone."""
        self._kill_all()
        await self._registry.until_empty(_KILL_SECONDS)
        await self.source_supervisor.close()
        for child in self.children:
            self._remove(child)

    def kill(self) -> None:
        """Kill everything now and give back every descriptor; blocks for some milliseconds."""
        self._kill_all()
        self.source_supervisor.kill()
        for child in self.children:
            self._remove(child)

    def ready_now(self, child: Child) -> None:
        """Take a child's READY."""
        if child.state is not ChildState.STARTING:
            return
        if child.pidfd < 0:
            child.is_early = True  # it was faster than the news of its fork
            return
        child.move(ChildState.READY)
        child.stop_timer()
        self.ready.append(child)
        self.delay.start()
        self._telemetry.emit(ChildReady(child.pid))
        self._owner.on_child_ready(child)
        self._registry.changed.set()
        self._let_go()
        self._retire_surplus()

    def replace(self, child: Child, why: str) -> None:
        """Retire a child as soon as a successor is ready; one at a time, so ask again."""
        if self._outgoing is not None or child not in self.ready or self._is_ending:
            return
        self._outgoing, child.retire_reason = child, why
        self._fill()

    def replace_spent(self) -> None:
        """Start successors of children that may have no more calls."""
        if self._outgoing is not None and self._outgoing.is_spent:
            self._outgoing = None  # one for it is on its way, and it leaves with its last answer
        if self._timer is None and not self.delay.streak:
            self._fill()

    def dismiss(self, child: Child, why: str) -> None:
        """Retire a child now."""
        if child in self.ready:
            child.retire_reason = why
            self._retire(child)

    def _let_go(self) -> None:
        """Retire the child whose successor is ready."""
        child, self._outgoing = self._outgoing, None
        if child is not None and child in self.ready and self._registry.fresh > self._target:
            self._retire(child)

    def leave(self, child: Child) -> None:
        """Send no more calls to a child that is ending by itself or was told to."""
        if child.state in (ChildState.STARTING, ChildState.READY):
            child.move(ChildState.LEAVING)
        self._registry.not_ready(child)

    def on_server_gone(self, server: ZygoteClient, status: str) -> None:
        """Kill the children of a dead zygote and have it replaced."""
        _log.error("the zygote %d %s; starting another", server.pid, status)
        self._telemetry.emit(ChildDied(server.pid, f"zygote {status}"))
        self.source_supervisor.replace_lost(server, self._target)
        self._end_children_of(server, f"its zygote {server.pid} {status}")

    def _end_children_of(self, server: ZygoteClient | None, note: str) -> None:
        """Kill all that a zygote has forked, which will not tell of their ends."""
        for child in self._registry.forked_by(server):
            self._registry.not_ready(child)  # it is dying: no more calls for it
            child.death = child.death or Death(note=note)
            child.kill()
            if child.pidfd < 0 or child.has_ended:
                self._remove(child)  # nothing else will tell of it

    def on_server_line(self, pid: int, stream: str, line: str) -> None:
        """Pass on what the import printed."""
        self._owner.on_import_line(pid, stream, line)

    def _fill(self) -> None:
        """Start children until there are enough."""
        self._timer = None
        server = self.source_supervisor.server
        if server is None or self._is_ending:
            return
        wanted = self._target + (self._outgoing is not None)
        while self.size < wanted and self._spawn(server):
            pass

    def _fill_later(self, delay: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(delay, self._fill)

    def _spawn(self, server: Source) -> bool:
        """Start one child; False when this process has no descriptors left for it."""
        self._number = number = self._number + 1
        path, terms = server.scratch_of(number), self._terms
        plan = plan_from_policy(
            terms.policy, children=self._target, memory=terms.machine.memory, scratch_path=path
        )
        try:
            child = self.source_supervisor.child(number, owner=self._inbound, memory=plan.memory)
        except OSError as error:
            self._start_failure = f"no child can be started: {error}"
            _log.error("%s", self._start_failure)
            self._fill_later(self.delay.after_failed_start())
            return False
        self._registry.by_number[number] = child
        child.source = server if isinstance(server, ZygoteClient) else None
        self._timers.expect_start(child)
        try:
            server.spawn(number, plan, child.far_filenos())
        except (OSError, RuntimeError) as error:  # RuntimeError: of threads
            self._loop.call_soon(self.on_fork_failed, number, str(error))
        return True

    def on_forked(self, number: int, pid: int, pidfd: int) -> None:
        """Join process and child."""
        child = self._registry.by_number.get(number)
        if child is None:
            os.close(pidfd)
            return
        child.pid, child.pidfd = pid, pidfd
        child.close_far()
        self._registry.by_pid[pid] = child
        self._loop.add_reader(pidfd, self._on_end, child)
        if child.state is ChildState.LEAVING:
            child.kill()  # it was not wanted any more before it was there
        elif child.is_early:
            self.ready_now(child)

    def on_fork_failed(self, number: int, reason: str) -> None:
        """Take a refused start as a failed start."""
        child = self._registry.by_number.get(number)
        if child is not None:
            child.start_failure = reason
            self._remove(child)

    def _retire_surplus(self) -> None:
        """Retire the ready children above the target, those with the least to do first."""
        for child in self._registry.surplus(self._target + (self._outgoing is not None)):
            self._retire(child)

    def _retire(self, child: Child) -> None:
        self.ready.remove(child)
        if child is self._outgoing:
            self._outgoing = None
        if child.retire_reason:
            self._telemetry.emit(ChildRecycled(child.pid, child.retire_reason))
        self._owner.on_child_leaving(child)
        child.retire()
        self.retire_if_idle(child)

    def retire_if_idle(self, child: Child) -> None:
        """Give a leaving child that has answered everything some time for its teardown()."""
        if child.state is _LEAVING and not child.flying:
            self._timers.expect_leave(child)

    def _on_end(self, child: Child) -> None:
        """Take the pidfd's word that the process has ended; the zygote knows how."""
        self._loop.remove_reader(child.pidfd)
        child.has_ended = True
        self._registry.not_ready(child)
        child.stop_timer()
        if child.death is not None:
            self._remove(child)
        elif child.number in self._registry.by_number:
            self._timers.expect_report(child)

    def on_exit(self, pid: int, death: Death) -> None:
        """Take the zygote's word for how a child ended."""
        child = self._registry.by_pid.get(pid)
        if child is not None:
            child.death = death
            self._remove(child)

    def _remove(self, child: Child) -> None:
        """Settle the calls of a dead child, close it, and start its successor."""
        if not self._registry.remove(child):
            return
        if child is self._outgoing:
            self._outgoing = None
        self.source_supervisor.let_go(child.source, self._registry.by_number.values())
        state = child.state
        child.move(ChildState.DEAD)  # first: a READY among its last words must not count
        self._inbound.on_last_words(child)
        death = child.death or Death()
        self._owner.on_child_dead(child, death)
        child.close()
        if state is ChildState.STARTING and not self._is_ending:
            self._on_failed_start(child, death)
        elif state is ChildState.READY:
            self._telemetry.emit(ChildDied(child.pid, death.note or text_of_status(death.status)))
        self._registry.changed.set()
        self._replace(child, state)

    def _on_failed_start(self, child: Child, death: Death) -> None:
        text = text_of_failed_start(
            death, pid=child.pid, reason=child.start_failure, stderr=child.lines.stderr_tail()
        )
        if self.server in (None, child.source):  # else it had the code before
            self._start_failure = text
        _log.error("%s", text)
        self._telemetry.emit(ChildDied(child.pid, text))
        if not self.ready:
            self._owner.on_failed_start(text)

    def _replace(self, child: Child, state: ChildState) -> None:
        """Start a successor at once, or later when children die one after the other."""
        if self._is_ending or self.size >= self._target:
            return
        if state is ChildState.STARTING:
            delay = self.delay.after_failed_start()
        else:
            delay = self.delay.after_death(was_useful=child.answered > 0)
        if not delay and self.source_supervisor.server is not None:
            self._spawn(self.source_supervisor.server)
        else:
            self._fill_later(delay)

    def _end(self) -> None:
        self._is_ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._registry.changed.set()

    def _kill_all(self) -> None:
        self._end()
        for child in self.children:
            child.kill()
