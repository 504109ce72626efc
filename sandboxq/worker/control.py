"""Obeys what is asked over the queue's control channel: ``scale``, ``cancel`` and ``dump``."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from sandboxq.broker.control import (
    CancelRequest,
    DumpRequest,
    ScaleRequest,
    answer,
    request_from_payload,
)
from sandboxq.errors import BrokerUnavailable, ChildStartFailed, QueueError

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.control import Request
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.worker.dump import Dump

_log = logging.getLogger("sandboxq.worker")

# More children than this is a slip of the finger, not a wish.
MOST_PROCS = 1024


class Controlled(Protocol):
    """The worker."""

    @property
    def name(self) -> str:
        """The worker's name for people."""

    async def scale(self, procs: int) -> int:
        """Have so many children; return how many there are."""

    def cancel(self, job_id: str, reason: str, *, grace: float) -> bool:
        """End a job, unless this worker does not have it."""


class Control:
    """Listens on the queue's control channel."""

    def __init__(self, broker: Broker, keys: QueueKeys, worker: Controlled, dump: Dump) -> None:
        """Pass on to ``worker`` and ``dump`` what is asked."""
        self._dump = dump
        self._dumping: set[asyncio.Task[None]] = set()
        self._broker = broker
        self._keys = keys
        self._worker = worker

    async def run(self) -> None:
        """Obey until cancelled; return when this user may not listen: jobs run without that."""
        while True:
            try:
                await self._listen()
            except BrokerUnavailable:
                await self._broker.wait_until_back()
            except QueueError as error:
                _log.warning("`scale`, `cancel` and `dump` do not reach this worker: %s", error)
                return

    async def _listen(self) -> None:
        subscription = await self._broker.subscribe(self._keys.control_channel)
        try:
            async for payload in subscription:
                await self._obey(payload)
        finally:
            for task in self._dumping:
                task.cancel()
            await asyncio.shield(subscription.close())

    async def _obey(self, payload: bytes) -> None:
        match request_from_payload(payload, self._keys):
            case CancelRequest(job_id, reason, grace) as request:
                has_it = self._worker.cancel(job_id, reason, grace=grace)
                await self._answer(request, has_it=has_it)
            case DumpRequest() as request:
                # It may take two seconds: who cancels or scales meanwhile must not wait for it.
                task = asyncio.create_task(self._tell_stacks(request))
                self._dumping.add(task)
                task.add_done_callback(self._dumping.discard)
            case ScaleRequest(procs) as request if 1 <= procs <= MOST_PROCS:
                await self._scale(request)
            case _:
                what = payload[:200]
                _log.warning("a message on the control channel is not understood: %r", what)

    async def _tell_stacks(self, request: DumpRequest) -> None:
        await self._answer(request, **await self._dump.rows(request.target))

    async def _scale(self, request: ScaleRequest) -> None:
        try:
            procs = await self._worker.scale(request.procs)
        except ChildStartFailed as error:
            # The text has the user's frames; ours would say nothing.
            _log.error("a new child could not start; it is tried again: %s", error)
            return
        await self._answer(request, procs=procs)

    async def _answer(self, request: Request, **members: Any) -> None:
        try:
            await answer(self._broker, request, worker=self._worker.name, **members)
        except QueueError as error:
            _log.warning("%r was obeyed, but the answer was not taken: %s", request, error)
