"""Adds and reads flows: trees of jobs, each of which waits for those below it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack

from sandboxq.broker.commands.add import add_flow
from sandboxq.broker.commands.children import families_of
from sandboxq.broker.commands.jobs import job_from_hash
from sandboxq.broker.keys import QueueKeys, chosen_prefix, keys_from_job_key
from sandboxq.errors import ParentCannotBeReplaced, ParentNotFound, UsageError
from sandboxq.model.clock import SYSTEM_CLOCK, Clock
from sandboxq.model.validation import checked_text, checked_whole
from sandboxq.queue.base import Connected
from sandboxq.queue.binary import forget, with_stored_parts
from sandboxq.queue.blocking import Blocking, blocking, portal
from sandboxq.queue.flow_plan import FlowNode, plan_of
from sandboxq.queue.job import QueuedJob, SyncJob, add_flows_traced, job_from_add, members_of
from sandboxq.queue.queue import Queue, SyncQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.flow_plan import PlannedJob
    from sandboxq.queue.options import AddOptions

J = TypeVar("J")

# What Node's getFlow shows unless told otherwise.
DEPTH = 10
MAX_CHILDREN = 20


@dataclass(frozen=True, slots=True)
class Flow(Generic[J]):
    """A job and the flows below it."""

    job: J
    children: tuple[Flow[J], ...] = ()


class FlowProducer(Connected):
    """Adds flows to the queues of one Redis. Nothing is sent before the first method is awaited.

    Every method raises BrokerUnavailable when Redis cannot be reached, and UsageError, before
    anything is written, for an argument that cannot be right. On a Redis Cluster all queues of a
    flow must share a slot: give ``prefix`` a hash tag, as in ``{bull}``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str | None = None,
        broker: Broker | None = None,
        clock: Clock = SYSTEM_CLOCK,
        tracing: Tracing | None = None,
    ) -> None:
        """Add to the Redis at ``url`` (see Broker.connect), or to that of an open ``broker``.

        A broker that was given stays open when the producer is closed.
        """
        super().__init__(url, broker=broker, clock=clock, tracing=tracing)
        self._prefix = chosen_prefix(prefix)
        self._queues: dict[QueueKeys, Queue] = {}

    @staticmethod
    def sync(
        url: str | None = None, *, prefix: str | None = None, tracing: Tracing | None = None
    ) -> SyncFlowProducer:
        """Return a producer with the same methods, blocking, for code without an event loop."""
        return SyncFlowProducer(url, prefix=prefix, tracing=tracing)

    async def close(self) -> None:
        """Close all connections that were opened, also by returned jobs; twice is harmless."""
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            await queue.close()
        await super().close()

    def _forget_loop(self) -> None:
        self._queues = {}

    async def add(
        self,
        *,
        name: str,
        queue: str,
        data: Any = None,
        children: Sequence[FlowNode] = (),
        queue_defaults: Mapping[str, AddOptions] | None = None,
        **options: Unpack[AddOptions],
    ) -> Flow[QueuedJob]:
        """Add a job that runs when all ``children`` have ended, and these, in one transaction.

        Without ``data`` it gets ``{}``. Jobs without ``job_id`` get a UUID. ``queue_defaults`` has
        options by queue name, for all jobs of the flow that do not say otherwise. A ``job_id`` that
        exists is not added again: the job there becomes part of the flow; a completed one counts as
        done.
        Raises: ParentNotFound, ParentCannotBeReplaced; nothing was added then.
        """
        root: FlowNode = {
            "name": name,
            "queue": queue,
            "opts": options,
            "children": children,
        }
        if data is not None:
            root["data"] = data
        (flow,) = await self._add([root], queue_defaults)
        return flow

    async def add_bulk(
        self,
        flows: Iterable[FlowNode],
        *,
        queue_defaults: Mapping[str, AddOptions] | None = None,
    ) -> list[Flow[QueuedJob]]:
        """Add many flows, all of them or none; see ``add``."""
        return await self._add(flows, queue_defaults)

    async def get_flow(
        self,
        queue: str,
        job_id: str,
        *,
        depth: int = DEPTH,
        max_children: int = MAX_CHILDREN,
        prefix: str | None = None,
    ) -> Flow[QueuedJob] | None:
        """Return a job with the jobs below it, None when there is none.

        ``depth`` counts the levels, the job's own too; ``max_children`` is how many children of
        each kind (see Dependencies) are shown. Children that were removed are left out.
        """
        checked_whole("depth", depth, least=1)
        checked_whole("max_children", max_children, least=0)
        keys = QueueKeys(queue, self._prefix if prefix is None else prefix)
        root = keys[checked_text("job_id", job_id)]
        broker = await self._connected()
        jobs: dict[str, QueuedJob] = {}
        children: dict[str, list[str]] = {}
        level = [root]
        for left in range(depth - 1, -1, -1):
            families = await families_of(broker, level, limit=max_children if left else 0)
            for job_key, family in zip(level, families, strict=True):
                if b"name" in family.fields:
                    with contextlib.suppress(UsageError):  # no key of a queue that can be one
                        jobs[job_key] = self._read(broker, job_key, family.fields)
                        children[job_key] = family.children
            below = dict.fromkeys(key for job_key in level for key in children.get(job_key, ()))
            level = [key for key in below if key not in jobs]
        return _drawn(root, jobs, children)

    async def _add(
        self, roots: Iterable[FlowNode], queue_defaults: Mapping[str, AddOptions] | None
    ) -> list[Flow[QueuedJob]]:
        if self._tracing is None:
            return await self._add_all(roots, queue_defaults)
        return await add_flows_traced(
            self._tracing, list(roots), lambda nodes: self._add_all(nodes, queue_defaults)
        )

    async def _add_all(
        self, roots: Iterable[FlowNode], queue_defaults: Mapping[str, AddOptions] | None
    ) -> list[Flow[QueuedJob]]:
        plan = plan_of(roots, prefix=self._prefix, queue_defaults=queue_defaults)
        if not plan:
            return []
        broker = await self._connected()
        now_ms = await broker.now_ms()
        wanted = [(planned.keys, planned.job, planned.parts) for planned in plan]
        new, stored = await with_stored_parts(broker, wanted)
        nodes = [planned._replace(job=job).node() for planned, job in zip(plan, new, strict=True)]
        try:
            ids = await add_flow(broker, nodes, now_ms=now_ms)
        except (ParentNotFound, ParentCannotBeReplaced):
            await forget(broker, stored)
            raise
        if Connected.after_add is not None:
            await Connected.after_add()
        jobs = [
            job_from_add(
                self._queue(broker, planned.keys),
                job_id,
                name=planned.job.name,
                data=planned.data,
                options=planned.options,
                now_ms=now_ms,
            )
            for planned, job_id in zip(plan, ids, strict=True)
        ]
        return _grown(plan, jobs)

    def _read(self, broker: Broker, job_key: str, fields: dict[bytes, bytes]) -> QueuedJob:
        keys, job_id = keys_from_job_key(job_key, self._prefix)
        job = job_from_hash(keys.queue, job_id, fields)
        return QueuedJob(**members_of(job), queue=self._queue(broker, keys))

    def _queue(self, broker: Broker, keys: QueueKeys) -> Queue:
        if keys not in self._queues:
            self._queues[keys] = Queue(keys.queue, prefix=keys.prefix, broker=broker)
        return self._queues[keys]


