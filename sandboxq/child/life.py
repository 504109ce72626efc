"""The life of a child that is a process: one call after the other, or on an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.child import interrupts, output
from sandboxq.child.loop import packet_runner, run_call, serve
from sandboxq.child.sampler import Sampler
from sandboxq.model.job_limits import Budgets

if TYPE_CHECKING:
    from sandboxq.child.link import Link
    from sandboxq.child.loader import Processor
    from sandboxq.child.loop import Settings


def live(link: Link, processor: Processor, settings: Settings) -> None:
    """Run calls until the coordinator retires this child or is gone."""
    link.budgets = Budgets(*settings.budgets)  # type: ignore[arg-type]  # they are in this order
    capture = output.Capture(link)
    output.install(capture)
    output.note_kind()
    capture.use_pipe()
    if not processor.is_async:
        Sampler(link, run_call, packet_runner).install()
        serve(link, processor, settings, capture)
        return
    from sandboxq.child.async_loop import live_async  # noqa: PLC0415 - asyncio only where it is used
    from sandboxq.child.steps import in_steps  # noqa: PLC0415 - as above

    interrupts.ignore()
    Sampler(link, in_steps).install()
    live_async(link, processor, settings, capture)
