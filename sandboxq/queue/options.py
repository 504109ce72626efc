"""What a caller of ``add`` may ask for, and what is refused before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from sandboxq.broker.commands.add import ON_FAILURE, PLAIN, relation_members
from sandboxq.broker.keys import checked_queue_name
from sandboxq.config import checked_keep
from sandboxq.errors import UsageError
from sandboxq.model.backoff import Backoff, checked_jitter
from sandboxq.model.job import (
    KEEP_ALL,
    KEEP_NONE,
    Deduplication,
    JobOptions,
    Keep,
    Parent,
)
from sandboxq.model.validation import (
    LONGEST_WAIT,
    Duration,
    checked_flag,
    checked_priority,
    checked_text,
    checked_whole,
    positive_seconds,
    seconds_from,
    shown,
)
from sandboxq.observe.tracing import metadata_from_carrier

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.keys import QueueKeys

# A job's hash is `<prefix>:<queue>:<id>`, what belongs to it `<prefix>:<queue>:<id>:failed` and so
# on: with these ids they would be the queue's own keys.
RESERVED_IDS = frozenset(
    {
        *("id", "meta", "wait", "paused", "active", "prioritized", "pc", "delayed", "completed"),
        *("failed", "waiting-children", "marker", "events", "stalled", "stalled-check"),
        *("limiter", "repeat", "delay", "priority", "metrics", "de", "dn"),
    }
)

# Node allows both, for the sake of jobs that it once called so.
_PARTS_OF_IDS = (1, 3)
# Keys of the queue itself begin so; with 0, markers of an old BullMQ, which workers drop.
_RESERVED_FIRST = frozenset({"metrics", "repeat", "de", "dn", "0"})

# What BullMQ takes for one of its automatic ids.
_INTEGER = re.compile("-?(0|[1-9][0-9]*)")


class AddOptions(TypedDict, total=False):
    """The keyword arguments of ``add``; None means not given. Durations are seconds.

    ``timeout`` is how long one attempt may run: then its code is told, and soon after it is killed.
    """

    delay: Duration | None
    """Run no earlier than this long from now. Default: at once."""
    priority: int | None
    """1 to 2097151, the lowest first. Default: none, which goes before all others."""
    attempts: int | None
    """How often the job is tried. Default: once."""
    backoff: Backoff | Duration | None
    """How long to wait before the next attempt; a duration is fixed. Default: no wait."""
    lifo: bool | None
    """Go in front of the jobs that wait. Default: behind them."""
    job_id: str | None
    """An id of your own: a job that exists is not added again. Default: the next number."""
    timeout: Duration | None
    """How long one attempt may run. Default: the worker's ``timeout``."""
    remove_on_complete: bool | int | Keep | None
    """Remove the completed job, or how many of the newest stay. Default: the worker's."""
    remove_on_fail: bool | int | Keep | None
    """The same for a failed job."""
    keep_logs: int | None
    """How many of the newest log rows stay. Default: all."""
    stack_trace_limit: int | None
    """How many of the newest stack traces stay. Default: all."""
    size_limit: int | None
    """Refuse data of more bytes. Default: no limit."""
    timestamp_ms: int | None
    """When the job was made, in ms since 1970. Default: now."""
    trace_context: Mapping[str, str] | str | None
    """The OpenTelemetry context to continue. Default: the current one, with ``tracing``."""
    omit_trace_context: bool | None
    """Store no trace context with the job."""
    deduplication: Deduplication | None
    """Add nothing while a job with the same deduplication id exists."""
    parent: Parent | None
    options: Mapping[str, Any] | None  # all of these in one dict; opts, Node's word, is the same
    opts: Mapping[str, Any] | None
    """The job that waits for this one."""


# What ``add_bulk`` takes for one job.
BulkEntry = tuple[str, Any] | tuple[str, Any, AddOptions]
_ENTRY_SIZES = (2, 3)


def checked_options(options: Mapping[str, Any], *, prefix: str) -> JobOptions:
    """Return the options of one job. Raises: UsageError naming the argument and what is allowed."""
    _refuse_unless_mapping(options)
    if not options:
        return PLAIN
    known: dict[str, Any] = {}
    for name, value in options.items():
        if name in _CHECKS:
            if value is not None:
                known[name] = _CHECKS[name](name, value)
        elif name in _NESTED:
            if value is not None:
                _refuse_unless_mapping(value)
                if not _NESTED_NAMES.isdisjoint(value):
                    message = f"{name} has options of a job, and not another {name}"
                    raise UsageError(message)
                others = {each: options[each] for each in options if each != name}
                return checked_options({**others, **value}, prefix=prefix)
        elif name not in _RELATIONS:
            allowed = ", ".join([*_CHECKS, *_RELATIONS])
            message = f"add has no option {name!r}; it has {allowed}"
            raise UsageError(message)
    deduplication, parent = options.get("deduplication"), options.get("parent")
    if deduplication is None and parent is None:
        return JobOptions(**known)
    _check_relations(deduplication, parent)
    return JobOptions(**known, extra=relation_members(deduplication, parent, prefix=prefix))


def _refuse_unless_mapping(options: object) -> None:
    if not isinstance(options, Mapping):
        message = f"the options of a job must be a dict, not {options!r}"
        raise UsageError(message)


def checked_name(name: object) -> str:
    """Return the job name. Raises: UsageError unless it is text of at least one character."""
    return checked_text("name", name)


def checked_size(text: str, name: str, limit: int | None) -> None:
    """Refuse data longer than ``size_limit`` bytes of UTF-8, with Node's words."""
    if limit is not None and (len(text) > limit or len(text.encode()) > limit):
        message = f"The size of job {name} exceeds the limit {limit} bytes"
        raise UsageError(message)


