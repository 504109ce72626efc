"""What this host and this Redis can do, and what stands in the way of the queues."""

from __future__ import annotations

import asyncio
import platform
import socket
from typing import TYPE_CHECKING, TypedDict

from sandboxq import __version__
from sandboxq.broker.connect.server_info import clock_warning
from sandboxq.sandbox.policy import NAMES, Policy
from sandboxq.sandbox.support import mechanisms, missing_for
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.overview import read_overview

if TYPE_CHECKING:
    from sandboxq.web.reads.overview import QueueRow

# Seconds that the oldest job may wait without being told of.
_LONG = 60.0


class MechanismRow(TypedDict):
    """One facility of the kernel."""

    name: str
    is_there: bool
    detail: str
    help: str


class RedisRow(TypedDict):
    """The server; what is wrong with it, in words."""

    endpoint: str
    kind: str
    version: str
    eviction: str
    is_cluster: bool
    problems: list[str]


class QueueProblem(TypedDict):
    """What stands in the way of a queue."""

    queue: str
    problem: str


class DoctorAnswer(TypedDict):
    """``host`` is the one that serves this page; ``policies``: what each lacks there."""

    host: str
    sandboxq: str
    python: str
    machine: str
    mechanisms: list[MechanismRow]
    policies: dict[str, list[str]]
    redis: RedisRow
    queues: list[QueueProblem]


@read("/doctor")
async def read_doctor(dashboard: Dashboard) -> DoctorAnswer:
    """Tell what this host and Redis can do, and what stands in the way of queues."""
    broker = await dashboard.broker()
    facts = broker.facts
    await broker.now_ms()
    problems = [clock_warning(broker.time.lead_ms) or ""]
    if facts.evicts:
        problems.append("jobs may be lost when memory is full: set maxmemory-policy noeviction")
    found, policies = await asyncio.to_thread(_host)
    overview = await read_overview(dashboard)
    return {
        "host": socket.gethostname(),
        "sandboxq": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "mechanisms": found,
        "policies": policies,
        "redis": {
            "endpoint": broker.endpoint.safe,
            "kind": facts.kind,
            "version": str(facts.version),
            "eviction": facts.eviction_policy or "unknown",
            "is_cluster": facts.is_cluster,
            "problems": [each for each in problems if each],
        },
        "queues": [it for row in overview["queues"] for it in _problems(row)],
    }


def _host() -> tuple[list[MechanismRow], dict[str, list[str]]]:
    rows: list[MechanismRow] = [
        {"name": it.name, "is_there": it.is_there, "detail": it.detail, "help": it.help}
        for it in mechanisms()
    ]
    missing = {
        name: [f"{it.name} ({it.detail}): {it.help}" for it in missing_for(Policy(name))]
        for name in NAMES
    }
    return rows, missing


def _problems(row: QueueRow) -> list[QueueProblem]:
    found = [row["error"]] if row["error"] else []
    waiting = row["counts"]["waiting"] + row["counts"]["prioritized"]
    if waiting and row["is_paused"]:
        found.append(f"{waiting:,} jobs wait, and the queue is paused: resume it")
    elif waiting and row["workers"] == 0:
        found.append(f"{waiting:,} jobs wait, and no worker is connected: start one")
    elif waiting and (row["oldest"] or 0) > _LONG:
        found.append(f"the oldest job has waited for {row['oldest']:,.0f} s: add workers")
    return [{"queue": row["name"], "problem": each} for each in found]
