"""Spans that were made, kept in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sandboxq.observe.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


class Spans:
    """Collects the spans of one Tracing."""

    def __init__(self) -> None:
        """Begin with none."""
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider)

    def finished(self, name: str | None = None) -> list[ReadableSpan]:
        """Return the spans that have ended, of this name or all."""
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if name is None or span.name == name]


def parent_of(span: ReadableSpan) -> str | None:
    """Return the id of a span's parent, as hex."""
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def ids_of(span: ReadableSpan) -> tuple[str, str]:
    """Return trace id and span id, as hex."""
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"
