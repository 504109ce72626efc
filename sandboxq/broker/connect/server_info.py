"""Facts about a server, asked for on connect, and whether sandboxq can work with it; its clock.

Times are the server's: what is due is decided by its clock, not by ours.

INFO at connect, TIME with each claim that waits ──► how far we are ahead ──► now_ms
TIME, where that was long ago or our clock was set ◄──────────────┘
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sandboxq.broker.connect.connection import BrokerLoading
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.model.validation import count_from_wire, number_from_wire

if TYPE_CHECKING:
    from sandboxq.broker.connect.resolve import AnyEndpoint
    from sandboxq.model.clock import Clock


# BZPOPMIN with fractions, LPOS, ZADD GT and XAUTOCLAIM-era streams are all there from here on
# (protocol.md 7).
OLDEST_REDIS = (6, 2)
OLDEST_VALKEY = (8,)

SAFE_POLICY = "noeviction"

_log = logging.getLogger("sandboxq.broker")
# Seconds that a server may take to read its data from disk before it counts as away.
_LOADING_PATIENCE = 60.0
_LOADING_DELAYS = (0.01, 0.2)
# Network delay makes the clocks seem to differ: of so many comparisons the best ones count.
_COMPARED = 8
# Milliseconds: clocks that differ by less count as the same.
_SAME_MS = 10
# Seconds after which clocks are compared again, as they drift.
_FRESH_SECONDS = 60.0
# Milliseconds: when our clock and the monotonic clock differ by more, our clock was set or the
# machine slept.
_SET_MS = 500
# Milliseconds from which a difference is logged.
WRONG_MS = 1000


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Kind (``redis``, ``valkey``, ``dragonfly`` or ``unknown``), version and eviction policy."""

    kind: str = "unknown"
    version: str = ""
    eviction_policy: str = ""
    is_loading: bool = False
    is_cluster: bool = False
    time_ms: int = 0  # by its clock; 0 where it does not tell
    uptime: float = float("inf")  # seconds since it was started

    @property
    def evicts(self) -> bool:
        """Whether the server may throw jobs away when its memory is full."""
        return self.eviction_policy not in {"", SAFE_POLICY}


def facts_from_info(info: bytes) -> ServerInfo:
    """Read the reply of INFO."""
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    fields = {name: value.strip() for name, _, value in lines}
    kind, version = "unknown", ""
    for name in ("dragonfly", "valkey", "redis"):
        if version := fields.get(f"{name}_version", ""):
            kind = name
            break
    mode = fields.get("redis_mode") or fields.get("server_mode")
    uptime = number_from_wire(fields.get("uptime_in_seconds"))
    return ServerInfo(
        kind,
        version,
        fields.get("maxmemory_policy", ""),
        is_loading=fields.get("loading") == "1",
        is_cluster=mode == "cluster",
        time_ms=count_from_wire(fields.get("server_time_usec")) // 1000,
        uptime=float("inf") if uptime is None else uptime,
    )


def check_version(facts: ServerInfo) -> None:
    """Raise BrokerUnavailable when the server is too old for our scripts."""
    oldest = {"redis": OLDEST_REDIS, "valkey": OLDEST_VALKEY}.get(facts.kind, (0,))
    numbers = tuple(int(number) for number in re.findall(r"\d+", facts.version))
    if numbers and numbers < oldest:
        wanted = ".".join(str(number) for number in oldest)
        message = f"{facts.kind} {facts.version} is too old: sandboxq needs {wanted} or newer"
        raise BrokerUnavailable(message)


def check_not_in_cluster(info: bytes) -> None:
    """Raise UsageError when CLUSTER INFO tells of other nodes: the URL names one node only."""
    match = re.search(rb"cluster_size:(\d+)", info)
    if match and int(match[1]) > 1:
        message = (
            "this Redis is one node of a Redis Cluster: write redis+cluster://host:port,host:port "
            "instead of redis://host:port"
        )
        raise UsageError(message)


class Greeted(Protocol):
    """The broker, as ``greet`` needs it."""

    time: ServerTime

    @property
    def endpoint(self) -> AnyEndpoint:
        """Where Redis is."""

    async def command_to_each(self, *args: str) -> list[Any]:
        """Run one command on every master of a cluster, else on the one server."""


