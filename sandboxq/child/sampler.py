"""Samples where a job is, in the child's own signal handler; nothing runs unless it was asked for.

    coordinator ──word of the mark, PROFILE_SIGNAL──► Sampler ──► a timer of the kernel
    timer ──PROFILE_SIGNAL──► Sampler ──► ProfilePage        the job ends, or time is up ──► PROFILE

The handler is Python's: it runs in the main thread when the interpreter next looks for signals, at
the end of a call of C code, of a loop's round, and where a function begins. What C code took until
then counts for the line that the handler finds.
"""

from __future__ import annotations

# What the standard library wraps, to make members of enumerations of what it takes and returns.
import _signal  # type: ignore[import-not-found]  # has no stubs
import _thread
import mmap
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.child import interrupts
from sandboxq.child.activity_page import SAMPLE
from sandboxq.child.frames import PROFILE
from sandboxq.child.profile_page import LAST, MOST_DEPTH, SIZE, ProfilePage
from sandboxq.sandbox.mechanisms.timer import CPU, WALL, ThreadTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from sandboxq.child.link import Link

# Programs use the lower ones.
PROFILE_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2) - 2  # Macs have none, and no children

# A sample that comes later than this, in periods, waited for C code.
_LATE = 2.5
_NANO = 1_000_000_000
# Samples are taken a little less often than asked for: else they keep step with code that does the
# same every 10 ms, and always find it at the same line.
_OUT_OF_STEP = 1.0137
_TENTH = _NANO // 10
_is_gil_enabled = getattr(sys, "_is_gil_enabled", bool)

# The parts of a request, one number: which one, the clock, samples a second, tenths of a second
# (0: until the job ends), and the low half of the call's number.
_SEQ_BITS, _TENTHS_BITS, _HERTZ_BITS = 32, 13, 10
MOST_HERTZ = 1000
MOST_SECONDS = 600.0


class Wanted(NamedTuple):
    """What is to be sampled: a call, ``hz`` times a second of a clock, for so many seconds.

    0 seconds: until the job ends.
    """

    seq: int
    hz: int
    seconds: float
    is_cpu: bool


def encode_wanted(wanted: Wanted, number: int) -> int:
    """Return the word for a request; ``number`` tells it from the one before."""
    word = number & 0xFF
    word = word << 1 | wanted.is_cpu
    word = word << _HERTZ_BITS | wanted.hz
    word = word << _TENTHS_BITS | round(wanted.seconds * 10)
    return word << _SEQ_BITS | wanted.seq & 0xFFFF_FFFF


def _decoded(word: int) -> tuple[int, int, int, bool]:
    """Return the low half of the call's number, hertz, nanoseconds, and whether of CPU time."""
    seq, word = word & 0xFFFF_FFFF, word >> _SEQ_BITS
    tenths, word = word & (1 << _TENTHS_BITS) - 1, word >> _TENTHS_BITS
    hertz, word = word & (1 << _HERTZ_BITS) - 1, word >> _HERTZ_BITS
    return seq, max(1, min(hertz, MOST_HERTZ)), tenths * _TENTH, bool(word & 1)


