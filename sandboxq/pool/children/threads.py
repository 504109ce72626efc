"""Children that are threads of this process, each in this interpreter or in one of its own.

spawn ─► Thread ─► child/thread.py ══ socket pair ══ Seat (a Child without a process)
give_up ─► told, 1 s ─► ended ───────► on_exit
                     └► abandoned ───► on_exit; the thread goes on, and counts until it ends

A thread cannot be killed. One that does not end is left alone and replaced. Once there are more of
those than children, no child is started until one of them has ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
import logging
import os
import re
import sys
import threading
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sandboxq.child import loader, loop, output
from sandboxq.child import thread as child_thread
from sandboxq.child.frames import RETIRE
from sandboxq.errors import ProcessorNotLoaded, UsageError
from sandboxq.pool.children.child import Child
from sandboxq.pool.children.source import WithoutZygotes, refuse_concurrency
from sandboxq.pool.kinds import Kind
from sandboxq.pool.outcomes import Death
from sandboxq.pool.stacks import stack_of_thread
from sandboxq.sandbox.environment import THREAD_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.zygote_client import ServerOwner
    from sandboxq.pool.options import ChildOwner, PoolOptions
    from sandboxq.sandbox.plan import Plan

_log = logging.getLogger("sandboxq.pool")

# What a job that looks at job.cancelled, or awaits, needs to notice that it is to end.
_LAST_SECONDS = 1.0
# CPython's warning; it names the module.
_GIL_WARNING = r"The global interpreter lock \(GIL\) has been enabled to load module '([^']*)'"
_NO_SUBINTERPRETER = re.compile(r"module ([\w.]+) does not support loading in subinterpreters")
_PREPARED = "from sandboxq.child.thread import live_alone, try_alone"
_SEE = "import sys; sys.path[:] = path"


class ThreadChild(Child):
    """A child that is a thread: its ``pid`` is the thread's number in the kernel."""

    __slots__ = ("_source_supervisor", "is_abandoned")

    fate = "was given up"
    packs_calls = False  # several jobs' worth of system calls are not what a thread costs

    def __init__(
        self,
        number: int,
        loop: asyncio.AbstractEventLoop,
        *,
        source_supervisor: ThreadSupervisor,
        owner: ChildOwner[Child],
        terms: PoolOptions,
    ) -> None:
        """Open the sockets; ``source_supervisor`` starts the thread."""
        super().__init__(number, loop, owner=owner, terms=terms, memory=None)
        self._source_supervisor = source_supervisor
        self.is_abandoned = False

    def has_begun(self, call: Call) -> bool:
        """Tell whether the user's code was reached.

        What a thread that goes on has read it may begin at any time: that is not run elsewhere.
        """
        return self.is_abandoned or super().has_begun(call)

    def kill(self) -> None:
        """Tell it to end, or give it up."""
        self._source_supervisor.give_up(self)

    def signal(self, number: int) -> None:
        """Do nothing: no signal reaches a thread, its job looks for itself."""

    def own_stack(self) -> str:
        """Return where the thread is."""
        return self._source_supervisor.stack_of(self.number)


