"""One queue of the queue tests, seen from inside and from outside."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.attempts import Settlement, settle
from sandboxq.broker.commands.claim import claim
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.model.clock import SYSTEM_CLOCK
from sandboxq.model.job import KEEP_ALL, Keep
from sandboxq.model.outcome import Complete, Fail, Failed
from sandboxq.queue.queue import Queue
from tests.conftest import run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sandboxq.model.outcome import Transition


@dataclass
class Bench:
    """A queue; ``redis`` is a plain client, replies as text."""

    url: str
    name: str
    redis: Any

    @property
    def keys(self) -> QueueKeys:
        """The queue's key names."""
        return QueueKeys(self.name)

    def run(self, body: Callable[[Queue], Coroutine[Any, Any, Any]]) -> Any:
        """Run an async body with the queue."""

        async def main() -> Any:
            async with Queue(self.name, self.url) as queue:
                return await body(queue)

        return run_async(main())


async def finish(url: str, name: str, *transitions: Transition) -> None:
    """Claim as many jobs as there are transitions and settle them so, as a worker would."""
    broker = await Broker.connect(url)
    try:
        keys, token = QueueKeys(name), uuid.uuid4().hex
        now = SYSTEM_CLOCK.now_ms()
        limit = len(transitions)
        claimed = await claim(broker, keys, limit=limit, token=token, lock_ms=9000, now_ms=now)
        pairs = zip(claimed.jobs, transitions, strict=True)
        settlements = [Settlement(job.id, token.encode(), each) for job, each in pairs]
        assert not any(await settle(broker, keys, settlements, now_ms=now))
    finally:
        await broker.close()


def completed(value: bytes, keep: Keep = KEEP_ALL) -> Complete:
    """Return the transition of a job that returned this JSON."""
    return Complete(value, keep)


def failed(reason: str, cause: str = "", keep: Keep = KEEP_ALL) -> Fail:
    """Return the transition of a job that failed for good."""
    return Fail(Failed(reason, cause=cause), keep, None, 1)
