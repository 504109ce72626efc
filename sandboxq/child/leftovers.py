"""What a job leaves behind does not reach the next: looked for after jobs, and cleared.

    job ends ──► may something have changed? (an audit hook) ──► look, before the answer
             └─► the time for a look, or nothing to do      ──► look, after it
    look: processes, temporary files, descriptors, threads, handlers, …  ──► clear, LEFT
                                                         cannot be cleared ──► LEFT, leave

The coordinator replaces a child that leaves. A look takes 15 to 40 µs: it comes after each job, but
not while one job of microseconds follows the other: then they share one, unless they do what raises
an audit event.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sandboxq.child import leftover_kinds
from sandboxq.child.files import Descriptors, Scratch
from sandboxq.child.frames import LEFT, encode_left
from sandboxq.child.kernel_state import state_beneath
from sandboxq.child.patches import KernelView
from sandboxq.child.state import CannotRestore
from sandboxq.child.strays import Processes, Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.link import Link
    from sandboxq.child.process_state import States

# Where nothing hints at a change, looks are so many times as far apart as the last one took: 0.5 %
# of the time of a busy child, be its machine fast or slow. Never closer or further apart than this.
_APART = 200
_INTERVAL_NS = 5_000_000
_LONGEST_INTERVAL_NS = 100_000_000
# After a rest, so many may follow each other at once.
_BURST = 20
# From the end of a job in an event loop to a look; several jobs share one.
LOOK_SECONDS = _INTERVAL_NS / 1e9
# What may leave something behind raises one of these (PEP 578); C code may not, and is seen later.
_FILES = frozenset({"open", "socket.__new__", "os.mkdir", "tempfile.mkstemp", "tempfile.mkdtemp"})
_REACHES_C = frozenset({"ctypes.dlopen", "ctypes.dlsym", "ctypes.dlsym/handle"})
_AUDIT_HOOK = "sys.addaudithook"
_LIMITS = frozenset({"resource.setrlimit", "resource.prlimit"})
_OTHERS = frozenset(
    {
        "os.chdir",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.putenv",
        "os.unsetenv",
        "os.system",
        "subprocess.Popen",
        "_thread.start_new_thread",
        "_thread.start_joinable_thread",
    }
) | {_AUDIT_HOOK, *_REACHES_C, *_LIMITS}
_EVENTS = dict.fromkeys(_FILES | _OTHERS)
HEARD_NOTHING = len(_EVENTS)
# Memory that is worth a word: this part of the grant.
_SHARE = 8
_PAGE = os.sysconf("SC_PAGE_SIZE")
_DATA_FIELD = 5  # of /proc/PID/statm


class Leaving(Exception):
    """What a job has left cannot be cleared: this child ends, after its answer."""


class _CannotClear(Exception):
    """The coordinator was told that this child leaves."""


class Leftovers:
    """Looks after the jobs of one child, one at a time."""

    def __init__(
        self,
        link: Link,
        states: States,
        *,
        memory: int | None,
        scratch: str,
        may_leave_processes: bool,
    ) -> None:
        """Take what is there now for what is to be there: setup() has run.

        ``states`` is how the process is now, ``scratch`` is the child's own folder: a TMPDIR that
        setup() has chosen is others' too.
        """
        # Events that no job has raised since the last look: fewer than HEARD_NOTHING are heeded
        # before the answer.
        self.unheard = dict(_EVENTS)
        self.due = 0  # when the next look may be, in nanoseconds of perf_counter
        self._interval = _INTERVAL_NS
        self.is_behind = False  # a job has ended that was not looked after
        self._is_timed = False  # waiting for a message ends after the interval
        self.must_leave = False  # the coordinator knows
        self._link = link
        self._memory = memory
        self._states = states
        view = KernelView()
        self._kernel = state_beneath(view)
        self._reaches_c = False  # once a job has, all may: a function of C is found only once
        self._threads = Threads()
        self._processes = None if may_leave_processes else Processes()
        self._scratch = Scratch(scratch)
        self._descriptors = Descriptors()
        self._held = _Memory(memory)
        self._opened = self._descriptors.fd, self._held.fd, *view.fds

    def listen(self) -> None:
        """Hear of events from now on, for good.

        By a method of C, called with an event and its arguments: there are events for all that code
        does, two for each job of ours among them, and a function of Python costs ten times that.
        """
        sys.addaudithook(self.unheard.pop)

    def close(self) -> None:
        """Give back what this reads by: it was for practice."""
        for fd in self._opened:
            if fd >= 0:
                os.close(fd)

    def heed(self, seq: int) -> None:
        """Look, before a job is answered, for what it may have left by what it did."""
        if self.unheard.keys() >= _OTHERS:
            self._look(self._look_at_files, seq)
        else:
            self._look(self._look_at_doings, seq)

    def fall_behind(self) -> None:
        """Look after a job that has ended only when no message comes soon: see ``catch_up``.

        Not at once: children wait for each other's coordinator every few jobs.
        """
        self.is_behind = True
        if not self._is_timed:
            self._link.wait_at_most(self._interval // 1000)
            self._is_timed = True

    def catch_up(self) -> None:
        """Look after the last job: no message came. Raises: Leaving."""
        self._is_timed = False
        self._link.wait_at_most(0)
        if self.is_behind:
            self.look_after()

    def look_after(self, seq: int = 0) -> None:
        """Look after the job that has ended. Raises: Leaving."""
        self.look(seq)
        if self.must_leave:
            raise Leaving

    def look(self, seq: int = 0) -> None:
        """Look for everything, and clear it."""
        began = time.perf_counter_ns()
        self._look(self._look_at_all, seq)
        ended = time.perf_counter_ns()
        apart = _APART * (ended - began)
        self._interval = interval = min(max(_INTERVAL_NS, apart), _LONGEST_INTERVAL_NS)
        self.due = max(self.due, ended - _BURST * interval) + interval
        self.is_behind = False

    def leave_for(self, kind: int, count: int) -> None:
        """Have this child replaced for what somebody else has found."""
        self._look(lambda seq: self._tell(seq, kind, count, leaves=True), 0)

    def look_beside_jobs(self) -> None:
        """Look for what is not that of jobs that run, as far as it must not grow without end."""
        self._look(self._look_at_growth, 0)

    def _look_at_growth(self, seq: int) -> None:
        self._check_descriptors(seq)
        self._weigh(seq)

    def _look(self, look: Callable[[int], None], seq: int) -> None:
        """Look; whatever goes wrong with that, the child leaves."""
        try:
            if not self.must_leave:
                look(seq)
        except _CannotClear:
            self.must_leave = True
        except Exception:  # noqa: BLE001 - a job has closed or patched what this looks with
            self.must_leave = True
            self._tell(seq, leftover_kinds.SETTINGS, 1)
        if self.must_leave:
            self.due = 0  # after this job
        self.unheard.update(_EVENTS)  # what the look itself has opened included

    def _look_at_files(self, seq: int) -> None:
        self._clear_scratch(seq)
        self._check_descriptors(seq)

    def _look_at_all(self, seq: int) -> None:
        self._look_at_doings(seq)
        self._weigh(seq)  # never before the answer: what a job holds itself is no leftover

    def _look_at_doings(self, seq: int) -> None:
        self._end_processes(seq)
        self._restore(seq)
        if self._threads.are_there() and (count := self._threads.settle()):
            self._tell(seq, leftover_kinds.THREADS, count, leaves=True)
        self._look_at_files(seq)

    def _end_processes(self, seq: int) -> None:
        if self._processes is None or not self._processes.are_there():
            return
        try:
            count = self._processes.end()
        except TimeoutError:
            self._tell(seq, leftover_kinds.PROCESSES, 1, leaves=True)
            return
        if count:
            self._tell(seq, leftover_kinds.PROCESSES, count)

    def _restore(self, seq: int) -> None:
        if _AUDIT_HOOK not in self.unheard:  # nobody can take it back
            self._tell(seq, leftover_kinds.SETTINGS, 1, leaves=True)
        states = self._states.always
        if not self.unheard.keys() >= _LIMITS:
            states = [*states, *self._states.limits]
        if self._reaches_c or not self.unheard.keys() >= _REACHES_C:
            self._reaches_c = True
            states = [*states, self._kernel]
        for state in states:
            if state.is_changed():
                try:
                    state.restore()
                except CannotRestore:
                    self._tell(seq, state.kind, 1, leaves=True)
                else:
                    self._tell(seq, state.kind, 1)

    def _clear_scratch(self, seq: int) -> None:
        if not self._scratch.is_changed():
            return
        try:
            count = self._scratch.empty()
        except TimeoutError:
            self._tell(seq, leftover_kinds.SCRATCH, 1, leaves=True)
            return
        if count:
            self._tell(seq, leftover_kinds.SCRATCH, count)

    def _check_descriptors(self, seq: int) -> None:
        if count := self._descriptors.too_many():
            self._tell(seq, leftover_kinds.DESCRIPTORS, count, leaves=True)

    def _weigh(self, seq: int) -> None:
        left = self._held.grown()
        if left:
            self._tell(seq, leftover_kinds.MEMORY, left, leaves=self._held.is_leaking)

    def _tell(self, seq: int, kind: int, count: int, *, leaves: bool = False) -> None:
        detail = kind | leftover_kinds.LEAVES if leaves else kind
        if self.must_leave:
            detail |= leftover_kinds.LEAVES
        self._link.answer(LEFT, seq, encode_left(count), detail=detail)
        if leaves:
            raise _CannotClear


class _Memory:
    """What jobs have left of memory that is this process's own."""

    def __init__(self, memory: int | None) -> None:
        self.is_leaking = False
        self._memory = memory
        self._step = (memory or 0) // _SHARE
        self.fd = -1
        if memory is not None:
            with suppress(OSError):
                self.fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._first = self._told = self._data()
        self._times = 0

    def _data(self) -> int:
        if self.fd < 0:
            return 0
        return int(os.pread(self.fd, 256, 0).split()[_DATA_FIELD]) * _PAGE

    def grown(self) -> int:
        """Return how many bytes jobs have left, when that is news: another step of the grant.

        Once is a cache, perhaps; when it grows on to half of the grant, it is a leak.
        """
        if self.fd < 0 or self._data() < self._told + self._step:
            return 0
        gc.collect()
        data = self._data()
        if data < self._told + self._step:
            return 0
        self._told = data
        self._times += 1
        left = data - self._first
        self.is_leaking = self._times > 1 and left > (self._memory or 0) // 2
        return left
