"""Schedulers as their makers ask for them: checked, and written the way Node writes them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sandboxq.broker import schedulers
from sandboxq.broker.codec import json_text, json_value, options_to_wire
from sandboxq.broker.relations import ON_FAILURE, OnFailure
from sandboxq.errors import SchedulerSlotTaken, UsageError
from sandboxq.limits import checked_text
from sandboxq.queue.options import (
    AddOptions,
    checked_on_failure,
    checked_options,
    checked_size,
)
from sandboxq.queue.repeat import Repeat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.broker.schedulers import NewScheduler
    from sandboxq.job import JobOptions

# What a scheduler itself decides, or what would tie all of its jobs to one other.
_NOT_FOR_TEMPLATES = ("delay", "job_id", "timestamp_ms", "parent", "deduplication")
# A finished job of an earlier scheduler may have a time of the pattern; not many in a row do.
_MOST_SLOTS = 32
# Such an id would make the scheduler's record the job of another one.
_JOB_LIKE = re.compile(".*:[0-9]+", re.DOTALL)


class TemplateOptions(AddOptions, total=False):
    """The options of a scheduler's jobs.

    ``on_failure`` is stored with them, as Node does; their failures reach no parent, as they have
    none.
    """

    on_failure: OnFailure | None


class Template:
    """What each job of a scheduler is made from."""

    def __init__(
        self,
        name: str,
        data: Any,
        options: TemplateOptions | None,
        *,
        keys: QueueKeys,
        defaults: AddOptions,
    ) -> None:
        """Check it; ``defaults`` are the queue's. Raises: UsageError."""
        for refused in _NOT_FOR_TEMPLATES:
            if (options or {}).get(refused) is not None:
                message = f"the jobs of a scheduler cannot have option {refused!r}"
                raise UsageError(message)
        given = {
            name: value
            for name, value in {**defaults, **(options or {})}.items()
            if value is not None and name not in _NOT_FOR_TEMPLATES
        }
        flags = _flags(given.pop("on_failure", None))
        self.name = checked_text("name", name)
        self.data = {} if data is None else data
        checked = checked_options(given, prefix=keys.prefix)
        self.options: JobOptions = replace(checked, extra={**checked.extra, **flags})
        self.text = json_text(self.data, "data")
        checked_size(self.text, self.name, self.options.size_limit)
        self.members: dict[str, Any] = json_value(options_to_wire(self.options).encode())
        if "attempts" not in given:
            # Node adds its default to jobs, but not to templates.
            del self.members["attempts"]


def _flags(on_failure: Any) -> dict[str, bool]:
    if on_failure is None:
        return {}
    flag = ON_FAILURE[checked_on_failure("on_failure", on_failure)]
    return {} if flag is None else {flag: True}


def new_scheduler(
    scheduler_id: str, repeat: Repeat, template: Template, *, now_ms: int
) -> NewScheduler:
    """Return what is to be written. Raises: UsageError, also when it would never run."""
    checked_scheduler_id(scheduler_id)
    _check_repeat(repeat)
    if repeat.end_ms is not None and repeat.end_ms < now_ms:
        message = f"end_date must be in the future, not {repeat.end_date}"
        raise UsageError(message)
    next_ms = None if repeat.cron is None else _first_ms(scheduler_id, repeat, now_ms)
    options = template.members
    return schedulers.NewScheduler(
        scheduler_id,
        template.name,
        template.text,
        json_text(options, "options") if options else "",
        _present(_record(repeat)),
        next_ms,
        _job_members(scheduler_id, repeat, options, next_ms, now_ms),
        template.options.priority,
        template.options.lifo,
    )


def checked_scheduler_id(scheduler_id: str) -> str:
    """Return the id. Raises: UsageError when a key made of it could be that of something else."""
    checked_text("scheduler id", scheduler_id)
    if _JOB_LIKE.fullmatch(scheduler_id):
        message = f"a scheduler id must not end in ':' and a number: {scheduler_id!r}"
        raise UsageError(message)
    return scheduler_id


def _check_repeat(repeat: object) -> None:
    if not isinstance(repeat, Repeat):
        message = f"repeat must be a Repeat, not {repeat!r}"
        raise UsageError(message)


def _first_ms(scheduler_id: str, repeat: Repeat, now_ms: int) -> int:
    first_ms = repeat.next_ms(now_ms, seed=scheduler_id)
    if first_ms is None:
        before = "" if repeat.end_date is None else f" before {repeat.end_date}"
        message = f"cron {repeat.cron!r} never comes{before}"
        raise UsageError(message)
    return now_ms if repeat.immediately else first_ms


def _record(repeat: Repeat) -> dict[str, Any]:
    return {
        "tz": repeat.tz,
        "limit": repeat.limit,
        "pattern": repeat.cron,
        "startDate": repeat.start_ms,
        "endDate": repeat.end_ms,
        "every": repeat.every_ms,
        "offset": repeat.offset_ms,
    }


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _job_members(
    scheduler_id: str,
    repeat: Repeat,
    template: Mapping[str, Any],
    next_ms: int | None,
    now_ms: int,
) -> dict[str, Any]:
    # With the seed, whoever makes the next job takes H for the same number.
    is_hashed = repeat.cron is not None and "H" in repeat.cron
    seed = scheduler_id if is_hashed else None
    return {
        **template,
        "repeat": _present({**_record(repeat), "count": repeat.count + 1, "hashSeed": seed}),
        "timestamp": now_ms,
        "repeatJobKey": scheduler_id,
        **_present({"prevMillis": next_ms}),
    }


async def upsert_scheduler(
    broker: Broker, keys: QueueKeys, new: NewScheduler, repeat: Repeat, *, now_ms: int
) -> tuple[str, int]:
    """Write the scheduler; where jobs of an earlier one have times of its pattern, skip those.

    Return the id of the job made and its delay in ms. Raises: SchedulerSlotTaken.
    """
    for _ in range(_MOST_SLOTS):
        try:
            return await schedulers.upsert(broker, keys, new, now_ms=now_ms)
        except SchedulerSlotTaken:
            if new.next_ms is None:
                raise
            later_ms = repeat.next_ms(new.next_ms, seed=new.id)
            if later_ms is None:
                raise
            new = new._replace(next_ms=later_ms, opts={**new.opts, "prevMillis": later_ms})
    return await schedulers.upsert(broker, keys, new, now_ms=now_ms)
