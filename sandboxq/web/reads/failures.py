"""Failed jobs in groups: the same cause, the same text but for numbers, the same frame."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from sandboxq.broker.commands.peek import NO_PART, ids_in, peek
from sandboxq.broker.commands.queues import sizes_of
from sandboxq.errors import UsageError
from sandboxq.model.job import JobState
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.job import traces_of
from sandboxq.web.reads.rows import JobRow, number, read_rows, shown_text, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.commands.peek import Row
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.web.redact import Redaction

# So many failed jobs of each queue are looked at, the newest; fewer of each of many queues.
WITHIN = 1000
MOST_WITHIN = 10_000
_OF_ALL_QUEUES = 5000
_PER_TRIP = 250
# So many are looked at however long it takes.
LEAST = 1000
PAGE_SECONDS = 0.1
MOST_GROUPS = 100
MOST_SAMPLES = 5
_MOST_PATTERN = 300
_WANTED = {
    **dict.fromkeys(("name", "sq:cause"), 200),
    "finishedOn": 24,
    "failedReason": 500,
    "stacktrace": -4096,
}
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|\d+(?:[.,:]\d+)*")
_PYTHON_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ([^\n]+)')
_FATAL_FRAME = re.compile(r'File "([^"]+)", line (\d+) in ([^\n]+)')
_NODE_FRAME = re.compile(r"\n[ \t]{1,40}at (?:(.+?) \()?([^()\n]+?):(\d+):\d+\)?")


class FailedJob(NamedTuple):
    """What of a failed job says in which group it is."""

    queue: str
    id: str
    name: str
    cause: str | None
    finished_on_ms: int
    pattern: str
    frame: str

    @property
    def group(self) -> str:
        """The id of the group."""
        told = "\0".join((self.cause or "", self.pattern, self.frame))
        return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:16]


class FailureGroup(TypedDict):
    """Failed jobs that are alike, samples of them the newest first.

    ``pattern`` is their text with # for numbers.
    """

    id: str
    queue: str
    cause: str | None
    pattern: str
    frame: str | None
    count: int
    first_ms: int
    last_ms: int
    names: list[str]
    samples: list[JobRow]


class FailuresAnswer(TypedDict):
    """Groups, the largest first. ``looked_at`` of ``total`` failed jobs, the newest of each."""

    queue: str | None
    looked_at: int
    total: int
    is_complete: bool
    groups: list[FailureGroup]


@read("/failures")
async def read_failures(
    dashboard: Dashboard, *, queue: str = "", within: int = WITHIN
) -> FailuresAnswer:
    """Failed jobs by cause, text without numbers and frame; of one queue or all."""
    if not 1 <= within <= MOST_WITHIN:
        message = f"within must be 1 to {MOST_WITHIN}"
        raise UsageError(message)
    names = [dashboard.keys(queue).queue] if queue else list((await dashboard.queues()).names)
    sample = await sample_failed(dashboard, names, within=within)
    found: dict[tuple[str, str], list[FailedJob]] = {}
    for job in sample.jobs:
        found.setdefault((job.queue, job.group), []).append(job)
    alike = sorted(found.values(), key=lambda jobs: (-len(jobs), -jobs[0].finished_on_ms))
    return {
        "queue": queue or None,
        "looked_at": len(sample.jobs),
        "total": sample.total,
        "is_complete": len(sample.jobs) >= sample.total and len(alike) <= MOST_GROUPS,
        "groups": await _groups(dashboard, alike[:MOST_GROUPS]),
    }


async def _groups(dashboard: Dashboard, alike: list[list[FailedJob]]) -> list[FailureGroup]:
    """Return the groups, with rows of some jobs of each."""
    wanted: dict[str, list[str]] = {}
    for jobs in alike:
        wanted.setdefault(jobs[0].queue, []).extend(job.id for job in jobs[:MOST_SAMPLES])
    broker = await dashboard.broker()
    rows: dict[tuple[str, str], JobRow] = {}
    for name, ids in wanted.items():
        found = await read_rows(broker, dashboard.keys(name), "failed", ids, dashboard.redaction)
        rows |= {(name, row["id"]): row for row in found}
    return [_group(jobs, rows) for jobs in alike]


def _group(jobs: list[FailedJob], rows: dict[tuple[str, str], JobRow]) -> FailureGroup:
    first = jobs[0]
    times = [job.finished_on_ms for job in jobs]
    keys = [(job.queue, job.id) for job in jobs[:MOST_SAMPLES]]
    return {
        "id": first.group,
        "queue": first.queue,
        "cause": first.cause,
        "pattern": first.pattern,
        "frame": first.frame or None,
        "count": len(jobs),
        "first_ms": min(times),
        "last_ms": max(times),
        "names": sorted({job.name for job in jobs})[:MOST_SAMPLES],
        "samples": [rows[key] for key in keys if key in rows],
    }


class Sample(NamedTuple):
    """The newest failed jobs, and how many there are."""

    jobs: list[FailedJob]
    total: int


async def sample_failed(
    dashboard: Dashboard, names: Sequence[str], *, within: int, seconds: float = PAGE_SECONDS
) -> Sample:
    """Return the newest failed jobs of these queues, as many as the time allows."""
    deadline = asyncio.get_running_loop().time() + seconds
    keys = [dashboard.keys(name) for name in names]
    broker = await dashboard.broker()
    totals = [size for (size,) in await sizes_of(broker, keys, ["failed"])]
    most = max(1, min(within, _OF_ALL_QUEUES // max(1, sum(map(bool, totals)))))
    most = within if len(keys) == 1 else most
    jobs: list[FailedJob] = []
    for each, total in zip(keys, totals, strict=True):
        if not total:
            continue
        async for some in _newest(dashboard, each, most):
            jobs += some
            if asyncio.get_running_loop().time() > deadline and len(jobs) >= LEAST:
                return Sample(jobs, sum(totals))
    return Sample(jobs, sum(totals))


async def _newest(
    dashboard: Dashboard, keys: QueueKeys, most: int
) -> AsyncIterator[list[FailedJob]]:
    broker = await dashboard.broker()
    for start in range(0, most, _PER_TRIP):
        count = min(_PER_TRIP, most - start)
        page = await ids_in(broker, keys, JobState.FAILED, start=start, count=count)
        rows = await peek(broker, keys, page.ids, _WANTED)
        yield [
            failed_job(keys.queue, job_id, row, dashboard.redaction)
            for job_id, row in zip(page.ids, rows, strict=True)
            if row
        ]
        if len(page.ids) < count:
            return


def failed_job(queue: str, job_id: str, row: Row, redaction: Redaction) -> FailedJob:
    """Return a failed job with its group."""
    reason = shown_text(row, "failedReason", redaction) or ""
    return FailedJob(
        queue,
        job_id,
        name=text(row, "name") or "",
        cause=text(row, "sq:cause"),
        finished_on_ms=number(row, "finishedOn") or 0,
        pattern=_NUMBERS.sub("#", reason)[:_MOST_PATTERN],
        frame=top_frame(traces_of(row.get("stacktrace", NO_PART))[-1:]),
    )


def top_frame(traces: Sequence[str]) -> str:
    """Return the frame in which the newest of these traces was raised: ``file:line function``."""
    for trace in traces[-1:]:
        if found := _PYTHON_FRAME.findall(trace):
            path, line, name = found[-1]
            return f"{_file(path)}:{line} {name.strip()}"
        if fatal := _FATAL_FRAME.search(trace):
            return f"{_file(fatal[1])}:{fatal[2]} {fatal[3].strip()}"
        if node := _NODE_FRAME.search(trace):
            return f"{_file(node[2])}:{node[3]} {node[1] or ''}".strip()
    return ""


def _file(path: str) -> str:
    """Return the last two parts of a path: hosts have the same code in different places."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])
