"""Flows for code without an event loop: the methods of FlowProducer, blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from sandboxq.broker.keys import DEFAULT_PREFIX, QueueKeys
from sandboxq.queue.flow import DEPTH, MAX_CHILDREN, Flow, FlowProducer
from sandboxq.queue.job import QueuedJob, members_of
from sandboxq.queue.portal import Blocking
from sandboxq.queue.sync import SyncQueue
from sandboxq.queue.sync_job import SyncJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.flow_plan import FlowNode
    from sandboxq.queue.options import AddOptions


class SyncFlowProducer(Blocking):
    """FlowProducer for code without an event loop; every method is documented there.

    Any thread may use it. After a fork the child connects anew by itself. Returned jobs are bound
    to queues with connections of their own, which ``close`` closes too.
    """

    _twin = "FlowProducer"

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        tracing: Tracing | None = None,
    ) -> None:
        """See FlowProducer."""
        self._url = url
        self._producer = FlowProducer(url, prefix=prefix, tracing=tracing)
        self._queues: dict[QueueKeys, SyncQueue] = {}

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def connect(self) -> None:
        """See FlowProducer.connect."""
        self._run(self._producer.connect())

    def close(self) -> None:
        """See FlowProducer.close."""
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            queue.close()
        self._run(self._producer.close())

    def add(
        self,
        *,
        name: str,
        queue: str,
        data: Any = None,
        children: Sequence[FlowNode] = (),
        queue_defaults: Mapping[str, AddOptions] | None = None,
        **options: Unpack[AddOptions],
    ) -> Flow[SyncJob]:
        """See FlowProducer.add."""
        adding = self._producer.add(
            name=name,
            queue=queue,
            data=data,
            children=children,
            queue_defaults=queue_defaults,
            **options,
        )
        return self._bound(self._run(adding))

    def add_bulk(
        self,
        flows: Iterable[FlowNode],
        *,
        queue_defaults: Mapping[str, AddOptions] | None = None,
    ) -> list[Flow[SyncJob]]:
        """See FlowProducer.add_bulk."""
        added = self._run(self._producer.add_bulk(flows, queue_defaults=queue_defaults))
        return [self._bound(flow) for flow in added]

    def get_flow(
        self,
        queue: str,
        job_id: str,
        *,
        depth: int = DEPTH,
        max_children: int = MAX_CHILDREN,
        prefix: str | None = None,
    ) -> Flow[SyncJob] | None:
        """See FlowProducer.get_flow."""
        reading = self._producer.get_flow(
            queue, job_id, depth=depth, max_children=max_children, prefix=prefix
        )
        flow = self._run(reading)
        return None if flow is None else self._bound(flow)

    def _bound(self, flow: Flow[QueuedJob]) -> Flow[SyncJob]:
        keys = flow.job.queue.keys
        if keys not in self._queues:
            self._queues[keys] = SyncQueue(keys.queue, self._url, prefix=keys.prefix)
        job = SyncJob(**members_of(flow.job), queue=self._queues[keys])
        return Flow(job, tuple(self._bound(child) for child in flow.children))
