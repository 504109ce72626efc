"""Searches the newest jobs of each state; what is found is what bulk actions are done to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from sandboxq.broker.commands.jobs import LISTS
from sandboxq.broker.commands.peek import IDS_PER_CALL, Stretch, look_for
from sandboxq.broker.commands.queues import sizes_of
from sandboxq.errors import UsageError
from sandboxq.model.job import JobState
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.query import query_from_text
from sandboxq.web.reads.rows import MOST_ROWS, STATES, WANTED, JobRow, job_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.web.query import Query

# So many jobs of each state are looked at, the newest.
WITHIN = 10_000
# Calls of one round trip, each of some milliseconds.
_PER_TRIP = 5
# So many are looked at however long it takes.
_LEAST = 2000
# Data that is longer is not looked into.
_MOST_BYTES = 256 << 10
# Seconds that a page may search; an action goes on for longer.
PAGE_SECONDS = 0.1
ACTION_SECONDS = 20.0


class FoundJobs(NamedTuple):
    """What was found. ``is_complete``: all that was to be looked at was looked at."""

    jobs: list[JobRow]
    looked_at: int
    too_large: int
    is_complete: bool


class SearchAnswer(TypedDict):
    """Jobs of any queues. At most ``within`` of each state were looked at, the newest ones.

    ``is_complete`` is False when the time was up, or more were found than are shown.
    """

    search: str
    within: int
    looked_at: int
    too_large: int
    is_complete: bool
    jobs: list[JobRow]


@read("/search")
async def read_search(dashboard: Dashboard, *, q: str = "", count: int = 100) -> SearchAnswer:
    """Search all queues: ``name:``, ``data.user.id:7``, ``state:``, ``queue:``, ``id:``, text."""
    if not 1 <= count <= MOST_ROWS:
        message = f"count must be 1 to {MOST_ROWS}"
        raise UsageError(message)
    found = FoundJobs([], 0, 0, is_complete=True)
    if q.strip():
        found = await find_jobs(dashboard, q, most=count)
    return {
        "search": q,
        "within": WITHIN,
        "looked_at": found.looked_at,
        "too_large": found.too_large,
        "is_complete": found.is_complete,
        "jobs": found.jobs,
    }


async def find_jobs(
    dashboard: Dashboard,
    search: str,
    *,
    queue: str | None = None,
    states: Sequence[str] = STATES,
    most: int,
    seconds: float = PAGE_SECONDS,
) -> FoundJobs:
    """Return at most so many jobs, of one queue or all. Raises: UsageError."""
    query = query_from_text(search)
    known = [queue] if queue is not None else (await dashboard.queues()).names
    names = [name for name in known if not query.queues or name in query.queues]
    broker, loop = await dashboard.broker(), asyncio.get_running_loop()
    deadline = loop.time() + seconds
    stretches = await _stretches(dashboard, names, _states(query, states))
    wanted = {**WANTED, "data": _MOST_BYTES, "returnvalue": _MOST_BYTES} if query.terms else WANTED
    jobs: list[JobRow] = []
    looked_at = too_large = 0
    for first in range(0, len(stretches), _PER_TRIP):
        some = stretches[first : first + _PER_TRIP]
        looks = await look_for(
            broker, [it for _, it in some], query.conditions, wanted, most_bytes=_MOST_BYTES
        )
        for (state, stretch), look in zip(some, looks, strict=True):
            jobs += [
                job_row(stretch.keys.queue, job_id, state, row, dashboard.redaction)
                for job_id, row in look.found
                if query.fits(job_id, row, dashboard.redaction)
            ]
            looked_at += look.jobs
            too_large += look.too_large
        is_late = loop.time() > deadline and looked_at >= _LEAST
        if len(jobs) >= most or is_late:
            is_all = first + _PER_TRIP >= len(stretches) and len(jobs) <= most
            return FoundJobs(jobs[:most], looked_at, too_large, is_complete=is_all)
    return FoundJobs(jobs, looked_at, too_large, is_complete=True)


async def _stretches(
    dashboard: Dashboard, names: Sequence[str], states: Sequence[str]
) -> list[tuple[str, Stretch]]:
    """Return the state and the place of each hundred jobs, the newest of all sources first."""
    places = [(state, name) for state in states for name in LISTS.get(JobState(state), (state,))]
    queues = [dashboard.keys(name) for name in names]
    sizes = await sizes_of(await dashboard.broker(), queues, [name for _, name in places])
    return [
        (state, Stretch(keys, name, start))
        for start in range(0, WITHIN, IDS_PER_CALL)
        for keys, own in zip(queues, sizes, strict=True)
        for (state, name), size in zip(places, own, strict=True)
        if start < size
    ]


def _states(query: Query, states: Sequence[str]) -> list[str]:
    for state in query.states:
        if state not in STATES:
            message = f"state: must be one of {', '.join(STATES)}, not {state!r}"
            raise UsageError(message)
    return [state for state in states if not query.states or state in query.states]
