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
import resource
import socket
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sandboxq.child import leftover_kinds
from sandboxq.child.frames import LEFT, encode_left
from sandboxq.child.patches import KernelView
from sandboxq.child.process_state import CannotRestore, kernel_now, limits_now, states_now
from sandboxq.child.strays import Processes, Threads
from sandboxq.sandbox.scratch import empty_scratch

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.link import Link

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
# Descriptors that jobs may keep for those after them; sockets, which are connections, count less.
_KEPT_DESCRIPTORS = 16
# Memory that is worth a word: this part of the grant.
_SHARE = 8
_SCRATCH_SECONDS = 0.25
_TICK_NS = 20_000_000  # with room: ticks are 1 to 10 ms
_PAGE = os.sysconf("SC_PAGE_SIZE")
_DATA_FIELD = 5  # of /proc/PID/statm


class Leaving(Exception):
    """What a job has left cannot be cleared: this child ends, after its answer."""


class _CannotClear(Exception):
    """The coordinator was told that this child leaves."""


class Leftovers:
    """Looks after the jobs of one child, one at a time."""

    def __init__(
        self, link: Link, *, memory: int | None, scratch: str, may_leave_processes: bool
    ) -> None:
        """Take what is there now for what is to be there: setup() has run.

        ``scratch`` is the child's own folder: a TMPDIR that setup() has chosen is others' too.
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
        self._states = states_now()
        self._limits = limits_now()
        view = KernelView()
        self._kernel = kernel_now(view)
        self._reaches_c = False  # once a job has, all may: a function of C is found only once
        self._threads = Threads()
        self._processes = None if may_leave_processes else Processes()
        self._scratch = _Scratch(scratch)
        self._descriptors = _Descriptors()
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
        states = self._states
        if not self.unheard.keys() >= _LIMITS:
            states = [*states, self._limits]
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


class _Scratch:
    """The child's own folder of temporary files."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        self._seen = 0
        self._kept: set[str] = set()
        self._tempdir = getattr(sys.modules.get("tempfile"), "tempdir", None)
        if path:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._kept = set(os.listdir(self._fd))  # noqa: PTH208 - by descriptor
            self._note()

    def _note(self) -> None:
        """Keep when it was changed last, which nobody can set; not before that is over.

        Before Linux 6.13 changes within one tick of the kernel's clock have the same time.
        """
        changed = os.fstat(self._fd).st_ctime_ns
        self._seen = changed if time.time_ns() - changed > _TICK_NS else 0

    def is_changed(self) -> bool:
        return self._fd >= 0 and os.fstat(self._fd).st_ctime_ns != self._seen

    def empty(self) -> int:
        """Remove what jobs have left; return how many things lay there. Raises: TimeoutError."""
        count = empty_scratch(self._fd, keep=self._kept, seconds=_SCRATCH_SECONDS)
        self._note()
        tempfile: Any = sys.modules.get("tempfile")
        if tempfile is not None and tempfile.tempdir != self._tempdir:
            tempfile.tempdir = self._tempdir  # not a job's own place; None: looked up again
        if count and "multiprocessing.process" in sys.modules:
            process = sys.modules["multiprocessing.process"].current_process()
            process._config.pop("tempdir", None)  # noqa: SLF001 - the folder that it had made is gone
        return count


class _Descriptors:
    """Which are open, and whether the new ones are harmless."""

    def __init__(self) -> None:
        self.fd = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._known = set(self._open())
        spare = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(self._known)) // 4
        self._most, self._most_files = max(1, spare), max(1, min(_KEPT_DESCRIPTORS, spare))
        self._seen = self._size()

    def _size(self) -> int:
        """Return how many there are; kernels before 6.2 say 0."""
        return os.fstat(self.fd).st_size

    def _open(self) -> list[int]:
        return [int(name) for name in os.listdir(self.fd)]  # noqa: PTH208 - by descriptor

    def too_many(self) -> int:
        """Return how many jobs have left, when they must not stay; 0 while they may."""
        size = self._size()
        if size and size <= self._seen:
            self._seen = size
            return 0
        if self._must_go(self._new()):
            gc.collect()  # what only a circle of objects holds is nobody's
            new = self._new()
            if self._must_go(new):
                return len(new)
        self._seen = self._size()
        return 0

    def _new(self) -> list[int]:
        """Return what is open that was not before the first job."""
        return [fd for fd in self._open() if fd not in self._known and _is_open(fd)]

    def _must_go(self, fds: list[int]) -> bool:
        files = [fd for fd in fds if not _is_socket(fd)]
        is_many = len(fds) > self._most or len(files) > self._most_files
        return is_many or any(_is_harmful(fd) and not self._was_open(fd) for fd in fds)

    def _was_open(self, fd: int) -> bool:
        """Tell whether what it leads to was open before: ``mmap`` makes a descriptor of its own."""
        return any(_lead_to_one_file(fd, known) for known in self._known)


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _is_open(fd: int) -> bool:
    """Tell whether it is still there: the one by which the folder was listed is not."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_harmful(fd: int) -> bool:
    """Tell whether others would meet it: a lock, a port, a file that has no name any more."""
    try:
        facts = os.fstat(fd)
        if stat.S_ISSOCK(facts.st_mode):
            return _is_listening(fd)
        if not stat.S_ISREG(facts.st_mode):
            return False
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:  # noqa: PTH123 - pathlib is not worth its import here
            return not facts.st_nlink or b"lock:" in info.read()
    except OSError:
        return False


def _lead_to_one_file(fd: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(fd, other)
    except OSError:
        return False


def _is_listening(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as other:
        return bool(other.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


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
