"""What a server says about itself, and whether sandboxq can work with it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandboxq.errors import BrokerUnavailable, UsageError
from sandboxq.limits import count_from_wire, number_from_wire

# BZPOPMIN with fractions, LPOS, ZADD GT and XAUTOCLAIM-era streams are all there from here on
# (bullmq-wire.md 7, design.md 6.4).
OLDEST_REDIS = (6, 2)
OLDEST_VALKEY = (8,)

SAFE_POLICY = "noeviction"


@dataclass(frozen=True, slots=True)
class ServerFacts:
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


def facts_from_info(info: bytes) -> ServerFacts:
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
    return ServerFacts(
        kind,
        version,
        fields.get("maxmemory_policy", ""),
        is_loading=fields.get("loading") == "1",
        is_cluster=mode == "cluster",
        time_ms=count_from_wire(fields.get("server_time_usec")) // 1000,
        uptime=float("inf") if uptime is None else uptime,
    )


def check_version(facts: ServerFacts) -> None:
    """Raise BrokerUnavailable when the server is too old for our scripts."""
    oldest = {"redis": OLDEST_REDIS, "valkey": OLDEST_VALKEY}.get(facts.kind, (0,))
    numbers = tuple(int(number) for number in re.findall(r"\d+", facts.version))
    if numbers and numbers < oldest:
        wanted = ".".join(str(number) for number in oldest)
        message = f"{facts.kind} {facts.version} is too old: sandboxq needs {wanted} or newer"
        raise BrokerUnavailable(message)


def check_not_in_cluster(info: bytes) -> None:
    """Raise UsageError when CLUSTER INFO tells of other nodes: one of them is not all of it."""
    match = re.search(rb"cluster_size:(\d+)", info)
    if match and int(match[1]) > 1:
        message = (
            "this Redis is one node of a Redis Cluster: write redis+cluster://host:port,host:port "
            "instead of redis://host:port"
        )
        raise UsageError(message)
