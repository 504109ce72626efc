"""Adds trees of jobs across queues, all of them or none (bullmq-wire.md 3.23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.add import refuse_far_parents
from sandboxq.broker.script import load
from sandboxq.errors import ParentCannotBeReplaced, ParentNotFound, QueueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.add import NewJob
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.broker.wire import Argument


class NewNode(NamedTuple):
    """One job of a tree: where it goes, under which id, and whether others of the tree wait."""

    keys: QueueKeys
    id: str
    has_children: bool
    job: NewJob


async def add_flow(broker: Broker, nodes: Sequence[NewNode], *, now_ms: int) -> list[str]:
    """Add the jobs, parents before their children, in one script call; return their ids.

    Raises: ParentNotFound, ParentCannotBeReplaced, UsageError when the queues are in different
    slots of a cluster; nothing was added then.
    """
    refuse_far_parents(broker, ((node.keys, node.job) for node in nodes))
    places: dict[str, int] = {}
    arguments: list[Argument] = [now_ms]
    for node in nodes:
        place = places.setdefault(node.keys.base, len(places) + 1)
        arguments += (place, node.id, int(node.has_children), *node.job)
    reply = await broker.script(load("flow"), list(places), arguments)
    if reply and isinstance(reply[0], int):
        code, number = reply
        raise _refusal(code, nodes[number - 1])
    return [job_id.decode() for job_id in reply]


def _refusal(code: int, node: NewNode) -> QueueError:
    job = f"job {node.job.name!r} with id {node.id} in queue {node.keys.queue}"
    match code:
        case -5:
            message = f"nothing was added: the parent of {job} does not exist"
            return ParentNotFound(message)
        case -7:
            message = f"nothing was added: {job} exists and belongs to another parent"
            return ParentCannotBeReplaced(message)
        case _:
            return QueueError(f"nothing was added: {job}: script code {code}")
