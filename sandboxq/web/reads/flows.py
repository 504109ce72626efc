"""The flow that a job belongs to: its parents, and the jobs below it, some of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from sandboxq.broker.commands.peek import kin_of
from sandboxq.broker.keys import keys_from_job_key
from sandboxq.errors import JobNotFound, UsageError
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.job import Children  # noqa: TC001 - its hints are read
from sandboxq.web.reads.rows import WANTED, number, text

if TYPE_CHECKING:
    from sandboxq.broker.commands.peek import Kin

MOST_NODES = 500
MOST_DEPTH = 10
_MOST_PARENTS = 20
_FIELDS = {**WANTED, "data": 0}


class FlowNode(TypedDict):
    """One job. ``parent``: the key of its parent in the drawing.

    ``children`` counts all of them, ``shown`` those that were looked at. ``outcome``: completed,
    failed or pending.
    """

    key: str
    queue: str
    id: str
    name: str
    outcome: str
    parent: str | None
    depth: int
    children: Children
    shown: int
    failed_reason: str | None
    processed_on_ms: int | None
    finished_on_ms: int | None


class FlowAnswer(TypedDict):
    """The jobs of a flow, parents before their children. ``is_complete``: all are there."""

    root: str
    focus: str
    is_complete: bool
    nodes: list[FlowNode]


@read("/queues/{queue}/jobs/{job_id}/flow")
async def read_flow(
    dashboard: Dashboard, queue: str, job_id: str, *, depth: int = 4, children: int = 20
) -> FlowAnswer:
    """Draw the flow of a job from its topmost parent down, so many children of each kind."""
    if not (1 <= depth <= MOST_DEPTH and 1 <= children <= MOST_NODES):
        message = f"depth must be 1 to {MOST_DEPTH}, and children 1 to {MOST_NODES}"
        raise UsageError(message)
    focus = dashboard.keys(queue)[job_id]
    root = await _root(dashboard, focus)
    nodes: dict[str, FlowNode] = {}
    level: dict[str, str | None] = {root: None}
    is_complete = True
    for at in range(depth):
        level = dict(list(level.items())[: MOST_NODES - len(nodes)])
        kin = await _kin(dashboard, list(level), children if at < depth - 1 else 0)
        below: dict[str, str | None] = {}
        for (key, parent), one in zip(level.items(), kin, strict=True):
            node = _node(dashboard, key, parent, one, at)
            if node is not None:
                nodes[key] = node
                below |= {child: key for child in one.children if child not in nodes}
                node["shown"] = len(one.children)
                is_complete &= len(one.children) >= sum(one.counts.values())
        level = below
        is_complete &= len(level) <= MOST_NODES - len(nodes)
    if root not in nodes:
        message = f"job {job_id!r} does not exist in queue {queue!r}"
        raise JobNotFound(message)
    return {"root": root, "focus": focus, "is_complete": is_complete, "nodes": list(nodes.values())}


async def _kin(dashboard: Dashboard, keys: list[str], most_children: int) -> list[Kin]:
    broker = await dashboard.broker()
    return await kin_of(broker, keys, _FIELDS, most_children=most_children)


async def _root(dashboard: Dashboard, key: str) -> str:
    """Return the topmost parent that still exists."""
    seen = [key]
    for _ in range(_MOST_PARENTS):
        (one,) = await _kin(dashboard, [seen[-1]], 0)
        parent = text(one.row, "parentKey") if one.row else None
        if not one.row:
            return seen[-2] if len(seen) > 1 else key
        if parent is None or parent in seen or not _is_shown(dashboard, parent):
            break
        seen.append(parent)
    return seen[-1]


def _is_shown(dashboard: Dashboard, key: str) -> bool:
    """Tell whether the key is that of a job that this page may show."""
    try:
        keys, _ = keys_from_job_key(key, dashboard.prefix)
        return keys.prefix == dashboard.prefix and bool(dashboard.keys(keys.queue))
    except UsageError:
        return False


def _node(
    dashboard: Dashboard, key: str, parent: str | None, kin: Kin, depth: int
) -> FlowNode | None:
    if not kin.row or not _is_shown(dashboard, key):
        return None
    keys, job_id = keys_from_job_key(key, dashboard.prefix)
    reason = text(kin.row, "failedReason")
    finished = number(kin.row, "finishedOn")
    return {
        "key": key,
        "queue": keys.queue,
        "id": job_id,
        "name": text(kin.row, "name") or "",
        "outcome": "pending" if finished is None else "failed" if reason else "completed",
        "parent": parent,
        "depth": depth,
        "children": {
            "processed": kin.counts["processed"],
            "unprocessed": kin.counts["unprocessed"],
            "ignored": kin.counts["ignored"],
            "failed": kin.counts["failed"],
        },
        "shown": 0,
        "failed_reason": None if reason is None else dashboard.redaction.text(reason),
        "processed_on_ms": number(kin.row, "processedOn"),
        "finished_on_ms": finished,
    }
