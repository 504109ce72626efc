"""One job: where it is, what it was given and returned, its attempts, its log."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, TypedDict

from sandboxq.broker.codec import json_value
from sandboxq.broker.commands.children import counts_of
from sandboxq.broker.commands.peek import NO_PART, log_lines, peek, whereabouts
from sandboxq.errors import JobNotFound, UsageError
from sandboxq.model.job import JobState
from sandboxq.web.answers import NotHere
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.rows import WANTED, JobRow, Value, job_row, number, stored_value
from sandboxq.web.redact import cut

if TYPE_CHECKING:
    from sandboxq.broker.commands.peek import Part, Row
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.web.redact import Redaction

# Bytes of a value that are shown; the rest is a download.
MOST_VALUE = 64 << 10
MOST_REASON = 16 << 10
# Bytes of a line of the log, and lines of a page.
MOST_LINE = 4000
MOST_LINES = 500
# What can be had whole, and how many bytes at most (cut.lua reads no more).
DOWNLOADS = ("data", "returnvalue", "opts", "stacktrace")
MOST_DOWNLOAD = 8 << 20
_MOST_FIELDS = 100
_MOST_FACT = 2000
_MOST_TRACE = 20_000
# Where the job was when it was killed.
_LAST_STACK, _MOST_STACK = "sq:last_stack", 16 << 10
_HISTORY = "sq:history"
_VALUES = ("data", "returnvalue", "opts")
_JOB = {
    **WANTED,
    **dict.fromkeys(_VALUES, MOST_VALUE),
    "failedReason": MOST_REASON,
    "progress": MOST_REASON,
    # The newest trace stands last.
    "stacktrace": -MOST_VALUE,
    _HISTORY: _MOST_FACT,
    "sq:usage": 200,
    "defa": MOST_REASON,
}
_TEXTS = re.compile(r'"((?:[^"\\]++|\\.)*+)"')


class Attempt(TypedDict):
    """One attempt that failed: ``number`` from 1, the error's first line, the trace."""

    number: int
    error: str
    trace: str


class JobUsage(TypedDict):
    """What the last measured attempt has used. Seconds and bytes."""

    wall: float
    cpu_user: float
    cpu_system: float
    peak_rss: int


class Children(TypedDict):
    """How many children the job has, by what became of them."""

    processed: int
    unprocessed: int
    ignored: int
    failed: int


class JobAnswer(TypedDict):
    """One job. ``place``: among those that wait, 0 comes next. ``lock``: seconds it still holds.

    ``facts``: what is known of its last death (docs/reference/deaths.md). ``is_ours``: a worker of
    sandboxq ran it; of others less is known.
    """

    job: JobRow
    place: int | None
    lock: float | None
    data: Value
    options: Value
    returnvalue: Value
    failed_reason: str | None
    attempts: list[Attempt]
    crash_history: list[str]
    facts: dict[str, str]
    usage: JobUsage | None
    children: Children
    log_lines: int
    is_ours: bool


class LogAnswer(TypedDict):
    """Lines of a job's log from ``start`` on. ``next``: where the next ones begin, None: no more.

    Of a line that is cut ``bytes`` is more than it has.
    """

    total: int
    start: int
    next: int | None
    lines: list[LogLine]


class LogLine(TypedDict):
    """One line."""

    number: int
    text: str
    bytes: int


@read("/queues/{queue}/jobs/{job_id}")
async def read_job(dashboard: Dashboard, queue: str, job_id: str) -> JobAnswer:
    """One job: state, data, options, attempts, deaths, what it used; long values are cut."""
    broker, keys = await dashboard.broker(), dashboard.keys(queue)
    facts = await _facts(broker, keys, job_id)
    sizes = {name: _MOST_STACK if name == _LAST_STACK else _MOST_FACT for name in facts}
    (row,) = await peek(broker, keys, [job_id], {**_JOB, **sizes})
    if not row or (not row["name"].size and not row["data"].size):
        message = f"job {job_id!r} does not exist in queue {queue!r}: it may have been removed"
        raise JobNotFound(message)
    where = await whereabouts(broker, keys, job_id)
    lines = await log_lines(broker, keys, job_id, first=0, last=0, most_bytes=1)
    counts = await counts_of(broker, keys, job_id)
    redaction = dashboard.redaction
    reason = row.get("failedReason", NO_PART)
    return {
        "job": job_row(queue, job_id, where.state.value, row, redaction),
        "place": where.place,
        "lock": where.lock_seconds,
        "data": stored_value(row["data"], redaction),
        "options": stored_value(row["opts"], redaction),
        "returnvalue": stored_value(row["returnvalue"], redaction),
        "failed_reason": redaction.text(reason.text) if reason.size else None,
        "attempts": _attempts(row, redaction),
        "crash_history": [each for each in row[_HISTORY].text.split(", ") if each],
        "facts": {name.removeprefix("sq:"): redaction.text(row[name].text) for name in facts},
        "usage": _usage(row["sq:usage"]),
        "children": {
            "processed": counts["processed"],
            "unprocessed": counts["unprocessed"],
            "ignored": counts["ignored"],
            "failed": counts["failed"],
        },
        "log_lines": lines.total,
        "is_ours": any(row[name].size for name in ("sq:usage", "sq:cause", "sq:crashes"))
        or bool(facts)
        or (where.state is not JobState.ACTIVE and not row["processedOn"].size),
    }


