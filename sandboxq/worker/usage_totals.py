"""Adds what this worker's jobs have used to the totals of their queue, every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from sandboxq.broker.commands.batches import Mark
from sandboxq.broker.commands.usage import add_usage
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.model.job import UsageTotals
from sandboxq.observe.telemetry import Event, JobsSettled
from sandboxq.worker.seldom import Seldom

if TYPE_CHECKING:
    from sandboxq.worker.context import WorkerContext

# Once for hundreds of thousands of jobs, so that it costs none of them anything. A worker that is
# killed with -9 has not told of its last seconds.
_INTERVAL = 5.0


class UsageRecorder:
    """A service, and a telemetry listener."""

    def __init__(self, context: WorkerContext) -> None:
        """Listen to what is settled."""
        self._broker = context.broker
        self._keys = context.keys
        self._telemetry = context.telemetry
        self._seldom = Seldom()
        self._unwritten = UsageTotals()
        # Perhaps written: sent again as it was.
        self._sent = UsageTotals()
        self._mark = Mark(context.keys.mark_key(f"{uuid.uuid4()}:usage"), 0)
        context.telemetry.subscribe(self._note, JobsSettled)

    async def run(self) -> None:
        """Write until cancelled; while Redis is away, or refuses, nothing is forgotten."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self._write()
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)
            except QueueError as error:
                self._seldom.warn("the totals of `stats --usage` cannot be written yet", error)

    async def close(self) -> None:
        """Write what is left, and take the mark away, unless Redis is away."""
        with contextlib.suppress(QueueError):
            await self._write()
            await self._broker.command("UNLINK", self._mark.key)

    def _note(self, event: Event) -> None:
        if isinstance(event, JobsSettled) and event.usage.attempts:
            self._unwritten = self._unwritten + event.usage

    async def _write(self) -> None:
        """Write what was sent without an answer, under its mark, and then what came since."""
        while self._sent.attempts or self._unwritten.attempts:
            if not self._sent.attempts:
                self._sent, self._unwritten = replace(self._unwritten), UsageTotals()
                self._mark = self._mark._replace(number=self._mark.number + 1)
            await add_usage(self._broker, self._keys, self._sent, mark=self._mark)
            self._sent = UsageTotals()
