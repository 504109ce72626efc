"""Finds the workers of a queue: who is connected."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys


async def workers_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected worker: the fields of CLIENT LIST, ``name`` being the queue's.

    ``rawname`` is the connection's own name.
    """
    own = keys.client_name
    return await _clients(broker, keys, lambda name: name == own or name.startswith(f"{own}:w:"))


async def worker_counts(broker: Broker, queues: Iterable[QueueKeys]) -> dict[str, int]:
    """Return how many workers are connected for each of these queues, by its name."""
    names = {keys.client_name: keys.queue for keys in queues}
    counts = dict.fromkeys(names.values(), 0)
    for reply in await broker.command_to_each("CLIENT", "LIST"):
        found = Counter(_row(line).get("name", "").partition(":w:")[0] for line in _lines(reply))
        for name, queue in names.items():
            counts[queue] = max(counts[queue], found[name])
    return counts


async def listeners_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected QueueEvents, as ``workers_of`` does."""
    return await _clients(broker, keys, lambda name: name == f"{keys.client_name}:qe")


async def _clients(
    broker: Broker, keys: QueueKeys, is_wanted: Callable[[str], bool]
) -> list[dict[str, str]]:
    """Return the rows of one node: clients of a cluster may be connected to others by that name."""
    found = []
    for reply in await broker.command_to_each("CLIENT", "LIST"):
        rows = [{"name": "", **_row(line)} for line in _lines(reply)]
        found.append([row for row in rows if is_wanted(row["name"])])
    return [{**row, "name": keys.queue, "rawname": row["name"]} for row in max(found, key=len)]


def _lines(reply: bytes) -> list[str]:
    return reply.decode(errors="replace").splitlines()


def _row(line: str) -> dict[str, str]:
    fields = (part.partition("=") for part in line.split(" "))
    return {name: value for name, _, value in fields}
