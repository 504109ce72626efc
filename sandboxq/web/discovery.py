"""Finds the queues of a prefix without keeping Redis, or a visitor, for long.

    names() ──► named in the settings? those alone
            ──► queues that have a worker (one CLIENT LIST), at once
            ──► a walk over the keys: 0.1 s of it is waited for (2 s while no queue is known), the
                rest goes on by itself, gently, and what it finds is there the next time

A walk looks at every key of the database, jobs included: a million of them take seconds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.commands.queues import names_with_workers, pages_of_names
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.web.settings import Settings

# More are no page that anybody reads; name those to show.
MOST_QUEUES = 1000
# Seconds until names are looked for again: so many times what the walk took, within these.
_TIMES, _SHORTEST, _LONGEST = 20, 1.0, 30.0
# Seconds that a visitor waits for names.
_PATIENCE = 0.1
# The same as long as none is known: an empty page would be wrong.
_LONG_PATIENCE = 2.0
# Seconds that one waits who sees most of them already.
_GLANCE = 0.02
# Of the time, so much at most is Redis busy with a walk that nobody waits for.
_PAUSE = 0.005
# Keys of one walk; a database of more has to have its queues named.
MOST_KEYS = 50_000_000


class Found(NamedTuple):
    """Names, sorted. ``is_complete``: there are no others; else the walk goes on, or was cut."""

    names: tuple[str, ...]
    is_complete: bool


class Discovery:
    """Remembers what was found."""

    def __init__(self, settings: Settings) -> None:
        """Know the queues that the settings name."""
        self._settings = settings
        self._names: set[str] = set()
        self._noted: set[str] = set()  # since the walk began
        self._walk: asyncio.Task[None] | None = None
        self._again_at = float("-inf")
        self._is_complete = False

    async def names(self, broker: Broker) -> Found:
        """Return what is known by now, and see that more will be. Raises: BrokerUnavailable."""
        if self._settings.queues:
            return Found(self._settings.queues[:MOST_QUEUES], is_complete=True)
        self._begin(broker)
        if self._walk is not None and not self._walk.done():
            await self._wait(self._walk)
        names = sorted(self._names)
        return Found(tuple(names[:MOST_QUEUES]), self._is_complete and len(names) <= MOST_QUEUES)

    async def _wait(self, walk: asyncio.Task[None]) -> None:
        """Wait for a walk, a short time; longer as long as there is nothing to show."""
        await asyncio.wait({walk}, timeout=_GLANCE if self._is_complete else _PATIENCE)
        deadline = asyncio.get_running_loop().time() + _LONG_PATIENCE
        while not self._names and not walk.done():
            await asyncio.wait({walk}, timeout=_PATIENCE)
            if asyncio.get_running_loop().time() > deadline:
                return

    def note(self, name: str) -> None:
        """Know a queue that was found otherwise; a walk that goes on may have passed it."""
        self._names.add(name)
        self._noted.add(name)

    def _begin(self, broker: Broker) -> None:
        """Walk again when the last walk is some time ago."""
        is_walking = self._walk is not None and not self._walk.done()
        now = asyncio.get_running_loop().time()
        if not is_walking and now >= self._again_at:
            self._again_at = now + _SHORTEST
            self._walk = asyncio.create_task(self._find(broker), name="sandboxq discovery")

    async def _find(self, broker: Broker) -> None:
        """Look at the clients, then at every key, and forget queues that are gone."""
        prefix, loop = self._settings.prefix, asyncio.get_running_loop()
        seen: set[str] = set()
        self._noted = set()
        begun, looked_at = loop.time(), 0
        try:
            seen |= await names_with_workers(broker, prefix)
            self._names |= seen
            async for names, keys in pages_of_names(broker, prefix):
                seen |= names
                self._names |= names
                looked_at += keys
                if looked_at > MOST_KEYS:
                    self._again_at = loop.time() + _LONGEST
                    return
                if loop.time() - begun > (_PATIENCE if self._names else _LONG_PATIENCE):
                    await asyncio.sleep(_PAUSE)
        except BrokerUnavailable:
            self._again_at = float("-inf")
            return
        except QueueError:  # where this user may not scan
            return
        self._names = seen | self._noted
        self._is_complete = True
        now = loop.time()
        self._again_at = now + min(max((now - begun) * _TIMES, _SHORTEST), _LONGEST)

    def forget_loop(self) -> None:
        """Leave the walk of an event loop that has ended."""
        self._walk = None
        self._again_at = float("-inf")

    async def close(self) -> None:
        """Walk no more."""
        walk, self._walk = self._walk, None
        if walk is not None and walk.get_loop() is asyncio.get_running_loop():
            walk.cancel()
            await asyncio.wait({walk})
