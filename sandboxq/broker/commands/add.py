"""Adds jobs, any number at once, with what ties them to others (protocol.md 3.2).

A job is tied to others by its parent, and by what makes it a duplicate. Trees of jobs are added
across queues, all of them or none (3.23).
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.codec import json_text, ms_from_seconds, options_to_wire
from sandboxq.broker.commands.batches import run_rows
from sandboxq.broker.connect.connection_pool import LEAST_LIMIT
from sandboxq.broker.connect.script import load
from sandboxq.errors import (
    AddInterrupted,
    BrokerUnavailable,
    LockMissing,
    ParentCannotBeReplaced,
    ParentNotFound,
    QueueError,
    TooLarge,
    UsageError,
)
from sandboxq.model.job import Deduplication, JobOptions, Parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.keys import QueueKeys

# Jobs in one round trip: 20 script calls, about 20 milliseconds.
JOBS_PER_TRIP = 2000
# And so many bytes: of what is on its way when a link breaks nobody knows what became of it.
BYTES_PER_TRIP = 4 << 20
# As many characters may have so many bytes that a server may be set to refuse them.
_PERHAPS_TOO_LARGE = LEAST_LIMIT // 4

# The options of a job that asks for nothing: most jobs share them, and their text.
PLAIN = JobOptions()
_PLAIN_TEXT = options_to_wire(PLAIN)
_PARENT_MEMBER = "parent_key"

# What a child's failure does to its parent, by the flag on the wire.
ON_FAILURE: dict[str, str | None] = {
    "wait": None,
    "fail": "fpof",
    "continue": "cpof",
    "ignore": "idof",
    "remove": "rdof",
}

_LOCK_LOST = "nothing was added: this attempt has lost the lock of its job"


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
    """Return the job with what names its arrays and bytes (broker/commands/binary.py)."""
    rest = json.loads(new.rest) if new.rest else {}
    return new._replace(rest=json_text({**rest, "binary": reference}, "options"))


def _rest(options: JobOptions) -> dict[str, Any]:
    """Return the options that the script itself reads."""
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

    Raises: AddInterrupted when Redis goes away, with the ids and errors up to there.
    UsageError when a parent is in another slot of a cluster, TooLarge; nothing was added then.
    """
    refuse_far_parents(broker, ((keys, job) for job in jobs))
    await refuse_too_large(broker, jobs)
    results: list[str | QueueError] = []
    for trip in _trips(jobs):
        try:
            answers = await run_rows(broker, load("add"), keys, (now_ms,), trip)
        except BrokerUnavailable as error:
            raise AddInterrupted(results, unknown=len(trip), total=len(jobs), why=error) from error
        results += [_id_or_error(each, job) for each, job in zip(answers, trip, strict=True)]
    return results


async def refuse_too_large(broker: Broker, jobs: Iterable[NewJob]) -> None:
    """Raise TooLarge when Redis would refuse a part of these jobs for its size."""
    for job in jobs:
        if max(map(len, job)) <= _PERHAPS_TOO_LARGE:
            continue
        for what, text in zip(NewJob._fields, job, strict=True):
            if len(text) > _PERHAPS_TOO_LARGE:
                await _refuse_above_limit(broker, job, what, text)


async def _refuse_above_limit(broker: Broker, job: NewJob, what: str, text: str) -> None:
    size, limit = len(text.encode()), await broker.most_bytes()
    if size > limit:
        message = (
            f"job {job.name!r:.100} has {size} bytes of {what}: this Redis takes {limit} in one "
            "value (proto-max-bulk-len)"
        )
        raise TooLarge(message)


