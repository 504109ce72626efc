"""Searches the newest jobs of each state; what is found is what bulk actions are done to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from sandboxq.broker.commands.jobs import LISTS
from sandboxq.broker.commands.peek import look_for
from sandboxq.errors import UsageError
from sandboxq.model.job import JobState
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.query import query_from_text
from sandboxq.web.reads.rows import MOST_ROWS, STATES, WANTED, JobRow, job_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.web.query import Query

# So many jobs of each state are looked at, the newest.
WITHIN = 10_000
# Of one round trip: some milliseconds of Redis, in calls of a hundred.
_PER_TRIP = 500
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
    wanted_states = _states(query, states)
    broker, loop = await dashboard.broker(), asyncio.get_running_loop()
    deadline = loop.time() + seconds
    jobs: list[JobRow] = []
    looked_at = too_large = 0
    for name in names:
        for state in wanted_states:
            steps = _steps(broker, dashboard, dashboard.keys(name), state, query)
            async for rows, count, large in steps:
                jobs += rows
                looked_at += count
                too_large += large
                if len(jobs) >= most or loop.time() > deadline:
                    return FoundJobs(jobs[:most], looked_at, too_large, is_complete=False)
    return FoundJobs(jobs, looked_at, too_large, is_complete=True)


def _states(query: Query, states: Sequence[str]) -> list[str]:
    for state in query.states:
        if state not in STATES:
            message = f"state: must be one of {', '.join(STATES)}, not {state!r}"
            raise UsageError(message)
    return [state for state in states if not query.states or state in query.states]


async def _steps(
    broker: Broker, dashboard: Dashboard, keys: QueueKeys, state: str, query: Query
) -> AsyncIterator[tuple[list[JobRow], int, int]]:
    """Yield what each round trip found, how many jobs it looked at, how many were too large."""
    wanted = {**WANTED, "data": _MOST_BYTES, "returnvalue": _MOST_BYTES} if query.terms else WANTED
    for name in LISTS.get(JobState(state), (state,)):
        for start in range(0, WITHIN, _PER_TRIP):
            looked = await look_for(
                *(broker, keys, name, query.conditions, wanted),
                start=start,
                count=_PER_TRIP,
                most_bytes=_MOST_BYTES,
            )
            rows = [
                job_row(keys.queue, job_id, state, row, dashboard.redaction)
                for job_id, row in looked.found
                if query.fits(job_id, row, dashboard.redaction)
            ]
            yield rows, looked.jobs, looked.too_large
            if looked.jobs < _PER_TRIP:
                break
