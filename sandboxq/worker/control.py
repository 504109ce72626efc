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
from sandboxq.worker.seldom import Seldom

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.control import Request
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.worker.dump import Dump

_log = logging.getLogger("sandboxq.worker")

# More children than this is a slip of the finger, not a wish.
MOST_PROCS = 1024
# Bytes of a message that are shown, and how many requests are worked on at once.
_MOST_SHOWN = 200
_MOST_TASKS = 32


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
        self._broker = broker
        self._keys = keys
        self._worker = worker
        self._seldom = Seldom()
        # What takes a while: who cancels must not wait for a dump, or for children that start.
        self._tasks: set[asyncio.Task[None]] = set()
        self._scaling = asyncio.Lock()

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
                self._obey(payload)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.shield(subscription.close())

    def _obey(self, payload: bytes) -> None:
        request = request_from_payload(payload, self._keys)
        what = repr(payload[:_MOST_SHOWN])
        if request is None or (
            isinstance(request, ScaleRequest) and not 1 <= request.procs <= MOST_PROCS
        ):
            self._seldom.warn("a message on the control channel is not understood", what)
        elif len(self._tasks) >= _MOST_TASKS:
            self._seldom.warn("too much is asked over the control channel at once, left out", what)
        else:
            task = asyncio.create_task(self._answered(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answered(self, request: Request) -> None:
        try:
            members = await self._done(request)
            await answer(self._broker, request, worker=self._worker.name, **members)
        except ChildStartFailed as error:
            # The text has the user's frames; ours would say nothing.
            _log.error("a new child could not start; it is tried again: %s", error)
        except QueueError as error:
            self._seldom.warn("a request was obeyed, but the answer was not taken", error)
        except Exception as error:  # noqa: BLE001 - the boundary of one request
            self._seldom.warn("a request could not be obeyed", f"{request!r:.200}: {error!r}")

    async def _done(self, request: Request) -> dict[str, Any]:
        """Do what is asked; return what the answer says of it."""
        match request:
            case CancelRequest(job_id, reason, grace):
                return {"has_it": self._worker.cancel(job_id, reason, grace=grace)}
            case DumpRequest(target):
                return await self._dump.rows(target)
            case ScaleRequest(procs):
                async with self._scaling:
                    return {"procs": await self._worker.scale(procs)}
