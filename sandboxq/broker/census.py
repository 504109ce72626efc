"""Finds the queues of a prefix and the workers of a queue (bullmq-wire.md 3.24)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sandboxq.broker.keys import checked_queue_name
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

# Keys that one SCAN step looks at: some hundred microseconds of Redis's time.
_KEYS_PER_STEP = 1000

# What means something in a SCAN pattern.
_GLOB = re.compile(r"[][*?^\\]")


async def queue_names(broker: Broker, *, prefix: str) -> list[str]:
    """Return the names of all queues under the prefix, sorted; walks over the whole database."""
    pattern = literal_pattern(prefix) + ":*:meta"
    names: set[str] = set()
    async for page in broker.scan("MATCH", pattern, "COUNT", _KEYS_PER_STEP):
        for key in page:
            name = key.decode(errors="replace")[len(prefix) + 1 : -len(":meta")]
            if _is_usable(name):
                names.add(name)
    return sorted(names)


def _is_usable(name: str) -> bool:
    """Tell whether a queue can be called so; other programs write what they like."""
    try:
        return bool(checked_queue_name(name))
    except UsageError:
        return False


def literal_pattern(text: str) -> str:
    """Return a SCAN pattern that matches this text and nothing else."""
    return _GLOB.sub(r"\\\g<0>", text)


async def workers_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected worker: the fields of CLIENT LIST, ``name`` being the queue's.

    ``rawname`` is the connection's own name.
    """
    own = keys.client_name
    return await _clients(broker, keys, lambda name: name == own or name.startswith(f"{own}:w:"))


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