def _trips(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """Split the jobs into round trips: each has at least one job, and is not too large."""
    if len(jobs) == 1:  # mostly
        yield jobs
        return
    first = size = 0
    for place, job in enumerate(jobs):
        weight = len(job.data) + len(job.opts) + len(job.rest)
        is_full = place - first == JOBS_PER_TRIP or size + weight > BYTES_PER_TRIP
        if is_full and place > first:
            yield jobs[first:place]
            first, size = place, 0
        size += weight
    if first < len(jobs):
        yield jobs[first:]


def refuse_far_parents(broker: Broker, jobs: Iterable[tuple[QueueKeys, NewJob]]) -> None:
    """Raise UsageError when a job's parent is in another slot of a cluster: no script sees both."""
    for keys, job in jobs:
        if _PARENT_MEMBER in job.rest:
            broker.refuse_far(keys.base, json.loads(job.rest).get(_PARENT_MEMBER, keys.base))


def _id_or_error(result: bytes | int | list[Any], job: NewJob) -> str | QueueError:
    match result:
        case bytes():
            return result.decode(errors="replace")
        case -5:
            message = f"job {job.name!r} was not added: its parent does not exist"
            return ParentNotFound(message)
        case -7:
            message = f"job {job.name!r} was not added: its id has another parent: {job.rest}"
            return ParentCannotBeReplaced(message)
        case -13:
            message = (
                f"job {job.name!r} was not added: it would become its own ancestor and wait for "
                f"itself; give it another id or parent: {job.rest}"
            )
            return QueueError(message)
        case [_, bytes() as problem]:
            reason = problem.decode(errors="replace")
            return QueueError(f"job {job.name!r} was not added: Redis refused it: {reason}")
        case _:
            return QueueError(f"job {job.name!r} was not added: script code {result}")


def relation_members(
    deduplication: Deduplication | None, parent: Parent | None, *, prefix: str
) -> dict[str, Any]:
    """Return the members of a job's ``opts`` for its relations (protocol.md 2.2)."""
    members: dict[str, Any] = {}
    if deduplication is not None:
        members["de"] = _deduplication_to_wire(deduplication)
    if parent is not None:
        members["parent"] = {"id": parent.id, "queue": f"{prefix}:{parent.queue}"}
        flag = ON_FAILURE[parent.on_failure]
        if flag is not None:
            members[flag] = True
    return members


def parent_link(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job field ``parent`` that belongs to these members of ``opts`` (2.1)."""
    parent = members["parent"]
    flags = {flag: True for flag in ON_FAILURE.values() if flag is not None and members.get(flag)}
    return {"id": parent["id"], "queueKey": parent["queue"], **flags}


def _deduplication_to_wire(deduplication: Deduplication) -> dict[str, Any]:
    wire: dict[str, Any] = {"id": deduplication.id}
    ttl = deduplication.ttl
    if ttl is not None:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        wire["ttl"] = round(seconds * 1000)
    if deduplication.extend:
        wire["extend"] = True
    if deduplication.replace:
        wire["replace"] = True
    if deduplication.keep_last_if_active:
        wire["keepLastIfActive"] = True
    if deduplication.reschedule:
        wire["reschedule"] = True
    return wire


class NewNode(NamedTuple):
    """One job of a tree: where it goes, under which id, and whether others of the tree wait."""

    keys: QueueKeys
    id: str
    has_children: bool
    job: NewJob


class Fence(NamedTuple):
    """The lock under which a running job adds others: its key, and the token it must hold."""

    lock_key: bytes
    token: bytes


async def add_flow(broker: Broker, nodes: Sequence[NewNode], *, now_ms: int) -> list[str]:
    """Add the jobs, parents before their children, in one script call; return their ids.

    Raises: ParentNotFound, ParentCannotBeReplaced, TooLarge, UsageError when the queues are in
    different slots of a cluster; nothing was added then. AddInterrupted when Redis goes away: all
    or none of it was added.
    """
    call = _call_of(broker, nodes, None, now_ms)
    await refuse_too_large(broker, (node.job for node in nodes))
    try:
        reply = await broker.script(load("flow"), *call)
    except BrokerUnavailable as error:
        ids = [node.id for node in nodes]
        raise AddInterrupted(
            [], unknown=len(ids), total=len(ids), why=error, unknown_ids=ids
        ) from error
    result = _ids_or_refusal(reply, nodes)
    if isinstance(result, QueueError):
        raise result
    return result


async def add_flows(
    broker: Broker, flows: Sequence[tuple[Sequence[NewNode], Fence]], *, now_ms: int
) -> list[list[str] | QueueError | UsageError]:
    """Add flows, each for itself under its fence, in one round trip; return ids or refusals.

    Nodes have ids, so that after a lost reply the same flows may be added again: no job is added
    twice. Raises: BrokerUnavailable.
    """
    results: list[Any] = [None] * len(flows)
    calls, places = [], []
    for place, (nodes, fence) in enumerate(flows):
        try:
            calls.append(_call_of(broker, nodes, fence, now_ms))
            places.append(place)
        except UsageError as error:
            results[place] = error
    replies = await broker.try_scripts(load("flow"), calls)
    for place, reply in zip(places, replies, strict=True):
        results[place] = (
            reply if isinstance(reply, QueueError) else _ids_or_refusal(reply, flows[place][0])
        )
    return results


def _call_of(
    broker: Broker, nodes: Sequence[NewNode], fence: Fence | None, now_ms: int
) -> tuple[list[str | bytes], list[Argument]]:
    """Return keys and arguments. Raises: UsageError for queues in different slots of a cluster."""
    refuse_far_parents(broker, ((node.keys, node.job) for node in nodes))
    places: dict[str, int] = {}
    arguments: list[Argument] = [now_ms, b"" if fence is None else fence.token]
    for node in nodes:
        place = places.setdefault(node.keys.base, len(places) + 1)
        arguments += (place, node.id, int(node.has_children), *node.job)
    if fence is None:
        return list(places), arguments
    for base in places:
        broker.refuse_far(fence.lock_key.decode(errors="replace"), base)
    return [*places, fence.lock_key], arguments


def _ids_or_refusal(reply: Any, nodes: Sequence[NewNode]) -> list[str] | QueueError:
    if not reply or not isinstance(reply[0], int):
        return [job_id.decode(errors="replace") for job_id in reply]
    code, number = reply
    return _refusal(code, nodes[number - 1]) if number else LockMissing(_LOCK_LOST)


def _refusal(code: int, node: NewNode) -> QueueError:
    job = f"job {node.job.name!r} with id {node.id} in queue {node.keys.queue}"
    match code:
        case -5:
            message = f"nothing was added: the parent of {job} does not exist"
            return ParentNotFound(message)
        case -7:
            message = f"nothing was added: {job} exists and belongs to another parent"
            return ParentCannotBeReplaced(message)
        case -13:
            message = f"nothing was added: {job} would become its own ancestor and wait for itself"
            return QueueError(message)
        case _:
            return QueueError(f"nothing was added: {job}: script code {code}")
