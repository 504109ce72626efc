"""A real master with replicas and the Sentinels that watch them, on loopback."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Self

import redis

from sandboxq.broker.embedded.launcher import binary_path
from tests.broker.servers import StoppableServer, free_port, listens
from tests.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path

MASTER = "mymaster"
SENTINELS = 3
SENTINEL_PASSWORD = "of-sentinels"  # noqa: S105 - an example
DATA_PASSWORD = "of-data"  # noqa: S105 - an example


class SentinelSet:
    """One master, two replicas, three Sentinels; passwords of both kinds."""

    def __init__(self, directory: Path, *options: str) -> None:
        """Prepare servers with these options; ``start`` runs them."""
        auth = ("--requirepass", DATA_PASSWORD, "--masterauth", DATA_PASSWORD)
        quick = ("--repl-diskless-sync-delay", "0", "--loglevel", "warning")
        self.servers: list[StoppableServer] = []
        for number in range(3):
            folder = directory / f"server-{number}"
            folder.mkdir(parents=True)
            follow = ("--replicaof", f"127.0.0.1 {self.servers[0].port}") if number else ()
            self.servers.append(StoppableServer(folder, *auth, *quick, *follow, *options))
        self._directory = directory
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []

    def start(self) -> None:
        """Run all, and wait until the Sentinels know the replicas and each other."""
        for server in self.servers:
            server.start()
        # Sentinels ask a master for its replicas at once, and then every ten seconds.
        wait_until(self._are_replicas_there)
        while len(self.ports) < SENTINELS:
            self._start_sentinel(free_port())
        wait_until(lambda: all(map(self._knows_all, self.ports)))

    def stop(self) -> None:
        """End all."""
        self.stop_sentinels()
        for server in self.servers:
            server.stop()

    def stop_sentinels(self) -> None:
        """Leave the servers as they are from now on."""
        while self._sentinels:
            sentinel = self._sentinels.pop()
            sentinel.kill()
            sentinel.wait(60)

    def fail_over(self) -> None:
        """Make a replica the master, and the master a replica, both alive."""
        old = self.master()
        with redis.Redis(port=self.ports[0], password=SENTINEL_PASSWORD) as client:
            client.execute_command(f"SENTINEL FAILOVER {MASTER}")
        wait_until(lambda: self.master() is not old)

    def master(self) -> StoppableServer:
        """Return the server that the Sentinels call the master."""
        port = int(self._known(self.ports[0])[b"port"])
        return next(server for server in self.servers if server.port == port)

    def __enter__(self) -> Self:
        """Start it; what does not come up is no other test's process."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def url(self) -> str:
        """Of all Sentinels, with both passwords; known once they run."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        options = f"?sentinel_password={SENTINEL_PASSWORD}"
        return f"redis+sentinel://:{DATA_PASSWORD}@{hosts}/{MASTER}{options}"

    def _start_sentinel(self, port: int) -> None:
        """Run a Sentinel, unless somebody was quicker to take this port."""
        program = shutil.which("redis-server") or str(binary_path())
        path = self._directory / f"sentinel-{port}.conf"
        path.write_text(self._configuration(port))
        process = subprocess.Popen([program, str(path), "--sentinel"], stdout=subprocess.DEVNULL)
        wait_until(lambda: listens(port) or process.poll() is not None)
        if process.poll() is None:
            self.ports.append(port)
            self._sentinels.append(process)

    def _are_replicas_there(self) -> bool:
        with redis.Redis(port=self.servers[0].port, password=DATA_PASSWORD) as client:
            _, _, replicas = client.execute_command("ROLE")
        return len(replicas) == len(self.servers) - 1

    def _configuration(self, port: int) -> str:
        rows = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {self._directory}",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel auth-pass {MASTER} {DATA_PASSWORD}",
            f"sentinel down-after-milliseconds {MASTER} 1500",
            f"sentinel failover-timeout {MASTER} 5000",
        ]
        return "\n".join(rows) + "\n"

    def _known(self, port: int) -> dict[bytes, Any]:
        with redis.Redis(port=port, password=SENTINEL_PASSWORD) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command("SENTINEL", "MASTER", MASTER)
            reply = connection.read_response()
            client.connection_pool.release(connection)
        return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))

    def _knows_all(self, port: int) -> bool:
        try:
            known = self._known(port)
        except redis.RedisError:
            return False
        return (known[b"num-slaves"], known[b"num-other-sentinels"]) == (b"2", b"2")