class Sampler:
    """Takes the samples of one job at a time. Made in the main thread."""

    __slots__ = (
        "_at",
        "_is_at_it",
        "_is_cpu",
        "_link",
        "_main",
        "_of_threads",
        "_others",
        "_own",
        "_page",
        "_period",
        "_roots",
        "_seen_word",
        "_spent",
        "_timer",
        "_until",
        "seq",
        "waiting",
    )

    def __init__(self, link: Link, *roots: Callable[..., object]) -> None:
        """Sample jobs of ``link``: what functions of ours have called, or those in them."""
        self._link = link
        self._own = roots
        self._roots: frozenset[int] = frozenset()  # their code; to look is to write to its pages
        self._main = threading.get_ident()
        self._page: ProfilePage | None = None
        self._timer: ThreadTimer | None = None
        self._seen_word = self._until = self._at = self._spent = self._others = 0
        self._period = _NANO
        self._is_at_it = self._is_cpu = False
        self._of_threads: dict[int, _Thread] = {}
        self.seq = 0  # the call that is sampled
        # What an event loop tells of a job that waits: tasks by name, the innermost frame first.
        self.waiting: Callable[[int], Sequence[tuple[str, list[FrameType]]]] | None = None

    def install(self) -> None:
        """Hear the signal."""
        self._link.reports.sampler = self
        _signal.signal(PROFILE_SIGNAL, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number
        if self._is_at_it:
            return
        self._is_at_it = True
        words = self._link.mark.words
        try:
            word = words[SAMPLE]
            if word != self._seen_word:
                self._obey(word)
                self._seen_word = word
            elif self.seq:
                self._tick(frame)
        except Exception as error:
            if not _is_ours(error):
                raise  # a handler of the job, for another signal, that came meanwhile
            self._seen_word = words[SAMPLE]
            self._stop()
        finally:
            self._is_at_it = False
            if words[SAMPLE] != self._seen_word:
                _signal.raise_signal(PROFILE_SIGNAL)  # what begins was cut: once more
            self._link.resume(frame)

    def _obey(self, word: int) -> None:
        """Begin what is asked for; 0: stop, without a word."""
        self._stop()
        if not word or not self._link.is_ours():
            return
        low, hertz, nanoseconds, self._is_cpu = _decoded(word)
        seq = self._link.mark.latest() >> _SEQ_BITS << _SEQ_BITS | low
        page = self._page
        if page is None:
            page = self._page = ProfilePage(mmap.mmap(self._link.page, SIZE))
            codes = [each.__code__ for each in self._own]
            self._roots = frozenset(id(it) for code in codes for it in (code, *code.co_consts))
        now = time.monotonic_ns()
        page.begin(seq, now)
        self._period = int(_NANO * _OUT_OF_STEP) // hertz
        self._until = now + nanoseconds if nanoseconds else 0
        self._at, self._spent = now, time.thread_time_ns()
        self._others = time.process_time_ns() - self._spent
        self.seq = seq
        self._link.reports.expect_end(seq)
        self._timer = ThreadTimer(CPU if self._is_cpu else WALL, PROFILE_SIGNAL)
        self._timer.start(self._period)

    def _stop(self) -> None:
        timer, self._timer, self.seq = self._timer, None, 0
        self._of_threads = {}
        if timer is not None:
            timer.close()
        if self._page is not None:
            self._page.forget()

    def end(self, seq: int) -> None:
        """Tell what was sampled of a call that ends, or whose time is up."""
        if seq != self.seq or not self._link.is_ours():
            return
        assert self._page is not None  # noqa: S101 - it is made with the first request
        self._stop()
        self._link.send(PROFILE, seq, self._page.packed())

    def _tick(self, frame: FrameType | None) -> None:
        page = self._page
        assert page is not None  # noqa: S101 - as above
        now, spent = time.monotonic_ns(), time.thread_time_ns()
        since, used = now - self._at, spent - self._spent
        self._at, self._spent = now, spent
        wall = 0 if self._is_cpu else since
        if self._link.reports.runs(self.seq):
            self._sample(page, frame, wall, used, is_late=since > _LATE * self._period)
            page.words[LAST] = now
        elif self._link.mark.latest() > self.seq:
            self._stop()
            return
        if self._until and now >= self._until and not interrupts.is_in_whole(frame):
            self.end(self.seq)

    def _sample(
        self, page: ProfilePage, frame: FrameType | None, wall: int, used: int, *, is_late: bool
    ) -> None:
        frames, is_whole = self._frames(frame)
        if is_whole:
            if is_late and len(frames) > 1 and _is_at_begin(frames[0]):
                del frames[0]  # it was entered just now: what took so long was before
            top = page.node_of(0, "…", "", 0, 0) if len(frames) == MOST_DEPTH else 0
            page.add(frames, top, wall, used)
        elif self.waiting is not None and wall:
            self._add_waiting(page, wall)
        if _thread._count():  # noqa: SLF001 - documented nowhere else, and costs nothing
            self._add_threads(page, wall)

    def _frames(self, frame: FrameType | None) -> tuple[list[FrameType], bool]:
        """Return the job's frames, the innermost first, and whether these are all of a job."""
        frames: list[FrameType] = []
        roots = self._roots
        while frame is not None:
            if id(frame.f_code) in roots:
                return frames, True
            if len(frames) < MOST_DEPTH:
                frames.append(frame)
            frame = frame.f_back
        return frames, False

    def _add_waiting(self, page: ProfilePage, wall: int) -> None:
        assert self.waiting is not None  # noqa: S101 - the caller looked
        for name, frames in self.waiting(self.seq):
            top = page.node_of(0, f"task {name}", "", 0, 0) if name else 0
            page.add(frames[:MOST_DEPTH], top, wall, 0)

    def _add_threads(self, page: ProfilePage, wall: int) -> None:
        """Add what the other threads do.

        Without a GIL they run meanwhile, and their frames cannot be looked at.
        """
        if not _is_gil_enabled() and _is_gil_enabled is not bool:
            return
        stacks = sys._current_frames()  # noqa: SLF001 - documented, for debuggers
        stacks.pop(self._main, None)
        others = time.process_time_ns() - self._spent
        share, self._others = max(0, others - self._others) // max(1, len(stacks)), others
        for ident, frame in stacks.items():
            seen = self._of_threads.get(ident)
            if seen is None:
                seen = self._of_threads[ident] = _Thread(_node_of_thread(page, ident))
            used = seen.used(ident, share)
            if wall or used:
                page.add(self._frames(frame)[0], seen.node, wall, used)


class _Thread:
    """A thread beside the main one: its node, and its CPU time until the last sample."""

    __slots__ = ("node", "spent")

    def __init__(self, node: int) -> None:
        self.node = node
        self.spent = -1

    def used(self, ident: int, share: int) -> int:
        """Return its CPU time since the last sample, or ``share`` where its clock is not shown."""
        try:
            spent = time.clock_gettime_ns(time.pthread_getcpuclockid(ident))
        except OSError:  # `strict`: by the number of a clock nobody can tell whose it is
            return share
        before, self.spent = self.spent, spent
        return spent - before if before >= 0 else 0


def _node_of_thread(page: ProfilePage, ident: int) -> int:
    thread = threading._active.get(ident)  # type: ignore[attr-defined]  # noqa: SLF001 - takes no lock
    return page.node_of(0, f"thread {thread.name if thread is not None else ident}", "", 0, 0)


def _is_ours(error: BaseException) -> bool:
    """Tell whether an exception was raised by our own code, not by what interrupted it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (
        trace is None
        or trace.tb_frame.f_globals.get("__package__") == __package__
        or (trace.tb_frame.f_code.co_filename == threading.__file__)
    )


def _is_at_begin(frame: FrameType) -> bool:
    """Tell whether none of a function has run yet: the interpreter looked as it entered."""
    import opcode  # noqa: PLC0415 - only where C code took long

    resume = opcode.opmap.get("RESUME", -1)
    code, at = frame.f_code.co_code, frame.f_lasti
    return 0 <= at < len(code) and code[at] == resume and not code[at + 1]


interrupts.WHOLE.add(Sampler._on_signal.__code__)  # noqa: SLF001 - of this module
