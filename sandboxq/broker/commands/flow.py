"""Adds trees of jobs across queues, all of them or none (protocol.md 3.23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands.add import refuse_far_parents, refuse_too_large
from sandboxq.broker.connect.script import load
from sandboxq.errors import (
    AddInterrupted,
    BrokerUnavailable,
    LockMissing,
    ParentCannotBeReplaced,
    ParentNotFound,
    QueueError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.commands.add import NewJob
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.keys import QueueKeys


_LOCK_LOST = "nothing was added: this attempt has lost the lock of its job"


class NewNode(NamedTuple):
    """One job of a tree: where it goes, under which id, and whether others of the tree wait."""

    keys: QueueKeys
    id: str
    has_children: bool
    job: NewJob


class Fence(NamedTuple):
    """The lock under which a running job adds others: its key, and the token that it must have."""

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
            message = f"nothing was added: {job} would wait for itself, by the parents above it"
            return QueueError(message)
        case _:
            return QueueError(f"nothing was added: {job}: script code {code}")
