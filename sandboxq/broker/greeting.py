"""What a server is asked as soon as it is connected to, and what is said of the answer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

from sandboxq.broker.facts import ServerFacts, check_version, facts_from_info
from sandboxq.broker.link import BrokerLoading
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from sandboxq.broker.place import AnyEndpoint
    from sandboxq.broker.server_time import ServerTime

_log = logging.getLogger("sandboxq.broker")

# A server that reads a large file from disk is given so many seconds before we say it is away.
_LOADING_PATIENCE = 60.0
_LOADING_DELAYS = (0.01, 0.2)


class Greeted(Protocol):
    """The connections to the servers that are asked."""

    time: ServerTime

    @property
    def endpoint(self) -> AnyEndpoint:
        """Where Redis is."""

    async def command_to_each(self, *args: str) -> list[Any]:
        """Run one command on every master of a cluster, else on the one server."""


async def greet(broker: Greeted) -> list[ServerFacts]:
    """Return what each master says of itself, and compare clocks with the first.

    Raises: BrokerUnavailable, also for a server that is too old, or reads its data for too long.
    """
    every = await _first_answer(broker)
    for facts in every:
        check_version(facts)
    policies = {facts.eviction_policy for facts in every if facts.evicts}
    if policies:
        _log.warning(
            "Redis at %s may evict jobs when its memory is full: maxmemory-policy is %s, "
            "it should be noeviction",
            broker.endpoint.safe,
            ", ".join(sorted(policies)),
        )
    return every


async def _first_answer(broker: Greeted) -> list[ServerFacts]:
    patience_ends = time.monotonic() + _LOADING_PATIENCE
    while True:
        try:
            return await _facts(broker)
        except BrokerLoading:
            if time.monotonic() > patience_ends:
                raise
            await asyncio.sleep(random.uniform(*_LOADING_DELAYS))  # noqa: S311 - no secret
        except BrokerUnavailable:
            raise
        except QueueError as error:
            _log.warning("Redis at %s hides its version: %s", broker.endpoint.safe, error)
            return [ServerFacts()]


async def _facts(broker: Greeted) -> list[ServerFacts]:
    asked = broker.time.reading()
    every = [facts_from_info(reply) for reply in await broker.command_to_each("INFO")]
    if every[0].time_ms:
        broker.time.note(asked, every[0].time_ms)
    if any(facts.is_loading for facts in every):
        # INFO is answered all the same; nothing else is.
        message = f"Redis at {broker.endpoint.safe} still reads its data from disk"
        raise BrokerLoading(message)
    return every
