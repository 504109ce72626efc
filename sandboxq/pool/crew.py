"""Keeps the wanted number of children alive: starts, replaces, retires and buries them.

resize ─► _fill ─► ForkServer.spawn ─► on_forked ─► READY ─► CrewOwner.on_child_ready
            ▲                                                      │ pidfd readable
            └── RestartDelay ◄── _bury ◄── on_exit (status) ◄──────┘ or server gone
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import struct
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sandboxq.errors import ChildStartFailed
from sandboxq.pool.channel import Flooded
from sandboxq.pool.death import Death, text_of_status
from sandboxq.pool.fork_server import ForkServer, Order
from sandboxq.pool.process import Child, ChildOwner, ChildState
from sandboxq.pool.restart import RestartDelay
from sandboxq.pool.server_keeper import ServerKeeper
from sandboxq.sandbox.plan import plan_from_policy
from sandboxq.sandbox.probe import usable_memory
from sandboxq.telemetry import ChildDied, ChildReady

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.sandbox.policy import Policy
    from sandboxq.telemetry import Telemetry

_log = logging.getLogger("sandboxq.pool")

# A child that is not ready by then (setup() hangs) is killed and counts as a failed start.
_START_SECONDS = 60.0
# The zygote tells of births and deaths within milliseconds. One that does not is perhaps stopped;
# one that does not for longer is stuck and replaced.
_LOOK_SECONDS = 0.2
_REPORT_SECONDS = 3.0
# A child that is retired closes files and connections in its teardown().
_TEARDOWN_SECONDS = 10.0
# SIGKILL takes effect within milliseconds, except in the middle of a disk that hangs.
_KILL_SECONDS = 5.0


class Terms(NamedTuple):
    """What all children of a crew have in common."""

    processor: str
    queue_name: str
    concurrency: int
    policy: Policy


class CrewOwner(ChildOwner, Protocol):
    """Who hears of births and deaths."""

    def on_child_ready(self, child: Child) -> None:
        """Hear that a child can take calls."""

    def on_child_dead(self, child: Child, death: Death) -> None:
        """Settle the calls of a dead child; afterwards its descriptors are closed."""

    def on_import_line(self, pid: int, stream: str, line: str) -> None:
        """Take a line that was printed while the processor was imported."""

    def on_child_leaving(self, child: Child) -> None:
        """Take back what a child has not read: it is about to be retired."""


class Crew:
    """The children of one pool and their fork server."""

    def __init__(self, terms: Terms, owner: CrewOwner, telemetry: Telemetry) -> None:
        """Prepare; ``start`` does it."""
        self._terms = terms
        self._owner = owner
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._children: dict[int, Child] = {}  # by number, until buried
        self._by_pid: dict[int, Child] = {}
        self._numbers = itertools.count(1)
        self._target = 0
        self._delay = RestartDelay()
        order = Order(terms.processor, terms.queue_name, terms.concurrency)
        self._keeper = ServerKeeper(order, self, self._delay, self._fill)
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._start_failure = ""
        self._is_ending = False
        self._memory = usable_memory()
        self.ready: list[Child] = []

    @property
    def is_preloaded(self) -> bool:
        """Whether children inherit the imported processor."""
        return self._keeper.is_preloaded

    @property
    def size(self) -> int:
        """How many children live or are being started, without those that leave."""
        kept = (ChildState.STARTING, ChildState.READY)
        return sum(child.state in kept for child in self._children.values())

    @property
    def children(self) -> list[Child]:
        """Every child that is not buried."""
        return list(self._children.values())

    @property
    def is_in_trouble(self) -> bool:
        """Whether children died without one successful job since."""
        return self._delay.streak > 0

    def succeed(self) -> None:
        """Take note of a successful job."""
        self._delay.succeed()

    async def start(self, size: int, timeout: float) -> None:
        """Start the fork server and ``size`` children, and wait until all of them are ready.

        Raises:
            ProcessorNotLoaded: the processor cannot be imported.
            ChildStartFailed: a child ended before it was ready, or was not ready in time.
            UsageError: the processor does not fit the concurrency.
        """
        deadline = self._loop.time() + timeout
        await self._keeper.start(size, timeout)
        await self.resize(size, timeout=max(1.0, deadline - self._loop.time()))

    async def resize(self, size: int, *, timeout: float = _START_SECONDS) -> None:
        """Have ``size`` children; returns when new ones are ready, not when old ones have left.

        Raises:
            ChildStartFailed: a new child could not start; it is tried again all the same.
        """
        self._target = size
        self._start_failure = ""
        for child in self._surplus():
            self._retire(child)
        self._fill()
        deadline = self._loop.time() + timeout
        while len(self.ready) < self._target and not self._is_ending:
            if self._start_failure:
                raise ChildStartFailed(self._start_failure)
            await self._change(deadline - self._loop.time())
            if self._loop.time() >= deadline:
                message = f"children were not ready within {timeout:g} s (does setup() hang?)"
                raise ChildStartFailed(message)

    async def retire_all(self, timeout: float) -> None:
        """Start nothing any more; let children finish what they run, for at most ``timeout``."""
        self._end()
        for child in self.children:
            if child.state is ChildState.READY:
                self._retire(child)
            elif child.state is ChildState.STARTING:
                child.move(ChildState.LEAVING)
                child.kill()
        deadline = self._loop.time() + timeout
        while self._children and self._loop.time() < deadline:
            await self._change(deadline - self._loop.time())

    async def close(self) -> None:
        """Kill what is left, the fork server last, and wait until all is gone."""
        self._end()
        for child in self.children:
            child.kill()
        deadline = self._loop.time() + _KILL_SECONDS
        while self._children and self._loop.time() < deadline:
            await self._change(deadline - self._loop.time())
        await self._keeper.close()
        self._bury_all()

    def kill(self) -> None:
        """Kill everything now and give back every descriptor; blocks for some milliseconds."""
        self._end()
        for child in self.children:
            child.kill()
        self._keeper.kill()
        self._bury_all()

    def ready_now(self, child: Child) -> None:
        """Take a child's READY."""
        if child.state is not ChildState.STARTING:
            return
        if child.pidfd < 0:
            child.is_early = True  # it was faster than the news of its fork
            return
        child.move(ChildState.READY)
        if child.timer is not None:
            child.timer.cancel()
            child.timer = None
        self.ready.append(child)
        self._delay.start()
        self._telemetry.emit(ChildReady(child.pid))
        self._owner.on_child_ready(child)
        self._changed.set()
        for surplus in self._surplus():
            self._retire(surplus)

    def leave(self, child: Child) -> None:
        """Send no more calls to a child that is ending by itself or was told to."""
        if child.state in (ChildState.STARTING, ChildState.READY):
            child.move(ChildState.LEAVING)
        if child in self.ready:
            self.ready.remove(child)

    # ── the fork server ──

    def on_server_gone(self, server: ForkServer, status: str) -> None:
        """Kill the children of a dead fork server and have it replaced."""
        note = f"its fork server {server.pid} {status}"
        _log.error("the fork server %d %s; starting another", server.pid, status)
        self._telemetry.emit(ChildDied(server.pid, f"fork server {status}"))
        self._keeper.replace_lost(server, self._target)
        self.ready.clear()  # they are dying: no more calls for them
        for child in self.children:
            child.death = child.death or Death(note=note)
            child.kill()
            if child.pidfd < 0 or child.has_ended:
                self._bury(child)  # nothing else will tell of it

    def on_server_line(self, pid: int, stream: str, line: str) -> None:
        """Pass on what the import printed."""
        self._owner.on_import_line(pid, stream, line)

    # ── births ──

    def _fill(self) -> None:
        """Start children until there are enough."""
        self._timer = None
        server = self._keeper.server
        if server is None or self._is_ending:
            return
        while self.size < self._target and self._spawn(server):
            pass

    def _fill_later(self, delay: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(delay, self._fill)

    def _spawn(self, server: ForkServer) -> bool:
        """Start one child; False when this process has no descriptors left for it."""
        number = next(self._numbers)
        plan = plan_from_policy(
            self._terms.policy,
            children=self._target,
            memory=self._memory,
            scratch_path=server.scratch_of(number),
        )
        try:
            child = Child(
                number,
                self._loop,
                owner=self._owner,
                concurrency=self._terms.concurrency,
                memory=plan.memory,
            )
        except OSError as error:
            self._start_failure = f"no child can be started: {error}"
            _log.error("%s", self._start_failure)
            self._fill_later(self._delay.after_failed_start())
            return False
        self._children[number] = child
        child.timer = self._loop.call_later(_LOOK_SECONDS, self._wait_for_start, child)
        server.spawn(number, plan, child.far_filenos())
        return True

    def on_forked(self, number: int, pid: int, pidfd: int) -> None:
        """Join process and child."""
        child = self._children.get(number)
        if child is None:
            os.close(pidfd)
            return
        child.pid, child.pidfd = pid, pidfd
        child.close_far()
        self._by_pid[pid] = child
        self._loop.add_reader(pidfd, partial(self._on_end, child))
        if child.state is ChildState.LEAVING:
            child.kill()  # it was not wanted any more before it was there
        elif child.is_early:
            self.ready_now(child)

    def on_fork_failed(self, number: int, reason: str) -> None:
        """Take a refused fork as a failed start."""
        child = self._children.get(number)
        if child is None:
            return
        child.start_failure = f"the kernel refused to fork: {reason}"
        self._bury(child)

    def _wait_for_start(self, child: Child) -> None:
        if child.pidfd < 0:
            self._keeper.wake_stopped()
        child.timer = self._loop.call_later(_START_SECONDS, self._give_up_on, child)

    def _give_up_on(self, child: Child) -> None:
        child.start_failure = f"it was not ready within {_START_SECONDS:g} s"
        if child.pidfd < 0:
            self._keeper.kill_stuck()  # it was not even forked
        child.kill()

    def _surplus(self) -> list[Child]:
        """Return the ready children above the target, those with the least to do first."""
        count = len(self.ready) - self._target
        by_load: Callable[[Child], int] = lambda child: len(child.flying)  # noqa: E731 - a sort key
        return sorted(self.ready, key=by_load)[:count] if count > 0 else []

    def _retire(self, child: Child) -> None:
        self.ready.remove(child)
        self._owner.on_child_leaving(child)
        child.retire()
        self.see_off(child)

    def see_off(self, child: Child) -> None:
        """Give a leaving child that has answered everything some time for its teardown()."""
        if child.state is ChildState.LEAVING and not child.flying and child.timer is None:
            child.timer = self._loop.call_later(_TEARDOWN_SECONDS, self._end_teardown, child)

    def _end_teardown(self, child: Child) -> None:
        _log.warning(
            "child %d had %g s for its teardown() and is killed", child.pid, _TEARDOWN_SECONDS
        )
        child.kill()

    # ── deaths ──

    def _on_end(self, child: Child) -> None:
        """Take the pidfd's word that the process has ended; the zygote knows how."""
        self._loop.remove_reader(child.pidfd)
        child.has_ended = True
        if child in self.ready:
            self.ready.remove(child)
        if child.timer is not None:
            child.timer.cancel()
        if child.death is not None:
            self._bury(child)
        elif child.number in self._children:
            child.timer = self._loop.call_later(_LOOK_SECONDS, self._wait_for_report, child)

    def _wait_for_report(self, child: Child) -> None:
        self._keeper.wake_stopped()
        child.timer = self._loop.call_later(
            _REPORT_SECONDS - _LOOK_SECONDS, self._keeper.kill_stuck
        )

    def on_exit(self, pid: int, death: Death) -> None:
        """Take the zygote's word for how a child ended."""
        child = self._by_pid.get(pid)
        if child is not None:
            child.death = death
            self._bury(child)

    def _bury(self, child: Child) -> None:
        """Settle and forget a child, and see to its successor."""
        if self._children.pop(child.number, None) is None:
            return
        self._by_pid.pop(child.pid, None)
        if child in self.ready:
            self.ready.remove(child)
        self._read_last_words(child)
        state = child.state
        child.move(ChildState.DEAD)
        death = child.death or Death()
        self._owner.on_child_dead(child, death)
        child.close()
        if state is ChildState.STARTING and not self._is_ending:
            self._on_failed_start(child, death)
        elif state is ChildState.READY:
            self._telemetry.emit(ChildDied(child.pid, death.note or text_of_status(death.status)))
        self._changed.set()
        self._replace(child, state)

    def _read_last_words(self, child: Child) -> None:
        """Take the answers that a dead child had sent, and its output."""
        with contextlib.suppress(Flooded, struct.error):  # no answer that can be used
            while child.channel.receive():
                pass
        child.drain_output()

    def _on_failed_start(self, child: Child, death: Death) -> None:
        reason = child.start_failure or f"it {death.note or text_of_status(death.status)}"
        text = f"child {child.pid} ended before it was ready: {reason}"
        if not child.start_failure and child.stderr_tail():
            text = f"{text}\n{child.stderr_tail()}"
        self._start_failure = text
        _log.error("%s", text)
        self._telemetry.emit(ChildDied(child.pid, text))

    def _replace(self, child: Child, state: ChildState) -> None:
        """Start a successor at once, or later when children die one after the other."""
        if self._is_ending or self.size >= self._target:
            return
        if state is ChildState.STARTING:
            delay = self._delay.after_failed_start()
        else:
            delay = self._delay.after_death(was_useful=child.answered > 0)
        if not delay and self._keeper.server is not None:
            self._spawn(self._keeper.server)
        else:
            self._fill_later(delay)

    # ── the end ──

    def _end(self) -> None:
        self._is_ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._changed.set()

    def _bury_all(self) -> None:
        for child in self.children:
            self._bury(child)

    async def _change(self, timeout: float) -> None:
        """Wait for a birth or a death, for at most ``timeout`` seconds."""
        self._changed.clear()
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await self._changed.wait()
        except TimeoutError:
            return
