"""Keeps one zygote alive: the first start, the fall-back for threads, and the restarts."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

from sandboxq.errors import ChildStartFailed, SandboxqError, UsageError
from sandboxq.pool.children.child import Child
from sandboxq.pool.children.source import refuse_concurrency
from sandboxq.pool.children.zygote_client import ServerOwner, ZygoteClient
from sandboxq.sandbox import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sandboxq.pool.children.circuit import RestartDelay
    from sandboxq.pool.options import ChildOwner, PoolOptions

_log = logging.getLogger("sandboxq.pool")

_START_SECONDS = 60.0
_MB = 1 << 20


class ZygoteSupervisor:
    """Owns the zygote of one pool."""

    def __init__(
        self,
        terms: PoolOptions,
        owner: ServerOwner,
        delay: RestartDelay,
        on_back: Callable[[], None],
    ) -> None:
        """Start servers for ``terms``; ``on_back`` is called when one was replaced."""
        self._terms = terms
        self._is_preloading = True
        self._start_seconds = _START_SECONDS
        self._size = 0  # how many children there were to be last
        self._owner = owner
        self._delay = delay
        self._on_back = on_back
        self._loop = asyncio.get_running_loop()
        self._restarting: asyncio.Task[None] | None = None
        self._is_ending = False
        self._starting: ZygoteClient | None = None
        self._lost: ZygoteClient | None = None  # it died, and what it left is not ended yet
        self.server: ZygoteClient | None = None
        self._former: list[ZygoteClient] = []  # of code before; each has children yet
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def servers(self) -> list[ZygoteClient]:
        """The server, and those of code before that still have children."""
        return [*self._former, *([self.server] if self.server is not None else [])]

    @property
    def is_preloaded(self) -> bool:
        """Whether the server imports the processor for all children."""
        return self._is_preloading

    @property
    def notes(self) -> list[str]:
        """Lines for the banner."""
        notes = [f"cgroup     {text}" for text in (self._limits(),) if text]
        if not self.is_preloaded:
            notes.append("import     in each child: the processor starts threads when imported")
        return notes

    def _limits(self) -> str:
        """Return what all children may use together, for people; nothing without a group."""
        limits = self.server.group.limits if self.server is not None else {}
        texts = [f"{limits['memory'] // _MB} MB"] if "memory" in limits else []
        texts += [f"{limits['pids']} tasks"] if "pids" in limits else []
        return f"{', '.join(texts)} for all children together" if texts else ""

    def child(self, number: int, *, owner: ChildOwner[Child], memory: int | None) -> Child:
        """Return the coordinator's side of a process."""
        return Child(number, self._loop, owner=owner, terms=self._terms, memory=memory)

    def limit(self, size: int) -> None:
        """Limit what ``size`` children may use together."""
        self._size = size
        if self.server is not None:
            self.server.limit(size)

    async def start(self, size: int, timeout: float) -> None:
        """Start a server for ``size`` children, within ``timeout`` seconds.

        Raises:
            ProcessorNotLoaded: the processor cannot be imported.
            ChildStartFailed: it was closed meanwhile.
            UsageError: it does not fit the concurrency.
        """
        self._start_seconds = max(self._start_seconds, timeout)
        deadline = self._loop.time() + timeout
        threads = max(1, self._terms.machine.cores // max(1, size))
        server = self._starting = ZygoteClient(
            self._loop,
            self._owner,
            self._terms,
            threads=threads,
            is_preloading=self._is_preloading,
        )
        try:
            loaded = await server.start(timeout)
        finally:
            self._starting = None
        if self._is_ending:
            await server.close()
            message = "the pool was stopped while its zygote started"
            raise ChildStartFailed(message)
        try:
            refuse_concurrency(self._terms.concurrency, is_async=loaded.is_async is not False)
        except UsageError:
            await server.close()
            raise
        if loaded.threads == 1:
            server.limit(max(size, self._size))  # it may have grown meanwhile
            if self.server is not None:
                self._former.append(self.server)
            self.server = server
            return
        # A fork copies one thread only, with the locks of all: each child imports for itself.
        await server.close()
        self._is_preloading = False
        await self.start(size, max(1.0, deadline - self._loop.time()))

    async def renew(self, size: int, timeout: float) -> None:
        """Import the processor in another server; this one keeps the children that it has.

        Raises: as ``start``; then nothing has changed.
        """
        if self.server is None:
            message = "the zygote is just being started again, with the code as it is now"
            raise ChildStartFailed(message)
        is_preloading, self._is_preloading = self._is_preloading, True
        try:
            await self.start(size, timeout)
        except BaseException as error:
            self._is_preloading = is_preloading
            if isinstance(error, OSError):
                message = f"no zygote can be started: {error}"
                raise ChildStartFailed(message) from error
            raise

    async def go_back(self) -> None:
        """Undo ``renew``, unless the server before it has ended."""
        if not self._former:
            return
        given_up, self.server = self.server, self._former.pop()
        if given_up is not None:
            await given_up.close()

    def let_go(self, server: ZygoteClient | None, left: Collection[Child]) -> None:
        """End a server of code before that has no children left."""
        if server in self._former and not any(child.source is server for child in left):
            self._end_former(server)

    def _end_former(self, server: ZygoteClient) -> None:
        self._former.remove(server)
        ending = self._loop.create_task(server.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def replace_lost(self, lost: ZygoteClient, size: int) -> None:
        """Clean up after a server that died, and start another one soon."""
        if lost is self.server:
            self.server, self._lost = None, lost
            self._restarting = self._loop.create_task(self._restart(lost, size))
        elif lost in self._former:
            self._end_former(lost)

    def kill_stuck(self, server: ZygoteClient | None) -> None:
        """Kill a server that does not answer; its death starts another."""
        if server is not None and server in self.servers:
            _log.error("the zygote %d does not answer; it is killed", server.pid)
            server.kill([])

    def wake_stopped(self) -> None:
        """Send SIGCONT to servers that were stopped: all children depend on them."""
        for server in self.servers:
            if processes.is_stopped(server.pid):
                _log.warning("the zygote %d was stopped; it is sent on", server.pid)
                os.kill(server.pid, signal.SIGCONT)

    async def close(self) -> None:
        """End the server and all below it, and wait for that."""
        self._is_ending = True
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait([self._restarting])
        self.wake_stopped()
        for server in (*self.servers, self._starting, self._lost):
            if server is not None:
                await server.close()
        if self._ending:
            await asyncio.wait(self._ending)
        self.server = self._lost = None

    def kill(self) -> None:
        """End the server and all below it; blocks for some milliseconds."""
        self._is_ending = True
        if self._restarting is not None:
            self._restarting.cancel()
        self.wake_stopped()
        for server in (*self.servers, self._starting, self._lost):
            if server is not None:
                server.shut()
                server.reap()
        self.server = self._lost = None

    async def _restart(self, lost: ZygoteClient, size: int) -> None:
        await lost.close()
        self._lost = None
        while not self._is_ending:
            await asyncio.sleep(self._delay.after_failed_start())
            if self.server is not None:
                return  # code was reloaded meanwhile
            try:
                await self.start(size, self._start_seconds)
            except (SandboxqError, OSError) as error:
                _log.error("the zygote could not be restarted: %s", error)
                continue
            self._on_back()
            return
