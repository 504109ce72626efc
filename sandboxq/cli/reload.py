"""``run --reload``, for development: changed code is loaded by a new worker, the old one leaves.

    files change ─► new worker: zygote, import ─┬─ it loads ──► runs; the old one finishes
                                                     └─ it does not ─► said; the old one goes on

Both have the queue for a moment. No job is lost and no attempt used: the old worker finishes what
it runs, and hands back what has not begun.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.child.sources import is_path
from sandboxq.cli.foreground import has_terminal
from sandboxq.errors import ChildStartFailed, ProcessorNotLoaded, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from sandboxq.cli.worker_tables import Plan
    from sandboxq.worker.context import Membership
    from sandboxq.worker.endpoints import Endpoints
    from sandboxq.worker.group import WorkerGroup
    from sandboxq.worker.worker import Worker

_log = logging.getLogger("sandboxq.cli")

# Editors write a file in several steps.
_GATHER_MS = 200
_SHOWN = 3


def watched_folders(processor: str, named: Sequence[str]) -> list[Path]:
    """Return the folders whose Python files are watched: those named, else the processor's own.

    That is the folder of its file, or of the package that it is in.
    Raises: UsageError when one is not there, or watchfiles is not installed.
    """
    if importlib.util.find_spec("watchfiles") is None:
        message = "--reload needs the package watchfiles: pip install watchfiles"
        raise UsageError(message)
    folders = [Path(each) for each in named] or [_folder_of(processor.partition(":")[0])]
    for folder in folders:
        if not folder.is_dir():
            message = f"--reload cannot watch {folder}: it is no folder; name one with --reload-dir"
            raise UsageError(message)
    return [folder.resolve() for folder in folders]


async def run_reloading(
    plans: Sequence[Plan],
    group: WorkerGroup,
    new_worker: Callable[[Plan], Worker],
    folders: Sequence[str],
    endpoints: Endpoints | None,
) -> None:
    """Run workers of these plans, each with the code of its processor as it is then.

    ``group`` only says which part of the machine each has.
    """
    watched = [watched_folders(plan.processor, folders) for plan in plans]

    def joined(plan: Plan, membership: Membership) -> Worker:
        worker = new_worker(plan)
        worker.join(membership)
        if endpoints is not None:
            endpoints.add(worker)
        return worker

    reloaders = [
        Reloader(partial(joined, plan, membership), paths)
        for plan, membership, paths in zip(plans, group.memberships(), watched, strict=True)
    ]
    _listen(reloaders)
    await asyncio.gather(*(reloader.run() for reloader in reloaders))


def _listen(reloaders: Sequence[Reloader]) -> None:
    """Have SIGHUP load the code anew, as without --reload; of a terminal that is gone it ends."""
    had_terminal = has_terminal()

    def hang_up() -> None:
        if had_terminal and not has_terminal():
            os.kill(os.getpid(), signal.SIGTERM)
        for reloader in reloaders:
            reloader.asked.set()

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means no hangup
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)


def _folder_of(place: str) -> Path:
    if is_path(place):
        return Path(place).parent
    # Of the package at the top, which is not imported by this.
    spec = importlib.util.find_spec(place.partition(".")[0])
    if spec is None or spec.origin is None:
        return Path.cwd()
    return Path(spec.origin).parent


class _Generation(NamedTuple):
    """A worker and its run."""

    worker: Worker
    run: asyncio.Task[None]


class Reloader:
    """Runs one worker after the other, each with the code as it is then."""

    def __init__(self, new_worker: Callable[[], Worker], folders: Sequence[Path]) -> None:
        """``new_worker`` makes one that is not started."""
        self._new_worker = new_worker
        self._folders = folders
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_over = asyncio.Event()
        self.asked = asyncio.Event()  # set to load the code anew
        # A file that is changed twice in a second would else be taken from its compiled form.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

    async def run(self) -> None:
        """Run until a signal ends the worker.

        Raises: what ended it; BrokerUnavailable when Redis is away at the start.
        """
        changes = self._changes()
        change = asyncio.ensure_future(anext(changes))  # what changes during the start is seen
        asked = asyncio.ensure_future(self.asked.wait())
        try:
            _log.info("reloads when Python files change in %s", _listed(self._folders))
            current = await self._started()
            while current is None or not current.run.done():
                runs = [] if current is None else [current.run]
                await asyncio.wait({change, asked, *runs}, return_when=asyncio.FIRST_COMPLETED)
                if any(run.done() for run in runs):
                    continue
                if asked.done():
                    _log.info("SIGHUP: loading the code anew")
                    self.asked.clear()
                    asked = asyncio.ensure_future(self.asked.wait())
                if change.done():
                    _log.info("changed: %s", _listed(change.result()))
                    change = asyncio.ensure_future(anext(changes))
                current = await self._next(current)
            await current.run
        finally:
            self._is_over.set()  # ends the thread that watches
            asked.cancel()
            await asyncio.wait({change, *self._leaving})

    async def _changes(self) -> AsyncIterator[set[str]]:
        from watchfiles import PythonFilter, awatch  # noqa: PLC0415 - an extra

        watching = awatch(
            *self._folders,
            watch_filter=PythonFilter(),
            debounce=_GATHER_MS,
            stop_event=self._is_over,
        )
        async for changes in watching:
            yield {path for _, path in changes}
        yield set()  # it is over

    async def _next(self, current: _Generation | None) -> _Generation | None:
        """Start a worker with the new code and let the one before leave; else keep that."""
        fresh = await self._started()
        if fresh is None or current is None:
            return fresh or current
        stays, goes = (current, fresh) if current.run.done() else (fresh, current)
        goes.worker.stop()
        goes.run.add_done_callback(_tell_failure)
        self._leaving.add(goes.run)
        return stays

    async def _started(self) -> _Generation | None:
        worker = self._new_worker()
        try:
            await worker.start()
        except (ProcessorNotLoaded, ChildStartFailed) as error:
            _log.error("%s\nthe code was not taken; it is tried again when it changes", error)
            return None
        return _Generation(worker, asyncio.create_task(_run_and_close(worker)))


async def _run_and_close(worker: Worker) -> None:
    _log.info("runs %s with %d children", worker.processor, worker.procs)
    try:
        await worker.run()
    finally:
        await worker.close()


def _tell_failure(run: asyncio.Task[None]) -> None:
    if not run.cancelled() and (error := run.exception()) is not None:
        _log.error("the worker with the former code ended with: %s", error)


def _listed(paths: Iterable[object]) -> str:
    texts = sorted(map(str, paths))
    more = [f"{len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return ", ".join(texts[:_SHOWN] + more)
