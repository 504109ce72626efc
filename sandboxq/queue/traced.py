"""Adds under a span: what is added carries the span's context on (protocol.md 2.2, `tm`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from sandboxq.errors import QueueError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.job import QueuedJob

T = TypeVar("T")


async def add_traced(
    tracing: Tracing,
    queue: str,
    entry: tuple[str, Any, Mapping[str, Any]],
    add: Callable[[list[Any]], Awaitable[list[QueuedJob | QueueError]]],
) -> list[QueuedJob | QueueError]:
    """Add one job under a span of its own."""
    name, data, options = entry
    with tracing.adding(queue, str(name)) as span:
        results = await add([(name, data, with_context(options, span.metadata))])
        for result in results:
            if isinstance(result, QueueError):
                # From in here, so that the span says so too.
                raise result
            span.added(result.id)
        return results


async def add_bulk_traced(
    tracing: Tracing, queue: str, entries: Sequence[Any], add: Callable[[list[Any]], Awaitable[T]]
) -> T:
    """Add many jobs under one span."""
    with tracing.adding_bulk(queue, [str(entry[0]) for entry in entries]) as span:
        return await add([_entry_with_context(entry, span.metadata) for entry in entries])


async def add_flows_traced(
    tracing: Tracing, roots: Sequence[Any], add: Callable[[list[Any]], Awaitable[T]]
) -> T:
    """Add flows under one span, which all of their jobs carry on."""
    with tracing.adding_flows(_queues_of(roots)) as span:
        return await add([_node_with_context(root, span.metadata) for root in roots])


def with_context(options: Mapping[str, Any], metadata: str | None) -> Mapping[str, Any]:
    """Return the options with the trace context, unless they have one or want none."""
    if metadata is None or options.get("omit_trace_context"):
        return options
    if options.get("trace_context") is not None:
        return options
    return {**options, "trace_context": metadata}


def _entry_with_context(entry: Any, metadata: str | None) -> Any:
    name, data, *rest = entry
    return (name, data, with_context(rest[0] if rest else {}, metadata), *rest[1:])


def _node_with_context(node: Any, metadata: str | None) -> Any:
    if not isinstance(node, Mapping):
        # Refused with the right words by who adds it.
        return node
    children = node.get("children") or ()
    return {
        **node,
        "opts": with_context(node.get("opts") or {}, metadata),
        "children": [_node_with_context(child, metadata) for child in children],
    }


def _queues_of(roots: Sequence[Any]) -> list[str]:
    return [str(root.get("queue", "")) if isinstance(root, Mapping) else "" for root in roots]
