"""What state machines of queues have in common: a queue of their own on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys


class ServerMachine(RuleBasedStateMachine):
    """Sub-classed with the server to work on; its first step sets ``keys``."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    broker: ClassVar[Broker]
    keys: QueueKeys

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "keys"):
            names = self.run(self.broker.command("KEYS", f"{self.keys.base}*"))
            if names:
                self.run(self.broker.command("DEL", *names))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Wait for an operation on the server."""
        return self.loop.run_until_complete(coroutine)
