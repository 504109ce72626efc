"""Finds the queues of a prefix and the workers of a queue (bullmq-wire.md 3.24)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    cursor = 0
    while True:
        reply = await broker.command("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_PER_STEP)
        for key in reply[1]:
            name = key.decode(errors="replace")[len(prefix) + 1 : -len(":meta")]
            if name and ":" not in name:
                names.add(name)
        cursor = int(reply[0])
        if not cursor:
            return sorted(names)


def literal_pattern(text: str) -> str:
    """Return a SCAN pattern that matches this text and nothing else."""
    return _GLOB.sub(r"\\\g<0>", text)


async def workers_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected worker: the fields of CLIENT LIST, ``name`` being the queue's.

    ``rawname`` is the connection's own name.
    """
    own = keys.client_name
    rows = await _clients(broker)
    return _of_queue(
        keys, [row for row in rows if row["name"] == own or row["name"].startswith(f"{own}:w:")]
    )


async def listeners_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected QueueEvents, as ``workers_of`` does."""
    rows = await _clients(broker)
    return _of_queue(keys, [row for row in rows if row["name"] == f"{keys.client_name}:qe"])


def _of_queue(keys: QueueKeys, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{**row, "name": keys.queue, "rawname": row["name"]} for row in rows]


async def _clients(broker: Broker) -> list[dict[str, str]]:
    reply = await broker.command("CLIENT", "LIST")
    return [{"name": "", **_row(line)} for line in _lines(reply)]


def _lines(reply: bytes) -> list[str]:
    return reply.decode(errors="replace").splitlines()


def _row(line: str) -> dict[str, str]:
    fields = (part.partition("=") for part in line.split(" "))
    return {name: value for name, _, value in fields}