async def _facts(broker: Broker, keys: QueueKeys, job_id: str) -> list[str]:
    """Return the names of the fields that say how the job died; a hash of too many has none."""
    if not 0 < int(await broker.command("HLEN", keys[job_id])) <= _MOST_FIELDS:
        return []
    names = [name.decode(errors="replace") for name in await broker.command("HKEYS", keys[job_id])]
    known = {*_JOB, "sq:binary", "sq:result"}
    return sorted(name for name in names if name.startswith("sq:") and name not in known)


def _usage(part: Part) -> JobUsage | None:
    try:
        wall, user, system, peak = map(int, part.raw.split())
    except ValueError:
        return None
    times = {"wall": wall / 1e6, "cpu_user": user / 1e6, "cpu_system": system / 1e6}
    return {
        "wall": times["wall"],
        "cpu_user": times["cpu_user"],
        "cpu_system": times["cpu_system"],
        "peak_rss": peak,
    }


def _attempts(row: Row, redaction: Redaction) -> list[Attempt]:
    """Return the attempts whose traces are stored, the newest last."""
    traces = traces_of(row["stacktrace"])
    made = max(len(traces), number(row, "atm") or 0)
    first = made - len(traces) + 1
    return [
        {
            "number": first + place,
            "error": redaction.text(error_line(trace)),
            "trace": redaction.text(cut(trace, _MOST_TRACE)),
        }
        for place, trace in enumerate(traces)
    ]


def traces_of(part: Part) -> list[str]:
    """Return the stored stack traces, the oldest first; of a long list those at its end."""
    if not part.size:
        return []
    if not part.is_cut:
        try:
            found = json_value(part.raw)
        except ValueError:
            return [part.text]
        return [str(each) for each in found] if isinstance(found, list) else [part.text]
    # Behind the cut begins what may be the middle of a text: a quote ends it.
    _, _, rest = part.text.partition('","')
    return [_unquoted(each[1]) for each in _TEXTS.finditer(f'"{rest}')] if rest else [part.text]


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


def error_line(trace: str) -> str:
    """Return the line that says what went wrong: Python's is the last, Node's the first."""
    lines = [line for line in trace.strip().splitlines() if line.strip()]
    if not lines:
        return ""
    is_python = "Traceback (most recent call last)" in trace or lines[0].startswith("  File")
    return cut((lines[-1] if is_python else lines[0]).strip(), _MOST_FACT)


async def read_whole(dashboard: Dashboard, queue: str, job_id: str, field: str) -> str:
    """Return all of a job's ``data``, ``returnvalue``, ``opts`` or ``stacktrace``, secrets hidden.

    Raises: NotHere, UsageError when it is larger than a download may be.
    """
    broker, keys = await dashboard.broker(), dashboard.keys(queue)
    if field not in DOWNLOADS:
        message = f"there are {', '.join(DOWNLOADS)} of a job, and no {field!r}"
        raise NotHere(message)
    (row,) = await peek(broker, keys, [job_id], {field: MOST_DOWNLOAD})
    if not row:
        message = f"job {job_id!r} does not exist in queue {queue!r}"
        raise JobNotFound(message)
    part = row[field]
    if not part.size:
        message = f"job {job_id!r} of queue {queue!r} has no {field}"
        raise NotHere(message)
    if part.is_cut:
        message = f"{field} of job {job_id!r} has {part.size:,} bytes: too many for a download"
        raise UsageError(message)
    # Milliseconds for each megabyte: not on the loop, which answers others.
    return await asyncio.to_thread(dashboard.redaction.json_text, part.text)


@read("/queues/{queue}/jobs/{job_id}/logs")
async def read_logs(
    dashboard: Dashboard, queue: str, job_id: str, *, start: int = -200, count: int = 200
) -> LogAnswer:
    """Lines of a job's log; a negative start counts from the end."""
    if not 1 <= count <= MOST_LINES:
        message = f"count must be 1 to {MOST_LINES}"
        raise UsageError(message)
    broker, keys = await dashboard.broker(), dashboard.keys(queue)
    # The end of a log moves: where it stands is read with the lines.
    last = start + count - 1 if start >= 0 or start + count < 0 else -1
    found = await log_lines(broker, keys, job_id, first=start, last=last, most_bytes=MOST_LINE)
    first = start if start >= 0 else max(0, found.total + start)
    end = first + len(found.lines)
    return {
        "total": found.total,
        "start": first,
        "next": end if end < found.total else None,
        "lines": [
            {"number": first + at, "text": dashboard.redaction.text(line.text), "bytes": line.size}
            for at, line in enumerate(found.lines)
        ],
    }
