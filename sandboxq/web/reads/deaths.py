"""Jobs whose children died: of what, at which limit, how often, and who ran beside them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypedDict

from sandboxq.broker.commands.peek import NO_PART, ids_in, peek
from sandboxq.broker.commands.queues import sizes_of
from sandboxq.errors import UsageError
from sandboxq.model.job import JobState
from sandboxq.model.validation import number_from_wire
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.failures import LEAST, top_frame
from sandboxq.web.reads.job import traces_of
from sandboxq.web.reads.rows import WANTED, JobRow, job_row, number, text

if TYPE_CHECKING:
    from sandboxq.broker.commands.peek import Row
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.web.redact import Redaction

WITHIN = 1000
_PER_TRIP = 250
_PAGE_SECONDS = 0.1
_MOST_DEATHS = 200
_FACT = 200
_FACTS = ("pid", "signal", "exit_code", "max_rss", "cpu_seconds", "limit", "peak", "end", "host")
_WANTED = {
    **WANTED,
    "data": 0,
    "stacktrace": -4096,
    "sq:history": 1000,
    "sq:crashes": 24,
    "sq:beside": 2000,
    "sq:neighbours": 2000,
    "sq:usage": _FACT,
    **dict.fromkeys((f"sq:{name}" for name in _FACTS), _FACT),
}
# What tells whether a job is one of them.
_SIGNS = {"sq:cause": _FACT, "sq:crashes": 24}
# What sandboxq ends children for, and how children end by themselves.
CAUSES = frozenset(
    {
        *("JobCrashed", "JobExited", "JobTimeout", "JobBlockedLoop", "JobMemoryExceeded"),
        *("JobCpuExceeded", "JobProcessesExceeded", "JobScratchExceeded", "SandboxViolation"),
        *("JobCancelled", "ResultTooLarge"),
    }
)


class Death(TypedDict):
    """One job whose child died. Bytes and seconds; None: not known.

    ``crashes`` of the job in all, ``history`` how its last children ended. ``beside``: how often
    another job ended the child that both were in; ``neighbours``: ids of jobs that ran at its last
    death, in the same child or in others of the worker.
    """

    job: JobRow
    cause: str
    signal: str | None
    exit_code: int | None
    pid: int | None
    limit: int | None
    peak: int | None
    cpu_seconds: float | None
    crashes: int
    history: list[str]
    beside: int
    neighbours: list[str]
    frame: str | None
    is_final: bool


class DeathGroup(TypedDict):
    """Deaths of the same cause in the same frame."""

    cause: str
    frame: str | None
    count: int
    last_ms: int


class DeathsAnswer(TypedDict):
    """Deaths, the newest first, and in groups.

    They are of the newest failed jobs, and of those that wait to be tried again; ``total``: how
    many there are of these.
    """

    queue: str | None
    looked_at: int
    total: int
    groups: list[DeathGroup]
    deaths: list[Death]


@read("/deaths")
async def read_deaths(
    dashboard: Dashboard, *, queue: str = "", within: int = WITHIN
) -> DeathsAnswer:
    """Jobs whose children died: cause, signal, limit and peak, all crashes, the neighbours."""
    if not 1 <= within <= 10 * WITHIN:
        message = f"within must be 1 to {10 * WITHIN}"
        raise UsageError(message)
    names = [dashboard.keys(queue).queue] if queue else list((await dashboard.queues()).names)
    broker = await dashboard.broker()
    keys = [dashboard.keys(name) for name in names]
    states = (JobState.FAILED, JobState.DELAYED)
    sizes = await sizes_of(broker, keys, states)
    totals = [size for own in sizes for size in own]
    sources = [(it, state) for it in keys for state in states]
    busy = [source for source, total in zip(sources, totals, strict=True) if total]
    most = within if len(keys) == 1 else max(1, min(within, 5 * WITHIN // max(1, len(busy))))
    deadline = asyncio.get_running_loop().time() + _PAGE_SECONDS
    deaths: list[Death] = []
    looked_at = 0
    for each, state in busy:
        for start in range(0, most, _PER_TRIP):
            count = min(_PER_TRIP, most - start)
            some, seen = await _deaths_in(dashboard, each, state, start=start, count=count)
            deaths += some
            looked_at += seen
            if seen < count:
                break
        if asyncio.get_running_loop().time() > deadline and looked_at >= LEAST:
            break
    deaths.sort(key=lambda it: -(it["job"]["finished_on_ms"] or it["job"]["processed_on_ms"] or 0))
    return {
        "queue": queue or None,
        "looked_at": looked_at,
        "total": sum(totals),
        "groups": _groups(deaths),
        "deaths": deaths[:_MOST_DEATHS],
    }


async def _deaths_in(
    dashboard: Dashboard, keys: QueueKeys, state: JobState, *, start: int, count: int
) -> tuple[list[Death], int]:
    broker = await dashboard.broker()
    page = await ids_in(broker, keys, state, start=start, count=count)
    signs = await peek(broker, keys, page.ids, _SIGNS)
    ids = [job_id for job_id, row in zip(page.ids, signs, strict=True) if _has_died(row)]
    rows = await peek(broker, keys, ids, _WANTED)
    pairs = zip(ids, rows, strict=True)
    found = [
        _death(keys.queue, job_id, state, row, dashboard.redaction)
        for job_id, row in pairs
        if _has_died(row)
    ]
    return found, len(page.ids)


def _has_died(row: Row) -> bool:
    return text(row, "sq:cause") in CAUSES or bool(number(row, "sq:crashes"))


def _death(queue: str, job_id: str, state: JobState, row: Row, redaction: Redaction) -> Death:
    frame = top_frame(traces_of(row.get("stacktrace", NO_PART))[-1:])
    fact = {name: text(row, f"sq:{name}") for name in _FACTS}
    return {
        "job": job_row(queue, job_id, state.value, row, redaction),
        "cause": text(row, "sq:cause") or "JobCrashed",
        "signal": fact["signal"],
        "exit_code": number(row, "sq:exit_code"),
        "pid": number(row, "sq:pid"),
        "limit": number(row, "sq:limit"),
        "peak": number(row, "sq:peak") or number(row, "sq:max_rss") or None,
        "cpu_seconds": number_from_wire(fact["cpu_seconds"]),
        "crashes": number(row, "sq:crashes") or 0,
        "history": [it for it in row.get("sq:history", NO_PART).text.split(", ") if it],
        "beside": number(row, "sq:beside") or 0,
        "neighbours": row.get("sq:neighbours", NO_PART).text.splitlines(),
        "frame": frame or None,
        "is_final": state is JobState.FAILED,
    }


def _groups(deaths: list[Death]) -> list[DeathGroup]:
    found: dict[tuple[str, str | None], list[Death]] = {}
    for death in deaths:
        found.setdefault((death["cause"], death["frame"]), []).append(death)
    groups: list[DeathGroup] = [
        {
            "cause": cause,
            "frame": frame,
            "count": len(some),
            "last_ms": max(it["job"]["finished_on_ms"] or 0 for it in some),
        }
        for (cause, frame), some in found.items()
    ]
    return sorted(groups, key=lambda it: -it["count"])
