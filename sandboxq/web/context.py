"""The Redis that a page looks at: what every read and every action gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.keys import QueueKeys
from sandboxq.model.clock import SYSTEM_CLOCK
from sandboxq.queue.base import Connected
from sandboxq.queue.queue import Queue
from sandboxq.web.answers import NotHere
from sandboxq.web.discovery import Discovery

if TYPE_CHECKING:
    from starlette.requests import Request

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.web.access import Visitor
    from sandboxq.web.discovery import Found
    from sandboxq.web.redact import Redaction
    from sandboxq.web.settings import Settings


class Dashboard(Connected):
    """Connects when it is needed, in the event loop that asks, and again in another one."""

    def __init__(self, settings: Settings) -> None:
        """Look at the Redis of these settings."""
        super().__init__(settings.url, broker=None, clock=SYSTEM_CLOCK, tracing=None)
        self.settings = settings
        self._discovery = Discovery(settings)

    @property
    def prefix(self) -> str:
        """What all keys start with."""
        return self.settings.prefix

    @property
    def redaction(self) -> Redaction:
        """What hides secrets in data."""
        return self.settings.redaction

    async def broker(self) -> Broker:
        """Return the connection. Raises: BrokerUnavailable."""
        return await self._connected()

    async def queues(self) -> Found:
        """Return the names of the queues that are known by now. Raises: BrokerUnavailable."""
        return await self._discovery.names(await self.broker())

    def keys(self, name: str) -> QueueKeys:
        """Return the keys of a queue that is shown here. Raises: NotHere, UsageError."""
        if self.settings.queues and name not in self.settings.queues:
            message = f"queue {name!r} is not shown here"
            raise NotHere(message)
        return QueueKeys(name, self.prefix)

    async def queue(self, name: str) -> Queue:
        """Return a queue that exists. Raises: NotHere, UsageError, BrokerUnavailable."""
        keys, broker = self.keys(name), await self.broker()
        if not await broker.command("EXISTS", keys["meta"]):
            message = f"there is no queue {name!r} under the prefix {self.prefix!r}"
            raise NotHere(message)
        self._discovery.note(name)
        return Queue(name, broker=broker, prefix=self.prefix)

    def _forget_loop(self) -> None:
        self._discovery.forget_loop()

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        await self._discovery.close()
        await super().close()


def dashboard_of(request: Request) -> Dashboard:
    """Return what the routes of this page look at."""
    found: Dashboard = request.app.state.dashboard
    return found


def visitor_of(request: Request) -> Visitor:
    """Return who asks; the guard has found out."""
    found: Visitor = request.scope["sandboxq.visitor"]
    return found
