"""Schedulers as callers ask for them: when they run, checked, and written as Node does."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandboxq.broker.codec import json_text, json_value, options_to_wire
from sandboxq.broker.commands import schedulers
from sandboxq.broker.commands.add import ON_FAILURE
from sandboxq.errors import SchedulerSlotTaken, UsageError
from sandboxq.model.job import OnFailure  # noqa: TC001 - fields of a TypedDict are read at run time
from sandboxq.model.validation import (
    Duration,
    checked_flag,
    checked_text,
    checked_whole,
    positive_seconds,
    seconds_from,
)
from sandboxq.queue.options import (
    AddOptions,
    checked_on_failure,
    checked_options,
    checked_size,
)
from sandboxq.schedule import cron
from sandboxq.schedule.wall_clock import zone_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.broker.commands.schedulers import NewScheduler
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.model.job import JobOptions
    from sandboxq.schedule.cron import RepeatStrategy

# Options that the scheduler itself sets, or that would link all of its jobs to one other.
_NOT_FOR_TEMPLATES = ("delay", "job_id", "timestamp_ms", "parent", "deduplication")
# A finished job of an earlier scheduler may have a time of the pattern; not many in a row do.
_MOST_SLOTS = 32
# Such an id would make the scheduler's record the job of another one.
_JOB_LIKE = re.compile(".*:[0-9]+", re.DOTALL)
_SEEDS_TRIED = 16
_FIELDS = (5, 6)


class TemplateOptions(AddOptions, total=False):
    """The options of a scheduler's jobs.

    ``on_failure`` is stored with them, as Node does; their failures reach no parent, as they have
    none.
    """

    on_failure: OnFailure | None
    """What a failure means to the job's parent."""


class Template:
    """What each job of a scheduler is made from."""

    def __init__(
        self,
        name: str,
        data: Any,
        options: TemplateOptions | AddOptions | None,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """When a scheduler runs: by a ``cron`` pattern, or ``every`` so many seconds (or a timedelta).

    A pattern has 5 fields, or 6 with seconds first, in Node's dialect; ``tz`` is its time zone,
    else that of whichever worker comes first. It runs first at its next time, or at once when
    ``immediately``. ``every`` runs first at once, and ``offset`` after each full interval since
    1970 when that is given. ``limit`` is how many jobs are made at most, ``count`` how many of them
    count as made before, ``start_date`` and ``end_date`` (with a time zone) when. With a
    ``strategy`` the pattern is in a language of its own: the function is given the pattern and a
    time in ms, and returns the next time after it, None for no more; workers need it too
    (``Worker(repeat_strategy=)``).

    Raises: UsageError naming the argument and what is allowed.
    """

    cron: str | None = None
    every: Duration | None = None
    offset: Duration | None = None
    tz: str | None = None
    limit: int | None = None
    count: int = 0
    start_date: datetime | None = None
    end_date: datetime | None = None
    immediately: bool = False
    strategy: RepeatStrategy | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if (self.cron is None) == (self.every is None):
            message = "a Repeat needs either cron or every, and not both"
            raise UsageError(message)
        _check_pace(self)
        _check_span(self)

    @property
    def every_ms(self) -> int | None:
        """The interval in milliseconds."""
        return _ms(self.every)

    @property
    def offset_ms(self) -> int | None:
        """The offset in milliseconds, None for none."""
        return _ms(self.offset) or None

    @property
    def start_ms(self) -> int | None:
        """The start date in milliseconds since the epoch."""
        return _epoch_ms(self.start_date)

    @property
    def end_ms(self) -> int | None:
        """The end date in milliseconds since the epoch."""
        return _epoch_ms(self.end_date)

    def next_ms(self, after_ms: int, *, seed: str = "") -> int | None:
        """Return the pattern's first time after ``after_ms``, None when none is left.

        ``seed`` decides what H stands for. Raises: UsageError when it leads to a pattern that
        cannot be.
        """
        if self.cron is None:
            message = "only a cron pattern says by itself when it comes next"
            raise UsageError(message)
        after_ms = max(after_ms, self.start_ms or 0)
        if self.strategy is not None:
            found = cron.next_by(self.strategy, self.cron, after_ms)
        else:
            found = cron.parse(self.cron, seed=seed).next_ms(after_ms, zone_named(self.tz or ""))
        is_over = found is not None and self.end_ms is not None and found > self.end_ms
        return None if is_over else found


def _check_pace(repeat: Repeat) -> None:
    if repeat.cron is not None:
        _refuse_with("cron", "offset", repeat.offset)
        checked_text("cron", repeat.cron)
        if repeat.strategy is None:
            _check_pattern(repeat.cron)
        if repeat.tz is not None:
            zone_named(checked_text("tz", repeat.tz))
        return
    positive_seconds("every", repeat.every)
    _refuse_with("every", "strategy", repeat.strategy)
    _refuse_with("every", "tz", repeat.tz)
    if repeat.offset is not None:
        seconds_from("offset", repeat.offset)
        if (repeat.offset_ms or 0) >= (repeat.every_ms or 0):
            message = f"offset must be less than every, not {repeat.offset!r}"
            raise UsageError(message)


def _check_pattern(pattern: str) -> None:
    """Refuse a pattern that is invalid with every seed; with some, H repeats another value.

    Fewer fields than 5 are a slip, though Node fills them up with ``*``.
    """
    if pattern not in cron.MACROS and len(pattern.split()) not in _FIELDS:
        message = (
            "cron must have 5 fields (minute hour day month weekday), or 6 with seconds first, "
            f"not {len(pattern.split())}: {pattern!r}"
        )
        raise UsageError(message)
    for seed in range(_SEEDS_TRIED - 1):
        with contextlib.suppress(UsageError):
            cron.parse(pattern, seed=str(seed))
            return
    cron.parse(pattern)


def _check_span(repeat: Repeat) -> None:
    checked_whole("count", repeat.count)
    if repeat.limit is not None:
        checked_whole("limit", repeat.limit, least=1)
    if repeat.limit is not None and repeat.count >= repeat.limit:
        message = f"count must be less than limit, not {repeat.count}: no job would be made"
        raise UsageError(message)
    for name in ("start_date", "end_date"):
        _check_date(name, getattr(repeat, name))
    if checked_flag("immediately", repeat.immediately):
        _refuse_with("immediately", "start_date", repeat.start_date)
        _refuse_with("immediately", "offset", repeat.offset)
    start, end = repeat.start_date, repeat.end_date
    if start is not None and end is not None and end <= start:
        message = f"end_date must be after start_date {start}, not {end}"
        raise UsageError(message)


def _refuse_with(name: str, other: str, value: object) -> None:
    if value is not None:
        message = f"{name} and {other} cannot be used together"
        raise UsageError(message)


def _check_date(name: str, value: object) -> None:
    if value is not None and not (isinstance(value, datetime) and value.tzinfo is not None):
        message = f"{name} must be a datetime with a time zone, not {value!r}"
        raise UsageError(message)


def _ms(duration: Duration | None) -> int | None:
    if duration is None:
        return None
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return round(seconds * 1000)


def _epoch_ms(date: datetime | None) -> int | None:
    return None if date is None else round(date.timestamp() * 1000)