async def greet(broker: Greeted) -> list[ServerInfo]:
    """Return the facts of each master, and compare clocks with the first.

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


async def _first_answer(broker: Greeted) -> list[ServerInfo]:
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
            return [ServerInfo()]


async def _facts(broker: Greeted) -> list[ServerInfo]:
    asked = broker.time.reading()
    every = [facts_from_info(reply) for reply in await broker.command_to_each("INFO")]
    if every[0].time_ms:
        broker.time.note(asked, every[0].time_ms)
    if any(facts.is_loading for facts in every):
        # INFO is answered all the same; nothing else is.
        message = f"Redis at {broker.endpoint.safe} still reads its data from disk"
        raise BrokerLoading(message)
    return every


class Reading(NamedTuple):
    """Both of our clocks at one moment."""

    wall_ms: int
    monotonic: float


class ServerTime:
    """Compares our clock with the server's."""

    def __init__(self, clock: Clock) -> None:
        """Take the clocks for the same until they were compared."""
        self._clock = clock
        # Milliseconds that our clock is ahead, at least and at most.
        self._least_ms: deque[int] = deque(maxlen=_COMPARED)
        self._most_ms: deque[int] = deque(maxlen=_COMPARED)
        self._noted = self.reading()
        # The estimate between them; negative when our clock is behind.
        self.lead_ms = 0

    def reading(self) -> Reading:
        """Return the time of our clocks, before the server is asked."""
        return Reading(self._clock.now_ms(), self._clock.monotonic())

    def note(self, asked: Reading, server_ms: int) -> None:
        """Take the server's time, read between ``asked`` and now."""
        self.note_least(asked, server_ms)
        self._noted = self.reading()
        self._most_ms.append(self._noted.wall_ms - server_ms)
        self.lead_ms = self._reckoned_lead()

    def note_least(self, asked: Reading, server_ms: int) -> None:
        """Take the server's time, read at an unknown moment after ``asked``."""
        if self._was_set():
            self._least_ms.clear()
            self._most_ms.clear()
        self._least_ms.append(asked.wall_ms - server_ms)
        self.lead_ms = self._reckoned_lead()

    @property
    def is_stale(self) -> bool:
        """Whether the server is to be asked again before its time is told."""
        return self._clock.monotonic() - self._noted.monotonic > _FRESH_SECONDS or self._was_set()

    def _reckoned_lead(self) -> int:
        least, most = max(self._least_ms, default=0), min(self._most_ms, default=0)
        # Any value between these is possible; 0, if it is one, is likely.
        lead_ms = least if least > 0 else min(most, 0)
        return lead_ms if abs(lead_ms) > _SAME_MS else 0

    def now_ms(self) -> int:
        """Return the time of the server's clock, as far as it is known."""
        return self._clock.now_ms() - self.lead_ms + self._clock.shift_ms

    def _was_set(self) -> bool:
        clock, (wall_ms, monotonic) = self._clock, self._noted
        passed_ms = (clock.monotonic() - monotonic) * 1000
        return abs(clock.now_ms() - wall_ms - passed_ms) > _SET_MS


def ms_from_time(reply: list[bytes]) -> int:
    """Return what TIME answered in milliseconds."""
    seconds, microseconds = map(int, reply)
    return seconds * 1000 + microseconds // 1000


def clock_warning(lead_ms: int) -> str:
    """Return the warning that the clocks differ; nothing where they hardly do."""
    if abs(lead_ms) <= WRONG_MS:
        return ""
    way = "ahead of" if lead_ms > 0 else "behind"
    return (
        f"this machine's clock is {abs(lead_ms) / 1000:.1f} s {way} that of Redis: synchronise "
        "both (NTP); delays, back-off and schedulers use Redis's here, in Node.js the machine's"
    )


def warn_of_clock(time: ServerTime) -> None:
    """Log what ``clock_warning`` says."""
    warning = clock_warning(time.lead_ms)
    if warning:
        _log.warning("%s", warning)
