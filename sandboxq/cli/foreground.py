"""Workers in the foreground: their signals, and what a service manager is told.

SIGTERM, SIGINT ─► stop, hand back, kill      SIGHUP ─► new code, child by child
start ─► READY     every few seconds ─► STATUS      SIGTERM ─► STOPPING      (systemd.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from sandboxq.cli.process import collect_rarely
from sandboxq.cli.progress import ProgressLine
from sandboxq.cli.systemd import STATUS_SECONDS, Notifier
from sandboxq.sandbox.environment import oversubscription
from sandboxq.worker.banner import banner, children_text, on_time, program, summary
from sandboxq.worker.shutdown import end_by_signal

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from sandboxq.cli.output import Output
    from sandboxq.worker.group import WorkerGroup
    from sandboxq.worker.worker import Worker

_log = logging.getLogger("sandboxq.cli")


class Foreground:
    """Runs a group until a signal ends it, or its burst is over."""

    def __init__(self, group: WorkerGroup, output: Output) -> None:
        """``output`` shows the progress line."""
        self._group = group
        self._output = output
        self._notifier = Notifier()
        self._had_terminal = has_terminal()
        self._received = 0
        self._hangups = asyncio.Event()
        self._starting: asyncio.Task[None]

    async def run(self, *, burst: bool) -> None:
        """Start, run and close. Raises: what the group raises."""
        self._starting = asyncio.create_task(self._group.start())
        self._listen()
        try:
            await self._starting
            collect_rarely()
            _say(_banner_of_group(self._group))
            await self._run_started(burst=burst)
        except asyncio.CancelledError:
            if not self._starting.cancelled():
                raise
            return
        finally:
            self._notifier.stopping()
            await self._group.close()
            self._listen_no_more()
            self._notifier.close()
            if _has_succeeded(self._starting):
                _say(_summary_of_group(self._group))

    async def _run_started(self, *, burst: bool) -> None:
        has_progress = self._output.has_progress
        progress = ProgressLine(self._group, self._output).shown() if has_progress else None
        self._notifier.ready()
        with _beside(self._reload_when_asked()), _beside(self._tell_status()):
            async with progress or contextlib.nullcontext():
                await self._group.run(burst=burst, handle_signals=False)

    async def _reload_when_asked(self) -> None:
        while True:
            await self._hangups.wait()
            self._hangups.clear()
            _log.info("SIGHUP: loading the code anew")
            self._notifier.reloading()
            await self._group.reload()
            self._notifier.ready()

    async def _tell_status(self) -> None:
        queues = ", ".join(worker.keys.queue for worker in self._group.workers)
        while self._notifier.is_told:
            done = sum(worker.counters.completed for worker in self._group.workers)
            failed = sum(worker.counters.failed for worker in self._group.workers)
            text = f"{queues}: {self._group.running} running, {done} completed, {failed} failed"
            self._notifier.status(text)
            await asyncio.sleep(STATUS_SECONDS)

    # ── signals ──

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means no hangup
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    @staticmethod
    def _listen_no_more() -> None:
        """Ignore signals from now on: all is settled, and the exit code is to say so."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def _hang_up(self) -> None:
        """Load the code anew, unless the signal says that the terminal is gone."""
        if self._had_terminal and not has_terminal():
            self._end(signal.SIGHUP)
        else:
            self._hangups.set()

    def _end(self, number: signal.Signals) -> None:
        self._received += 1
        self._notifier.stopping()
        if not self._starting.done():
            _log.warning("%s: stopped before the children were ready", number.name)
            self._starting.cancel()
        elif end_by_signal(self._group, number, self._received):
            self._output.flush()
            os._exit(128 + number)


async def run_in_foreground(group: WorkerGroup, *, burst: bool, output: Output) -> None:
    """Run a group until it ends. Raises: what the group raises."""
    await Foreground(group, output).run(burst=burst)


def _say(lines: list[str]) -> None:
    for line in lines:
        _log.info("%s", line)


def _has_succeeded(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def has_terminal() -> bool:
    """Tell whether this process has a terminal: when that is closed, SIGHUP says so."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _beside(loop: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Run a loop as a task while the block runs."""
    task = asyncio.create_task(loop)
    try:
        yield
    finally:
        task.cancel()


def _banner_of_group(group: WorkerGroup) -> list[str]:
    """Return what runs, line by line: of a single worker its banner, of several a line for each."""
    workers = group.serving
    if len(group.workers) == 1:
        return banner(workers[0])
    first, procs = workers[0], sum(worker.procs for worker in workers)
    lines = [
        program(),
        *(line for worker in workers for line in _of_queue(worker)),
    ]
    cores = first.cores
    return [
        *dict.fromkeys(lines),  # what holds for several is said once
        *(f"queue      {queue}: not served, see above" for queue in group.failures),
        f"cores      {cores.number} ({cores.source}), shared by {procs} children",
        *(f"cores      {note}" for note in oversubscription(procs, cores.number, os.environ)),
        f"broker     {first.broker.endpoint.safe}",
    ]


def _of_queue(worker: Worker) -> Iterator[str]:
    memory = worker.pool.memory
    parts = [
        children_text(worker),
        f"policy {worker.policy.name}",
        *([f"{memory >> 20} MB a child"] if memory else []),
        *(line.partition(" ")[2].strip() for line in on_time(worker.settings)),
    ]
    yield f"queue      {worker.keys.queue}: {worker.processor}, {', '.join(parts)}"
    yield from (f"kind       {note}" for note in worker.kind_notes)
    yield from (note for note in worker.pool.notes if not note.startswith("memory "))


def _summary_of_group(group: WorkerGroup) -> list[str]:
    """Return what became of the jobs, in one line a queue."""
    if len(group.workers) == 1:
        return summary(group.workers[0])
    return [
        f"{each.keys.queue}: {line}"
        for each in group.workers
        if each in group.serving or each.counters.heartbeats
        for line in summary(each)
    ]
