"""The Redis of a campaign: one server with an append-only file, Sentinels, or a cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Protocol, Self

import redis

from tests.broker.servers import StoppableServer
from tests.chaos.proxy import Proxy
from tests.cluster.servers import Cluster
from tests.conftest import wait_until
from tests.sentinel.servers import DATA_PASSWORD, SentinelSet

if TYPE_CHECKING:
    from pathlib import Path

_FAILOVER_SECONDS = 60.0
# A disk that is full soon.
_DISK = "48m"


class NotHere(Exception):
    """The machine lacks what a campaign needs; the text says what."""


class Backend(Protocol):
    """What a campaign needs of its Redis."""

    prefix: str
    proxy: Proxy | None

    @property
    def url(self) -> str:
        """Where producers and workers connect."""

    def master(self) -> StoppableServer:
        """Return the server that has the queue."""

    def client(self) -> redis.Redis:
        """Return a connection to it, past any proxy; replies are text."""

    def fail_over(self) -> None:
        """Make another server the master, as planned, and return when it is."""

    def __enter__(self) -> Self:
        """Start it."""

    def __exit__(self, *_: object) -> None:
        """Stop it."""


class OneServer:
    """One server that loses nothing when it is killed; perhaps behind a proxy."""

    prefix = "bull"

    def __init__(self, folder: Path, *, is_proxied: bool = False, program: str = "") -> None:
        """Prepare; it keeps its file in ``folder``."""
        found = shutil.which(program) if program else None
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.server = StoppableServer(folder, "--appendonly", "yes", program=found)
        self.proxy = Proxy(self.server.port) if is_proxied else None

    @property
    def url(self) -> str:
        """The proxy's, if there is one."""
        return self.proxy.url if self.proxy else self.server.url

    def master(self) -> StoppableServer:
        """Return the one."""
        return self.server

    def client(self) -> redis.Redis:
        """Return a connection to it."""
        return _client(self.server.port)

    def fail_over(self) -> None:
        """Refuse: there is no other."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start it."""
        self.server.start()
        if self.proxy:
            self.proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        if self.proxy:
            self.proxy.__exit__()
        self.server.stop()


class SmallDisk(OneServer):
    """One server on a disk of its own that can be filled; root only."""

    def __enter__(self) -> Self:
        """Mount the disk first."""
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(self.folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
            message = "mounting a small disk needs root"
            raise NotHere(message)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Unmount it last."""
        super().__exit__()
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


class Sentinels:
    """A master with two replicas and three Sentinels."""

    prefix = "bull"
    proxy = None

    def __init__(self, folder: Path) -> None:
        """Prepare."""
        self._set = SentinelSet(folder)

    @property
    def url(self) -> str:
        """Of the Sentinels."""
        return self._set.url

    def master(self) -> StoppableServer:
        """Return the one that the Sentinels name."""
        return self._set.master()

    def client(self) -> redis.Redis:
        """Return a connection to the master."""
        return _client(self.master().port, DATA_PASSWORD)

    def fail_over(self) -> None:
        """Ask the Sentinels for it."""
        self._set.fail_over()

    def __enter__(self) -> Self:
        """Start all."""
        self._set.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all."""
        self._set.stop()


class ClusterOfSix:
    """Three masters with a replica each."""

    prefix = "{bull}"
    proxy = None

    def __init__(self, folder: Path) -> None:
        """Prepare."""
        self._cluster = Cluster(folder)

    @property
    def url(self) -> str:
        """Of some of the nodes."""
        return self._cluster.url

    def master(self) -> StoppableServer:
        """Return the owner of the queue's slot."""
        return self._cluster.owner(self.prefix)

    def client(self) -> redis.Redis:
        """Return a connection to that one alone."""
        return _client(self.master().port)

    def fail_over(self) -> None:
        """Ask the replica to take over."""
        old = self._cluster.owner(self.prefix)
        self._cluster.replica_of(old).ask("CLUSTER", "FAILOVER")
        wait_until(lambda: self._cluster.owner(self.prefix) is not old, timeout=_FAILOVER_SECONDS)

    def __enter__(self) -> Self:
        """Start all."""
        self._cluster.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all."""
        self._cluster.stop()


BACKENDS: dict[str, Any] = {
    "one": OneServer,
    "small disk": SmallDisk,
    "sentinels": Sentinels,
    "cluster": ClusterOfSix,
}


def wait_for_other_master(backend: Backend, old: StoppableServer) -> None:
    """Wait until somebody else has the queue."""

    def has_moved() -> bool:
        with contextlib.suppress(redis.RedisError, AssertionError):
            return backend.master() is not old
        return False

    wait_until(has_moved, timeout=_FAILOVER_SECONDS)


def _client(port: int, password: str | None = None) -> redis.Redis:
    return redis.Redis(
        port=port,
        password=password,
        decode_responses=True,
        encoding_errors="backslashreplace",
        socket_timeout=30,
    )
