"""The Redis of a campaign: one server with an append-only file, Sentinels, or a cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis

from sandboxq.broker.embedded.server import (
    DIRECTORY,
    server_status,
    start_server,
    stop_server,
)
from tests.broker.servers import StoppableServer
from tests.chaos.proxy import Proxy
from tests.cluster.servers import Cluster
from tests.conftest import wait_until
from tests.sentinel.servers import DATA_PASSWORD, SentinelSet

if TYPE_CHECKING:
    from tests.chaos.campaigns import Campaign

_FAILOVER_SECONDS = 60.0
# A disk that is full soon.
_DISK = "48m"
_TEXT: Any = {
    "decode_responses": True,
    "encoding_errors": "backslashreplace",
    "socket_timeout": 30,
}


class NotHere(Exception):
    """The machine lacks what a campaign needs; the text says what."""


class Backend:
    """One server that loses nothing when it is killed; perhaps behind a proxy."""

    prefix = "bull"
    password: str | None = None
    proxy: Proxy | None = None

    def __init__(self, folder: Path, campaign: Campaign) -> None:
        """Prepare; it keeps its files in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._prepare(campaign)

    def _prepare(self, campaign: Campaign) -> None:
        program = shutil.which(campaign.program) if campaign.program else None
        self._server = StoppableServer(self.folder, "--appendonly", "yes", program=program)
        if campaign.is_proxied:
            self.proxy = Proxy(self._server.port)

    @property
    def cwd(self) -> Path | None:
        """Where workers and producers must be started, if that matters."""
        return None

    @property
    def url(self) -> str | None:
        """Where producers and workers connect; None: where they are told nothing."""
        return self.proxy.url if self.proxy else self._server.url

    def master(self) -> StoppableServer:
        """Return the server that has the queue."""
        return self._server

    def client(self) -> redis.Redis:
        """Return a connection to it, past any proxy; replies are text."""
        return redis.Redis(port=self.master().port, password=self.password, **_TEXT)

    def fail_over(self) -> None:
        """Make another server the master, as planned, and return when it is."""
        raise NotImplementedError

    def wait_for_other_master(self, old: StoppableServer) -> None:
        """Wait until another server has the queue."""

        def has_moved() -> bool:
            with contextlib.suppress(redis.RedisError, AssertionError):
                return self.master() is not old
            return False

        wait_until(has_moved, timeout=_FAILOVER_SECONDS)

    def __enter__(self) -> Self:
        """Start it."""
        self._start(self._stack)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self._server)
        if self.proxy:
            stack.enter_context(self.proxy)


class SmallDisk(Backend):
    """One server on a disk of its own that can be filled; root only."""

    def _start(self, stack: contextlib.ExitStack) -> None:
        self._mount(stack)
        super()._start(stack)

    def _mount(self, stack: contextlib.ExitStack) -> None:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(self.folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
            message = "mounting a small disk needs root"
            raise NotHere(message)
        stack.callback(subprocess.run, ["umount", "-l", str(self.folder)], check=False)


class Embedded(SmallDisk):
    """The server that workers start for themselves, in a directory on a small disk."""

    url = None
    cwd = Path()  # set below

    def _prepare(self, campaign: Campaign) -> None:
        del campaign
        self.cwd = self.folder

    def client(self) -> redis.Redis:
        """Return a connection to its socket."""
        status = server_status(self.folder / DIRECTORY)
        return redis.Redis(unix_socket_path=status.socket, **_TEXT)

    def kill(self) -> None:
        """Kill it; its users start it again."""
        pid = server_status(self.folder / DIRECTORY).pid
        if pid:
            os.kill(pid, signal.SIGKILL)

    def _start(self, stack: contextlib.ExitStack) -> None:
        self._mount(stack)
        start_server(self.folder / DIRECTORY)
        stack.callback(stop_server, self.folder / DIRECTORY)


class Sentinels(Backend):
    """A master with two replicas and three Sentinels."""

    password = DATA_PASSWORD

    def _prepare(self, campaign: Campaign) -> None:
        del campaign
        self._set = SentinelSet(self.folder)

    @property
    def url(self) -> str:
        """Of the Sentinels."""
        return self._set.url

    def master(self) -> StoppableServer:
        """Return the one that the Sentinels name."""
        return self._set.master()

    def fail_over(self) -> None:
        """Ask the Sentinels for it."""
        self._set.fail_over()

    def _start(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self._set)


class ClusterOfSix(Backend):
    """Three masters with a replica each."""

    prefix = "{bull}"

    def _prepare(self, campaign: Campaign) -> None:
        del campaign
        self._cluster = Cluster(self.folder)

    @property
    def url(self) -> str:
        """Of some of the nodes."""
        return self._cluster.url

    def master(self) -> StoppableServer:
        """Return the owner of the queue's slot."""
        return self._cluster.owner(self.prefix)

    def fail_over(self) -> None:
        """Ask the replica to take over."""
        old = self._cluster.owner(self.prefix)
        self._cluster.replica_of(old).ask("CLUSTER", "FAILOVER")
        self.wait_for_other_master(old)

    def _start(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self._cluster)


BACKENDS = {
    "one": Backend,
    "small disk": SmallDisk,
    "embedded": Embedded,
    "sentinels": Sentinels,
    "cluster": ClusterOfSix,
}