def _size_limit(name: str, value: object) -> int | None:
    return checked_whole(name, value) or None  # 0 is no limit, as for Node


def _backoff(name: str, value: object) -> Backoff:
    if not isinstance(value, Backoff):
        return Backoff.fixed(seconds_from(name, value))
    if not value.kind or not isinstance(value.kind, str):
        message = f"{name} must have a kind, not {value.kind!r}"
        raise UsageError(message)
    seconds_from(f"{name} delay", value.delay)
    checked_jitter(value.jitter)
    return value


def _timeout(name: str, value: object) -> float:
    return positive_seconds(name, value, most=LONGEST_WAIT)


def _keep(name: str, value: object) -> Keep:
    if isinstance(value, bool):
        return KEEP_NONE if value else KEEP_ALL
    if not isinstance(value, Keep):
        return Keep(count=checked_whole(name, value))
    return checked_keep(name, value)


def _trace_context(name: str, value: object) -> str:
    """Return BullMQ's text for a carrier such as ``{"traceparent": …}``, or the text given."""
    if not isinstance(value, Mapping):
        return checked_text(name, value)
    carrier = {checked_text(f"{name} key", key): text for key, text in value.items()}
    for key, text in carrier.items():
        checked_text(f"{name} {key}", text)
    if not carrier:
        message = f"{name} must not be empty"
        raise UsageError(message)
    return metadata_from_carrier(carrier)


def _job_id(name: str, value: object) -> str:
    job_id = checked_text(name, value)
    if _INTEGER.fullmatch(job_id):
        message = f"{name} must not be an integer, as those are given by the queue: {value!r}"
        raise UsageError(message)
    parts = job_id.split(":")
    if len(parts) not in _PARTS_OF_IDS or (len(parts) > 1 and parts[0] in _RESERVED_FIRST):
        message = (
            f"{name} must not contain ':', which separates the parts of Redis keys, unless it has "
            f"three parts as in 'a:b:c', the first none of {', '.join(sorted(_RESERVED_FIRST))}: "
            f"{value!r}"
        )
        raise UsageError(message)
    if job_id in RESERVED_IDS:
        message = f"{name} must not be {value!r}, a key of the queue itself"
        raise UsageError(message)
    return job_id


_CHECKS: dict[str, Callable[[str, object], Any]] = {
    "delay": seconds_from,
    "priority": checked_priority,
    "attempts": checked_whole,
    "backoff": _backoff,
    "lifo": checked_flag,
    "job_id": _job_id,
    "timeout": _timeout,
    "remove_on_complete": _keep,
    "remove_on_fail": _keep,
    "keep_logs": checked_whole,
    "stack_trace_limit": checked_whole,
    "size_limit": _size_limit,
    "timestamp_ms": checked_whole,
    "trace_context": _trace_context,
    "omit_trace_context": checked_flag,
}

# ── relations to other jobs ─────────────────────────────────────────────────

_RELATIONS = ("deduplication", "parent")
_NESTED = ("options", "opts")
_NESTED_NAMES = frozenset(_NESTED)


def _check_relations(deduplication: object, parent: object) -> None:
    if deduplication is not None and parent is not None:
        message = "deduplication and parent cannot be used together"
        raise UsageError(message)
    if parent is not None:
        _check_parent(parent)
    if deduplication is not None:
        _check_deduplication(deduplication)


def refuse_own_parent(options: JobOptions, keys: QueueKeys) -> None:
    """Refuse a job that would wait for itself, and so for ever."""
    if options.job_id is not None and "parent" in options.extra:
        parent = options.extra["parent"]
        if f"{parent['queue']}:{parent['id']}" == keys[options.job_id]:
            message = f"parent must be another job: {options.job_id!r} would wait for itself"
            raise UsageError(message)


def _check_parent(parent: object) -> None:
    if not isinstance(parent, Parent):
        message = f"parent must be a Parent, not {parent!r}"
        raise UsageError(message)
    checked_text("parent id", parent.id)
    checked_queue_name(parent.queue)
    checked_on_failure("parent on_failure", parent.on_failure)


def checked_on_failure(name: str, value: object) -> str:
    """Return what a child's failure is to do to its parent. Raises: UsageError."""
    if str(value) not in ON_FAILURE:
        message = f"{name} must be one of {', '.join(ON_FAILURE)}, not {shown(value)}"
        raise UsageError(message)
    return str(value)


def _check_deduplication(deduplication: object) -> None:
    if not isinstance(deduplication, Deduplication):
        message = f"deduplication must be a Deduplication, not {deduplication!r}"
        raise UsageError(message)
    checked_text("deduplication id", deduplication.id)
    for name in ("extend", "replace", "keep_last_if_active", "reschedule"):
        checked_flag(f"deduplication {name}", getattr(deduplication, name))
    if deduplication.reschedule and deduplication.replace:
        message = "deduplication replace and reschedule cannot be used together"
        raise UsageError(message)
    if deduplication.ttl is not None:
        positive_seconds("deduplication ttl", deduplication.ttl)
    elif deduplication.extend:
        message = "deduplication extend needs a ttl to extend"
        raise UsageError(message)


def checked_entry(place: int, entry: object) -> BulkEntry:
    """Refuse what would be taken apart into something else: a dict into its keys, say."""
    if not isinstance(entry, (tuple, list)) or len(entry) not in _ENTRY_SIZES:
        message = f"entry {place} must be (name, data) or (name, data, options), not {entry!r}"
        raise UsageError(message)
    return tuple(entry)
