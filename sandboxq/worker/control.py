"""Obeys ``python -m sandboxq scale``: changes the number of children while the worker runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sandboxq.broker.control import answer, request_from_payload
from sandboxq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

_log = logging.getLogger("sandboxq.worker")

# More children than this is a slip of the finger, not a wish.
MOST_PROCS = 1024


class Control:
    """Listens on the queue's control channel."""

    def __init__(
        self, broker: Broker, keys: QueueKeys, *, name: str, scale: Callable[[int], Awaitable[int]]
    ) -> None:
        """Call ``scale`` with the number asked for; it returns the number there is then."""
        self._broker = broker
        self._keys = keys
        self._name = name
        self._scale = scale

    async def run(self) -> None:
        """Obey until cancelled."""
        subscription = await self._broker.subscribe(self._keys.control_channel)
        try:
            async for payload in subscription:
                await self._obey(payload)
        finally:
            await asyncio.shield(subscription.close())

    async def _obey(self, payload: bytes) -> None:
        request = request_from_payload(payload)
        if request is None or not 1 <= request.procs <= MOST_PROCS:
            _log.warning("a message on the control channel is not understood: %r", payload[:200])
            return
        procs = await self._scale(request.procs)
        try:
            await answer(self._broker, request, worker=self._name, procs=procs)
        except BrokerUnavailable as error:
            _log.warning("scaled to %d children, but the answer was not taken: %s", procs, error)
