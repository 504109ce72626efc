"""What is done to many jobs: those picked, those that a search finds, those of a group."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.commands import bulk
from sandboxq.broker.commands.change_job import Resets
from sandboxq.errors import UsageError
from sandboxq.model.job import JobState
from sandboxq.web.actions import Done, Visit, action
from sandboxq.web.queue_actions import MOST_SECONDS, Finished, done_to
from sandboxq.web.reads.failures import MOST_WITHIN, sample_failed
from sandboxq.web.reads.rows import State
from sandboxq.web.reads.search import WITHIN, find_jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Of one action: half its seconds are for the search.
_SEARCH_SECONDS = MOST_SECONDS / 2
MOST_PICKED = 10_000


class Targets(NamedTuple):
    """The jobs that are meant, and what is to be said of how they were found."""

    ids: list[str]
    note: str = ""


@action("/queues/{queue}/jobs/retry")
async def retry_jobs(
    visit: Visit,
    queue: str,
    *,
    state: Finished = "failed",
    search: str = "",
    ids: list[str] | None = None,
    reset_attempts: bool = True,
) -> Done:
    """Let finished jobs wait again: those picked by ``ids``, or all that a search finds."""
    targets = await _targets(visit, queue, state, search, ids)
    resets = Resets(attempts_made=reset_attempts)
    steps = bulk.retry_some(
        *(await visit.dashboard.broker(), visit.dashboard.keys(queue), targets.ids),
        state=JobState(state),
        resets=resets,
    )
    return await _done(steps, "{} wait again", len(targets.ids), targets.note)


@action("/queues/{queue}/jobs/promote")
async def promote_jobs(
    visit: Visit, queue: str, *, search: str = "", ids: list[str] | None = None
) -> Done:
    """Let delayed jobs wait from now on: those picked, or all that a search finds."""
    targets = await _targets(visit, queue, "delayed", search, ids)
    broker, keys = await visit.dashboard.broker(), visit.dashboard.keys(queue)
    steps = bulk.promote_some(broker, keys, targets.ids)
    return await _done(steps, "{} wait from now on", len(targets.ids), targets.note)


@action("/queues/{queue}/jobs/remove")
async def remove_jobs(
    visit: Visit,
    queue: str,
    *,
    state: State = "failed",
    search: str = "",
    ids: list[str] | None = None,
    with_children: bool = False,
) -> Done:
    """Remove jobs: those picked, wherever they are, or all of a state that a search finds."""
    targets = await _targets(visit, queue, state, search, ids)
    broker, keys = await visit.dashboard.broker(), visit.dashboard.keys(queue)
    steps = bulk.remove_some(broker, keys, targets.ids, with_children=with_children)
    return await _done(steps, "{} removed", len(targets.ids), targets.note)


@action("/queues/{queue}/failures/{group}/retry")
async def retry_group(visit: Visit, queue: str, group: str, *, reset_attempts: bool = True) -> Done:
    """Let the failed jobs of a group wait again."""
    targets = await _group(visit, queue, group)
    steps = bulk.retry_some(
        *(await visit.dashboard.broker(), visit.dashboard.keys(queue), targets.ids),
        state=JobState.FAILED,
        resets=Resets(attempts_made=reset_attempts),
    )
    return await _done(steps, "{} wait again", len(targets.ids), targets.note)


@action("/queues/{queue}/failures/{group}/remove")
async def remove_group(visit: Visit, queue: str, group: str) -> Done:
    """Remove the failed jobs of a group."""
    targets = await _group(visit, queue, group)
    broker, keys = await visit.dashboard.broker(), visit.dashboard.keys(queue)
    steps = bulk.remove_some(broker, keys, targets.ids, with_children=False)
    return await _done(steps, "{} removed", len(targets.ids), targets.note)


async def _targets(
    visit: Visit, queue: str, state: str, search: str, ids: list[str] | None
) -> Targets:
    """Return the jobs that are meant; nothing is ever meant by leaving both out."""
    await visit.dashboard.queue(queue)
    if ids and search.strip():
        message = "give either ids or a search, not both"
        raise UsageError(message)
    if ids:
        if len(ids) > MOST_PICKED:
            message = f"at most {MOST_PICKED:,} ids at once"
            raise UsageError(message)
        return Targets(list(dict.fromkeys(ids)))
    if not search.strip():
        message = "say which jobs: ids, or a search; for all of a queue there are other actions"
        raise UsageError(message)
    found = await find_jobs(
        visit.dashboard,
        search,
        queue=queue,
        states=(state,),
        most=WITHIN,
        seconds=_SEARCH_SECONDS,
    )
    is_all = found.is_complete and found.looked_at < WITHIN
    note = "" if is_all else _not_all(found.looked_at)
    return Targets([job["id"] for job in found.jobs], note)


def _not_all(looked_at: int) -> str:
    return f"; {looked_at:,} jobs of this state were looked at, there may be more"


async def _group(visit: Visit, queue: str, group: str) -> Targets:
    await visit.dashboard.queue(queue)
    sample = await sample_failed(
        visit.dashboard, [queue], within=MOST_WITHIN, seconds=_SEARCH_SECONDS
    )
    note = "" if len(sample.jobs) >= sample.total else _not_all(len(sample.jobs))
    return Targets([job.id for job in sample.jobs if job.group == group], note)


async def _done(steps: AsyncIterator[int], text: str, wanted: int, note: str = "") -> Done:
    clock = asyncio.get_running_loop().time
    deadline = clock() + MOST_SECONDS - _SEARCH_SECONDS
    count = 0
    is_cut = False
    async for done in steps:
        count += done
        if clock() > deadline:
            is_cut = True
            break
    answer = done_to(count, text, is_cut=is_cut)
    if not is_cut and count < wanted:
        answer["message"] += f"; {wanted - count:,} of {wanted:,} were locked, or elsewhere by then"
    elif not wanted:
        answer["message"] = "no job fits: nothing was done"
    answer["message"] += note
    return answer
