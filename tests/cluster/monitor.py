"""What the nodes of a cluster were told: every command, those that scripts ran among them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

import redis

if TYPE_CHECKING:
    from tests.cluster.servers import Cluster, ClusterNode

_END = "end-of-monitoring"


class Monitor:
    """Listens to all nodes while the block runs."""

    def __init__(self, cluster: Cluster) -> None:
        """Prepare."""
        self._nodes = cluster.nodes
        self._threads: list[threading.Thread] = []
        # Whether a script ran it, and its words.
        self.rows: list[tuple[bool, list[str]]] = []

    def __enter__(self) -> Self:
        """Listen."""
        for node in self._nodes:
            ready = threading.Event()
            self._threads.append(threading.Thread(target=self._listen, args=(node, ready)))
            self._threads[-1].start()
            assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, once everything has been heard."""
        for node in self._nodes:
            node.ask("ECHO", _END)
        for thread in self._threads:
            thread.join(60)

    def keys(self, node: ClusterNode) -> dict[str, set[str]]:
        """Return the keys that were touched, and for each the names of the commands that did."""
        found: dict[str, set[str]] = {}
        for is_of_script, words in self.rows:
            for key in _keys(node, words):
                found.setdefault(key, set()).add(("lua " if is_of_script else "") + words[0])
        return found

    def _listen(self, node: ClusterNode, ready: threading.Event) -> None:
        with redis.Redis(port=node.port) as client, client.monitor() as monitor:
            ready.set()
            while True:
                row: Any = monitor.next_command()
                if _END in row["command"]:
                    return
                # Keys have no spaces; whatever values are split into comes behind them.
                self.rows.append((row["client_type"] == "lua", row["command"].split(" ")))


def _keys(node: ClusterNode, words: list[str]) -> list[str]:
    try:
        return list(node.ask("COMMAND", "GETKEYS", *words))
    except redis.ResponseError:
        return []  # it has no keys