class ThreadSupervisor(WithoutZygotes):
    """Loads the processor into this process, and starts the threads."""

    def __init__(self, terms: PoolOptions, owner: ServerOwner) -> None:
        """Start threads for ``terms``, each with an interpreter of its own if they say so."""
        self._kind = terms.kind
        self._terms = terms
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        # In a thread's own context, what the coordinator logs would be the output of its job.
        self._context = contextvars.copy_context()
        self._size = 0
        self._processor: loader.Processor | None = None
        self._seats: dict[int, ThreadChild] = {}
        self._living: dict[int, threading.Thread] = {}  # by number, until they have ended
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._abandoned: set[int] = set()
        self._is_started = self._is_ending = False
        self.notes: list[str] = []
        self.is_preloaded = True

    @property
    def server(self) -> ThreadSupervisor | None:
        """Who starts children: nobody before the processor is loaded, or at the end."""
        return None if self._is_ending or not self._is_started else self

    async def start(self, size: int, timeout: float) -> None:
        """Load the processor, in a thread, within ``timeout`` seconds.

        Raises: ProcessorNotLoaded, also when such an interpreter cannot import it; UsageError.
        """
        self._size = size
        _share_cores(self._terms.machine.cores // max(1, size))
        loaded: asyncio.Future[bool] = self._loop.create_future()
        thread = threading.Thread(target=self._load, args=[loaded], daemon=True)
        thread.start()
        done, _ = await asyncio.wait([loaded], timeout=timeout)
        if not done:
            message = f"{self._terms.processor} was not imported within {timeout:g} s"
            raise ProcessorNotLoaded(message)
        refuse_concurrency(self._terms.concurrency, is_async=loaded.result())
        self._is_started = True
        if self._kind is Kind.THREAD:
            child_thread.install_streams()

    def child(self, number: int, *, owner: ChildOwner[Child], memory: int | None) -> ThreadChild:
        """Return the coordinator's side of a thread; nothing limits its memory."""
        del memory
        return ThreadChild(
            number, self._loop, source_supervisor=self, owner=owner, terms=self._terms
        )

    # ── starts and ends ──

    def spawn(self, number: int, plan: Plan, fds: list[int]) -> None:
        """Start a thread, unless too many that were given up still run.

        Raises: OSError, RuntimeError: there is no descriptor, or no thread, to be had.
        """
        del plan
        if len(self._abandoned) > self._size:
            reason = (
                f"{len(self._abandoned)} threads that cannot be killed still run jobs that were "
                "given up; a worker with processes can end such jobs"
            )
            self._loop.call_soon(self._owner.on_fork_failed, number, reason)
            return
        sock, _, _, mark, cancels, answers, arena, *_ = fds
        target = self._live_here if self._kind is Kind.THREAD else self._live_alone
        name = f"sandboxq {self._kind.value} {number}"
        with ExitStack() as opened:  # closes what there is when the thread cannot be started
            mine = [_held(os.dup(fd), opened) for fd in (sock, mark, cancels, answers, arena)]
            end = _held(os.eventfd(0, os.EFD_CLOEXEC), opened)
            thread = threading.Thread(target=target, args=[number, mine], name=name, daemon=True)
            thread.start()
            opened.pop_all()
        self._living[number] = thread  # it tells of its end on the loop, and so later
        assert thread.native_id is not None  # noqa: S101 - it has started
        self._owner.on_forked(number, thread.native_id, end)

    def scratch_of(self, number: int) -> str:
        """Return nothing: a thread has no directory of its own."""
        del number
        return ""

    def give_up(self, leaver: ThreadChild) -> None:
        """Tell a thread and its jobs to end; after a second, leave it alone."""
        number = leaver.number
        if number not in self._living or number in self._timers or leaver.is_abandoned:
            return
        self._seats[number] = leaver
        for call in leaver.flying.values():
            leaver.cancel(call)
        leaver.channel.send(RETIRE, 0)
        self._timers[number] = self._loop.call_later(_LAST_SECONDS, self._abandon, leaver)

    def stack_of(self, number: int) -> str:
        """Return where a thread of this interpreter is, in the form of faulthandler."""
        thread = self._living.get(number)
        is_here = self._kind is Kind.THREAD
        return stack_of_thread(thread) if thread is not None and is_here else ""

    def _abandon(self, leaver: ThreadChild) -> None:
        number = leaver.number
        self._forget(number)
        if number not in self._living or leaver.is_abandoned:
            return
        leaver.is_abandoned = True
        self._abandoned.add(number)
        for call in leaver.flying.values():
            job_id = call.key.decode(errors="replace")
            _log.error(
                "job %s did not end when it was told to, and thread %d cannot be killed: its code "
                "still runs%s",
                job_id,
                leaver.pid,
                " while the job goes back: it may run a second time" if self._is_ending else "",
            )
        self._owner.on_exit(leaver.pid, Death(is_abandoned=True))

    def _forget(self, number: int) -> None:
        self._seats.pop(number, None)
        timer = self._timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _on_end(self, number: int, tid: int) -> None:
        """Hear that a thread has ended."""
        self._living.pop(number, None)
        self._forget(number)
        if number in self._abandoned:
            self._abandoned.discard(number)
            _log.warning("thread %d, which was given up, has ended", tid)
        else:
            self._owner.on_exit(tid, Death(status=0))

    # ── what supervisors ask of zygotes ──

    async def renew(self, size: int, timeout: float) -> None:
        """Refuse: what this process has imported stays. Raises: UsageError."""
        del size, timeout
        kind = self._terms.kind.value
        message = f"children that are {kind}s cannot take new code: restart the worker"
        raise UsageError(message)

    async def close(self) -> None:
        """Start no more; what runs has been told to end."""
        self.kill()

    def kill(self) -> None:
        """Start no more, and wait for nobody."""
        if self._is_started and not self._is_ending and self._kind is Kind.THREAD:
            child_thread.remove_streams()
        self._is_ending = True
        for each in list(self._seats.values()):
            self._abandon(each)

    def _load(self, loaded: asyncio.Future[bool]) -> None:
        try:
            is_async = self._load_here() if self._kind is Kind.THREAD else self._try_alone()
        except BaseException as error:  # noqa: BLE001 - whatever it is, who starts hears it
            self._call(_fail, loaded, error)
        else:
            self._call(_succeed, loaded, is_async)

    def _load_here(self) -> bool:
        had_gil = _has_gil()
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", message=_GIL_WARNING)
            try:
                self._processor = loader.load_processor(
                    self._terms.processor, self._terms.queue_name
                )
            except loader.LoadFailed as error:
                text = f"{error.reason}\n{error.trace}".rstrip()
                raise ProcessorNotLoaded(text) from error
        texts = [str(warning.message) for warning in caught]
        for each in caught:
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)
        if not had_gil and _has_gil():
            found = next((m for m in (re.match(_GIL_WARNING, text) for text in texts) if m), None)
            note = f"the GIL is on again: the import of {found[1] if found else 'a module'} did it"
            _log.warning("%s; threads take turns now", note)
            self.notes.append(f"threads    {note}")
        return self._processor.is_async

    def _try_alone(self) -> bool:
        """Load the processor in an interpreter for nothing else, to say what is wrong with it."""
        interpreters = _interpreters()
        answers = interpreters.create_queue()
        interpreter = interpreters.create()
        try:
            interpreter.prepare_main(
                path=tuple(sys.path),
                answers=answers,
                spec=self._terms.processor,
                queue=self._terms.queue_name,
            )
            interpreter.exec(f"{_SEE}\n{_PREPARED}\nanswers.put(try_alone(spec, queue))")
            found = json.loads(answers.get_nowait())  # it does not outlive its interpreter
        finally:
            interpreter.close()
        if "reason" not in found:
            return bool(found["is_async"])
        reason, trace = found["reason"], found["trace"]
        module = _NO_SUBINTERPRETER.search(f"{reason}\n{trace}")
        if module is not None:
            reason = (
                f"{self._terms.processor} imports {module[1]}, which does not load in "
                "sub-interpreters: use isolation 'process'"
            )
        raise ProcessorNotLoaded(f"{reason}\n{trace}".rstrip())

    @property
    def _settings(self) -> loop.Settings:
        terms = self._terms
        return loop.Settings(
            terms.queue_name,
            terms.concurrency,
            None,
            terms.max_result,
            budgets=tuple(terms.budgets),
            withholds_redis=terms.withholds_redis,
        )

    def _live_here(self, number: int, fds: list[int]) -> None:
        assert self._processor is not None  # noqa: S101 - it was loaded before
        link = child_thread.ThreadLink(fds)
        capture = output.Capture(link)
        child_thread.route_to(capture)
        try:
            child_thread.live(link, self._processor, self._settings, capture)
        except child_thread.ThreadEnded:
            pass
        except BaseException:  # noqa: BLE001 - the pool hears of the end, people of the cause
            _log.exception("thread %d of the pool failed", number)
        finally:
            link.close()
            self._call(self._on_end, number, threading.get_native_id())

    def _live_alone(self, number: int, fds: list[int]) -> None:
        try:
            interpreter = _interpreters().create()
            interpreter.prepare_main(
                path=tuple(sys.path),
                fds=tuple(fds),
                spec=self._terms.processor,
                settings=tuple(self._settings),
            )
            try:
                interpreter.exec(f"{_SEE}\n{_PREPARED}\nlive_alone(fds, spec, settings)")
            finally:
                interpreter.close()
        except BaseException:  # noqa: BLE001 - the pool hears of the end, people of the cause
            _log.exception("interpreter %d of the pool failed", number)
        finally:
            self._call(self._on_end, number, threading.get_native_id())

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call on the loop, unless it is closed: then nobody waits any more."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments, context=self._context)
        except RuntimeError:
            return


def _held(fd: int, opened: ExitStack) -> int:
    """Return a descriptor that is closed with ``opened``."""
    opened.callback(os.close, fd)
    return fd


def _succeed(loaded: asyncio.Future[bool], is_async: bool) -> None:  # noqa: FBT001 - a value
    if not loaded.done():
        loaded.set_result(is_async)


def _fail(loaded: asyncio.Future[bool], error: BaseException) -> None:
    if not loaded.done():
        loaded.set_exception(error)


def _share_cores(share: int) -> None:
    """Have libraries that are imported later compute with each thread's share of the cores."""
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, str(max(1, share)))


def _has_gil() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _interpreters() -> Any:
    """Return concurrent.interpreters, which 3.14 was the first to have."""
    return importlib.import_module("concurrent.interpreters")
