"""From the tree that a caller wrote to the jobs that are added, checked and in order. No I/O."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Required, TypedDict

from sandboxq.broker.commands.add import NewJob, NewNode, new_job
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import UsageError
from sandboxq.model.job import OnFailure, Parent
from sandboxq.model.validation import MAX_NESTING, checked_many, checked_text
from sandboxq.queue.binary import checked_parts, text_and_parts
from sandboxq.queue.options import (
    AddOptions,
    checked_name,
    checked_options,
    checked_size,
    refuse_own_parent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxq.model.job import JobOptions
    from sandboxq.payload.binary import Part

# Redis answers nobody else while it adds a flow, which takes it 20 microseconds a job: so many
# are a fifth of a second.
MOST_JOBS = 10_000


class FlowNode(TypedDict, total=False):
    """One job of a flow, and those that it waits for.

    ``on_failure`` says what its failure does to its parent, in the words of ``Parent``; ``data``
    is ``{}`` and ``prefix`` that of the producer where they are left out.
    """

    name: Required[str]
    queue: Required[str]
    data: Any
    options: AddOptions
    opts: AddOptions  # the same, by Node's word
    on_failure: OnFailure
    children: Sequence[FlowNode]
    prefix: str


_MEMBERS = frozenset(FlowNode.__annotations__)


class PlannedJob(NamedTuple):
    """A job of a flow before it is added; ``parent`` is the place of its parent in the plan."""

    keys: QueueKeys
    id: str
    job: NewJob
    data: Any
    options: JobOptions
    parent: int | None
    has_children: bool
    parts: list[Part]

    def node(self) -> NewNode:
        """Return the job as the script takes it."""
        return NewNode(self.keys, self.id, self.has_children, self.job)


class _Waiting(NamedTuple):
    """A node that is not checked yet: its place in the caller's tree, and its parent's index."""

    node: FlowNode
    where: str
    parent: int | None
    level: int = 1


def plan_of(
    roots: Iterable[FlowNode],
    *,
    prefix: str,
    queue_defaults: Mapping[str, AddOptions] | None,
    what: str = "flow",
) -> list[PlannedJob]:
    """Return the jobs of these trees, level by level: all parents come before their children.

    Raises: UsageError that says which node is wrong; ``what`` is what it calls a root.
    """
    defaults = _checked_defaults(queue_defaults)
    plan: list[PlannedJob] = []
    places: dict[str, str] = {}
    waiting = deque(
        _Waiting(root, f"{what} {i}", None) for i, root in enumerate(checked_many("flows", roots))
    )
    while waiting:
        each = waiting.popleft()
        try:
            job = _planned(each, plan, prefix, defaults)
            _note_place(job, each.where, places)
        except UsageError as error:
            message = f"{each.where}: {error}"
            raise UsageError(message) from error
        plan.append(job)
        parent = len(plan) - 1
        if each.level > MAX_NESTING:
            message = f"a flow may have {MAX_NESTING} levels of jobs below each other, not more"
            raise UsageError(message)
        waiting.extend(
            _Waiting(child, f"{each.where}.children[{i}]", parent, each.level + 1)
            for i, child in enumerate(each.node.get("children") or ())
        )
        _check_number(len(plan) + len(waiting))
    return plan


def _planned(
    each: _Waiting, plan: list[PlannedJob], prefix: str, defaults: Mapping[str, AddOptions]
) -> PlannedJob:
    node = each.node
    _check_members(node)
    name = checked_name(node.get("name"))
    own_prefix = checked_text("prefix", node.get("prefix", prefix))
    keys = QueueKeys(checked_text("queue", node.get("queue")), own_prefix)
    has_children = bool(node.get("children"))
    given: dict[str, Any] = {
        **defaults.get(keys.queue, {}),
        **(node.get("opts") or {}),
        **(node.get("options") or {}),
    }
    _check_deduplication(given, has_children=has_children)
    if each.parent is None:
        _refuse_policy(node)
        options = checked_options(given, prefix=keys.prefix)
        refuse_own_parent(options, keys)
    else:
        options = _options_of_child(node, given, plan[each.parent])
    data: Any = node.get("data", {})
    text, parts = text_and_parts(data, "data")
    checked_size(text, name, options.size_limit)
    job_id = options.job_id or str(uuid.uuid4())
    new = new_job(name, text, options)
    parts = checked_parts(parts, options)
    return PlannedJob(keys, job_id, new, data, options, each.parent, has_children, parts)


def _options_of_child(node: FlowNode, given: Mapping[str, Any], parent: PlannedJob) -> JobOptions:
    if given.get("parent") is not None:
        message = "the parent of a child is the job that it stands under: leave out parent"
        raise UsageError(message)
    tie = Parent(parent.id, parent.keys.queue, node.get("on_failure", "wait"))
    return checked_options({**given, "parent": tie}, prefix=parent.keys.prefix)


def _refuse_policy(root: FlowNode) -> None:
    if "on_failure" in root:
        message = "on_failure is for children; a root takes parent=Parent(…, on_failure=…)"
        raise UsageError(message)


def _check_members(node: object) -> None:
    if not isinstance(node, Mapping):
        message = f"a job of a flow must be a dict, not {node!r}"
        raise UsageError(message)
    for member in node:
        if member not in _MEMBERS:
            allowed = ", ".join(sorted(_MEMBERS))
            message = f"a job of a flow has no {member!r}; it has {allowed}"
            raise UsageError(message)
    for member, kind in (("children", Sequence), ("opts", Mapping), ("options", Mapping)):
        value = node.get(member)
        if value is not None and (isinstance(value, str) or not isinstance(value, kind)):
            message = f"{member} must be a {kind.__name__.lower()}, not {value!r}"
            raise UsageError(message)


def _check_deduplication(options: Mapping[str, Any], *, has_children: bool) -> None:
    if has_children and options.get("deduplication") is not None:
        message = "deduplication cannot be used on a job with children"
        raise UsageError(message)


def _note_place(job: PlannedJob, where: str, places: dict[str, str]) -> None:
    key = job.keys[job.id]
    if key in places:
        message = f"job_id {job.id!r} is also that of {places[key]}"
        raise UsageError(message)
    places[key] = where


def _check_number(count: int) -> None:
    if count > MOST_JOBS:
        message = (
            f"a flow may have {MOST_JOBS} jobs, as Redis answers nobody else while it adds them; "
            "add the others with Queue.add_bulk and parent=Parent(…)"
        )
        raise UsageError(message)


def _checked_defaults(defaults: object) -> Mapping[str, AddOptions]:
    if defaults is None:
        return {}
    if not isinstance(defaults, Mapping) or not all(
        isinstance(options, Mapping) for options in defaults.values()
    ):
        message = f"queue_defaults must have options by queue name, not {defaults!r}"
        raise UsageError(message)
    return defaults
