"""Adds jobs, any number at once (bullmq-wire.md 3.2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.batches import run_batches
from sandboxq.broker.codec import json_text, ms_from_seconds, options_to_wire
from sandboxq.broker.relations import parent_link
from sandboxq.broker.script import load
from sandboxq.errors import ParentCannotBeReplaced, ParentNotFound, QueueError
from sandboxq.job import JobOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

# So many jobs are packed and answered in one round trip: 20 script calls, about 20 milliseconds.
JOBS_PER_TRIP = 2000

# The options of a job that asks for nothing: most jobs share them, and their text.
PLAIN = JobOptions()
_PLAIN_TEXT = options_to_wire(PLAIN)
_PARENT_MEMBER = "parent_key"


class NewJob(NamedTuple):
    """One job as the script takes it: ``data`` and ``opts`` are JSON, ``rest`` too unless empty."""

    name: str
    data: str
    opts: str
    rest: str


def new_job(name: str, data: str, options: JobOptions = PLAIN) -> NewJob:
    """Return the job for these checked options."""
    if options is PLAIN:
        return NewJob(name, data, _PLAIN_TEXT, "")
    rest = _rest(options)
    return NewJob(name, data, options_to_wire(options), json_text(rest, "options") if rest else "")


def with_binary(new: NewJob, reference: str) -> NewJob:
    """Return the job with what names its arrays and bytes (broker/binary.py)."""
    rest = json.loads(new.rest) if new.rest else {}
    return new._replace(rest=json_text({**rest, "binary": reference}, "options"))


def _rest(options: JobOptions) -> dict[str, Any]:
    """Return what the script itself must know of the options."""
    rest: dict[str, Any] = {
        "id": options.job_id,
        "timestamp": options.timestamp_ms,
        "delay": ms_from_seconds(options.delay) or None,
        "priority": options.priority or None,
        "is_lifo": options.lifo or None,
        "de": options.extra.get("de"),
    }
    parent = options.extra.get("parent")
    if parent is not None:
        rest[_PARENT_MEMBER] = f"{parent['queue']}:{parent['id']}"
        rest["parent"] = json_text(parent_link(options.extra), "parent")
    return {name: value for name, value in rest.items() if value is not None}


async def add(
    broker: Broker, keys: QueueKeys, jobs: Sequence[NewJob], *, now_ms: int
) -> list[str | QueueError]:
    """Add the jobs in order and return, for each, its id or why it was not added.

    Raises: BrokerUnavailable when Redis goes away; some of the jobs may have been added then.
    UsageError when a parent is in another slot of a cluster; nothing was added then.
    """
    refuse_far_parents(broker, ((keys, job) for job in jobs))
    results: list[bytes | int] = []
    for first in range(0, len(jobs), JOBS_PER_TRIP):
        trip = jobs[first : first + JOBS_PER_TRIP]
        for reply in await run_batches(broker, load("add"), keys, (now_ms,), trip):
            results += reply
    return [_id_or_error(result, job) for result, job in zip(results, jobs, strict=True)]


def refuse_far_parents(broker: Broker, jobs: Iterable[tuple[QueueKeys, NewJob]]) -> None:
    """Raise UsageError when a job's parent is in another slot of a cluster: no script sees both."""
    for keys, job in jobs:
        if _PARENT_MEMBER in job.rest:
            broker.refuse_far(keys.base, json.loads(job.rest).get(_PARENT_MEMBER, keys.base))


def _id_or_error(result: bytes | int, job: NewJob) -> str | QueueError:
    match result:
        case bytes():
            return result.decode()
        case -5:
            message = f"job {job.name!r} was not added: its parent does not exist: {job.rest}"
            return ParentNotFound(message)
        case -7:
            message = f"job {job.name!r} was not added: its id has another parent: {job.rest}"
            return ParentCannotBeReplaced(message)
        case _:
            return QueueError(f"job {job.name!r} was not added: script code {result}")
