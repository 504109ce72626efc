"""A real Redis Cluster on loopback: masters, replicas, moving slots, dying masters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import redis

from sandboxq.broker.connect.servers import SLOTS, slot_of_key
from tests.broker.servers import StoppableServer, free_port
from tests.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# Milliseconds after which a silent node is taken for dead: short, so that tests are.
NODE_TIMEOUT_MS = 1500
_OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
    *("--appendonly", "no", "--repl-diskless-sync-delay", "0", "--loglevel", "warning"),
)


class ClusterNode(StoppableServer):
    """One node; ``ask`` runs a command on it and no other."""

    def __init__(self, directory: Path, *, program: str | None) -> None:
        """Prepare a node that keeps what it knows of the others in ``directory``."""
        directory.mkdir(parents=True)
        bus = ("--cluster-port", str(free_port()))
        super().__init__(directory, *_OPTIONS, *bus, program=program)
        self._bus_port = int(bus[1])

    def ask(self, *command: Any) -> Any:
        """Run one command; replies as text."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*command)
            reply = connection.read_response()
            client.connection_pool.release(connection)
            return reply

    def meet(self, other: ClusterNode) -> None:
        """Make both nodes of one cluster."""
        self.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other._bus_port)

    @property
    def id(self) -> str:
        """The node's name within the cluster."""
        return str(self.ask("CLUSTER", "MYID"))

    @property
    def is_master(self) -> bool:
        """Whether it is a master at the moment."""
        return bool(self.ask("ROLE")[0] == "master")


class Cluster:
    """Some masters, each with as many replicas."""

    def __init__(
        self, directory: Path, *, masters: int = 3, replicas: int = 1, program: str | None = None
    ) -> None:
        """Prepare; ``start`` runs the nodes and makes them a cluster."""
        count = masters * (1 + replicas)
        self._masters = masters
        self.nodes = [ClusterNode(directory / f"node-{i}", program=program) for i in range(count)]
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        self.url = f"redis+cluster://{hosts}"

    def start(self) -> None:
        """Run the nodes, give out the slots, and wait until all agree."""
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        share = SLOTS // len(masters)
        for i, node in enumerate(masters):
            last = SLOTS - 1 if node is masters[-1] else (i + 1) * share - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", i * share, last)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            self.nodes[0].meet(node)
        wait_until(lambda: all(self._knows_all(node) for node in self.nodes))
        for i, node in enumerate(replicas):
            node.ask("CLUSTER", "REPLICATE", masters[i % len(masters)].id)
        wait_until(lambda: all(map(self._is_well, self.nodes)))
        wait_until(lambda: all(node.ask("ROLE")[3] == "connected" for node in replicas))

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()

    def owner(self, key: str) -> ClusterNode:
        """Return the master that has this key's slot."""
        slot = slot_of_key(key)

        def find() -> ClusterNode | None:
            for node in self._running():
                if not node.is_master:
                    continue
                for first, last, (_, port, *_), *_ in node.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last and port == node.port:
                        return node
            return None

        node = wait_until(find)
        assert isinstance(node, ClusterNode)
        return node

    def other_master(self, node: ClusterNode) -> ClusterNode:
        """Return a master that is not this one."""
        return next(each for each in self._running() if each is not node and each.is_master)

    def replica_of(self, master: ClusterNode) -> ClusterNode:
        """Return the replica of this master."""
        port = master.port

        def follows(node: ClusterNode) -> bool:
            role = node.ask("ROLE")
            return bool(role[0] == "slave" and int(role[2]) == port)

        return next(node for node in self._running() if follows(node))

    def begin_to_move(self, key: str, *, to: ClusterNode) -> None:
        """Put the key's slot on its way to another master, and no key yet."""
        slot, source = slot_of_key(key), self.owner(key)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)

    def end_move(self, key: str, *, to: ClusterNode) -> None:
        """Move the keys of the slot, and then the slot."""
        slot, source = slot_of_key(key), self.owner(key)
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        for node in (to, source, *self._running()):
            if node.is_master:
                node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.id)

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

    def _running(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.is_running and not node.is_frozen]

    def _knows_all(self, node: ClusterNode) -> bool:
        return f"cluster_known_nodes:{len(self.nodes)}" in node.ask("CLUSTER", "INFO")

    def _is_well(self, node: ClusterNode) -> bool:
        return "cluster_state:ok" in node.ask("CLUSTER", "INFO")
