"""Operations on all jobs of a state: with progress; cancelling keeps the steps done so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.codec import ms_from_seconds
from sandboxq.broker.commands import bulk
from sandboxq.broker.commands.change_job import Resets
from sandboxq.errors import UsageError
from sandboxq.model.job import JobState
from sandboxq.model.validation import checked_flag, checked_whole, seconds_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from datetime import timedelta

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

    # Called with the number of jobs done so far, after each step.
    Progress = Callable[[int], None]

FINISHED_STATES = (JobState.FAILED, JobState.COMPLETED)
# Jobs in waiting-children would leave children that nobody waits for; `remove` takes them too.
CLEANED_STATES = (
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.WAITING,
    JobState.PRIORITIZED,
    JobState.DELAYED,
    JobState.ACTIVE,
)

# One `cleaned` event for so many jobs, about as Node does.
_JOBS_PER_EVENT = 10_000


def checked_state(state: str, allowed: Collection[JobState]) -> JobState:
    """Return the state of this name. Raises: UsageError when it is none of those allowed."""
    for each in allowed:
        if each == state:
            return each
    message = f"state must be one of {', '.join(allowed)}, not {state!r}"
    raise UsageError(message)


def checked_resets(*, reset_attempts_made: bool, reset_attempts_started: bool) -> Resets:
    """Return the counters that a retry sets to 0."""
    return Resets(
        checked_flag("reset_attempts_made", reset_attempts_made),
        checked_flag("reset_attempts_started", reset_attempts_started),
    )


def checked_limit(limit: int | None) -> int | None:
    """Return how many jobs at most, None for all."""
    return None if limit is None else checked_whole("limit", limit, least=1)


async def retry_jobs(
    broker: Broker,
    keys: QueueKeys,
    state: str,
    *,
    until_ms: int,
    limit: int | None,
    resets: Resets,
    progress: Progress | None,
) -> int:
    """Let finished jobs wait again; see Queue.retry_jobs."""
    steps = bulk.retry_all(
        broker,
        keys,
        state=checked_state(state, FINISHED_STATES),
        until_ms=checked_whole("until_ms", until_ms),
        limit=checked_limit(limit),
        resets=resets,
    )
    return await _total(steps, progress)


async def promote_jobs(
    broker: Broker, keys: QueueKeys, *, limit: int | None, progress: Progress | None
) -> int:
    """Let delayed jobs wait from now on; see Queue.promote_jobs."""
    return await _total(bulk.promote_all(broker, keys, limit=checked_limit(limit)), progress)


async def clean(
    broker: Broker,
    keys: QueueKeys,
    state: str,
    *,
    grace: float | timedelta,
    now_ms: int,
    limit: int | None,
    progress: Progress | None,
) -> list[str]:
    """Remove jobs that did not change for ``grace``; see Queue.clean."""
    steps = bulk.clean(
        broker,
        keys,
        state=checked_state(state, CLEANED_STATES),
        newest_ms=now_ms - ms_from_seconds(seconds_from("grace", grace)),
        limit=checked_limit(limit),
    )
    removed: list[str] = []
    announced = 0
    async for ids in steps:
        removed += ids
        _tell(progress, len(removed))
        if len(removed) - announced >= _JOBS_PER_EVENT:
            await bulk.announce_cleaned(broker, keys, len(removed) - announced)
            announced = len(removed)
    if announced < len(removed) or not removed:
        await bulk.announce_cleaned(broker, keys, len(removed) - announced)
    return removed


async def drain(
    broker: Broker, keys: QueueKeys, *, delayed: bool, progress: Progress | None
) -> int:
    """Remove what waits; see Queue.drain."""
    steps = bulk.drain(broker, keys, with_delayed=checked_flag("delayed", delayed))
    return len(await _all_ids(steps, progress))


async def remove_orphaned_jobs(
    broker: Broker, keys: QueueKeys, *, limit: int | None, progress: Progress | None
) -> list[str]:
    """Remove jobs that no state holds; see Queue.remove_orphaned_jobs."""
    steps = bulk.remove_orphans(broker, keys, limit=checked_limit(limit))
    return await _all_ids(steps, progress)


async def _total(steps: AsyncIterator[int], progress: Progress | None) -> int:
    total = 0
    async for done in steps:
        total += done
        _tell(progress, total)
    return total


async def _all_ids(steps: AsyncIterator[list[str]], progress: Progress | None) -> list[str]:
    found: list[str] = []
    async for ids in steps:
        found += ids
        _tell(progress, len(found))
    return found


def _tell(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done)
