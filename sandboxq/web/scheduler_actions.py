"""What is done to schedulers: make or change one, run it now, remove it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, cast

from sandboxq.errors import UsageError
from sandboxq.queue.schedulers import Repeat
from sandboxq.web.actions import Done, Visit, action
from sandboxq.web.answers import NotHere
from sandboxq.web.sentences import sentence_of

if TYPE_CHECKING:
    from sandboxq.model.job import JobOptions
    from sandboxq.queue.options import AddOptions

# What a job of a scheduler has of the scheduler's options.
_KEPT = (
    *("priority", "attempts", "backoff", "lifo", "timeout", "remove_on_complete"),
    *("remove_on_fail", "keep_logs", "stack_trace_limit"),
)


@action("/queues/{queue}/schedulers")
async def save_scheduler(  # noqa: PLR0913 - the parameters of the API
    visit: Visit,
    queue: str,
    *,
    id: str,  # noqa: A002 - its name in the API
    cron: str = "",
    every: float | None = None,
    tz: str = "",
    name: str = "",
    data: Any = None,
    limit: int | None = None,
    attempts: int | None = None,
    priority: int | None = None,
    end_ms: int | None = None,
) -> Done:
    """Make a scheduler or change it: by a ``cron`` pattern, or ``every`` so many seconds.

    Without ``data`` that of the former scheduler stays: a page shows it without its secrets.
    """
    found = await visit.dashboard.queue(queue)
    repeat = Repeat(
        cron=cron.strip() or None,
        every=every,
        tz=tz.strip() or None,
        limit=limit,
        end_date=None if end_ms is None else _moment(end_ms),
    )
    former = await found.get_scheduler(id)
    options: AddOptions = {} if former is None else _kept(former.options)
    if data is None and former is not None:
        data = former.data
    if attempts is not None:
        options["attempts"] = attempts
    if priority is not None:
        options["priority"] = priority
    await found.upsert_scheduler(id, repeat, name=name or None, data=data, options=options)
    said = sentence_of(repeat.cron, every, repeat.tz)
    return {"message": f"scheduler {id!r} runs {said}", "count": 1}


@action("/queues/{queue}/schedulers/{scheduler_id}/remove")
async def remove_scheduler(visit: Visit, queue: str, scheduler_id: str) -> Done:
    """Remove a scheduler, and its job that waits for its time."""
    found = await visit.dashboard.queue(queue)
    if not await found.remove_scheduler(scheduler_id):
        _refuse(queue, scheduler_id)
    return {"message": f"scheduler {scheduler_id!r} was removed", "count": 1}


@action("/queues/{queue}/schedulers/{scheduler_id}/run")
async def run_scheduler(visit: Visit, queue: str, scheduler_id: str) -> Done:
    """Add a job as the scheduler does, now; its next time stays."""
    found = await visit.dashboard.queue(queue)
    scheduler = await found.get_scheduler(scheduler_id)
    if scheduler is None:
        _refuse(queue, scheduler_id)
    job = await found.add(scheduler.name, scheduler.data, **_kept(scheduler.options))
    return {"message": f"job {job.id} was added as of scheduler {scheduler_id!r}", "count": 1}


def _refuse(queue: str, scheduler_id: str) -> NoReturn:
    message = f"there is no scheduler {scheduler_id!r} in queue {queue!r}"
    raise NotHere(message)


def _moment(end_ms: int) -> datetime:
    try:
        return datetime.fromtimestamp(end_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        message = f"end_ms must be ms since 1970, up to the year 9999, not {end_ms}"
        raise UsageError(message) from None


def _kept(options: JobOptions | None) -> AddOptions:
    """Return the options that jobs of a scheduler have."""
    found: Any = {name: getattr(options, name) for name in _KEPT} if options else {}
    return cast("AddOptions", {name: value for name, value in found.items() if value})