def _grown(plan: Sequence[PlannedJob], jobs: Sequence[J]) -> list[Flow[J]]:
    """Return the trees of a plan, whose children all come after their parents."""
    below: list[list[Flow[J]]] = [[] for _ in plan]
    roots: list[Flow[J]] = []
    for place in range(len(plan) - 1, -1, -1):
        flow = Flow(jobs[place], tuple(reversed(below[place])))
        parent = plan[place].parent
        (roots if parent is None else below[parent]).append(flow)
    return roots[::-1]


def _drawn(
    root: str, jobs: Mapping[str, J], children: Mapping[str, Sequence[str]]
) -> Flow[J] | None:
    """Return the tree below a key, however deep; a job below itself is left out there."""
    if root not in jobs:
        return None
    drawn: dict[str, Flow[J]] = {}
    path = {root: iter(children[root])}
    while path:
        job_key, below = next(reversed(path.items()))
        child = next((key for key in below if key in jobs and key not in path), None)
        if child is None:
            del path[job_key]
            flows = tuple(drawn[key] for key in children[job_key] if key in drawn)
            drawn[job_key] = Flow(jobs[job_key], flows)
        elif child not in drawn:
            path[child] = iter(children[child])
    return drawn[root]


# ── blocking ────────────────────────────────────────────────────────────────


class SyncFlowProducer(Blocking[FlowProducer]):
    """FlowProducer for code without an event loop: the same methods, blocking.

    Any thread may use it. After a fork the child connects anew by itself. Returned jobs are bound
    to queues with connections of their own, which ``close`` closes too.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """See FlowProducer."""
        super().__init__(FlowProducer(url, prefix=prefix, tracing=tracing))
        self._url = url
        self._queues: dict[QueueKeys, SyncQueue] = {}

    def _bound(self, flow: Flow[QueuedJob]) -> Flow[SyncJob]:
        job = SyncJob(**members_of(flow.job), queue=self._queue(flow.job.queue.keys))
        return Flow(job, tuple(self._bound(child) for child in flow.children))

    def _bound_or_none(self, flow: Flow[QueuedJob] | None) -> Flow[SyncJob] | None:
        return None if flow is None else self._bound(flow)

    def _all_bound(self, flows: list[Flow[QueuedJob]]) -> list[Flow[SyncJob]]:
        return [self._bound(flow) for flow in flows]

    connect = blocking(FlowProducer.connect)
    add = blocking(FlowProducer.add, _bound)
    add_bulk = blocking(FlowProducer.add_bulk, _all_bound)
    get_flow = blocking(FlowProducer.get_flow, _bound_or_none)

    def close(self) -> None:
        """Close all connections that were opened, also by returned jobs; twice is harmless."""
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            queue.close()
        portal().run(self._twin.close())

    def _queue(self, keys: QueueKeys) -> SyncQueue:
        if keys not in self._queues:
            self._queues[keys] = SyncQueue(keys.queue, self._url, prefix=keys.prefix)
        return self._queues[keys]
