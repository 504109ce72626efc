"""The campaigns: which faults, on what work, with which workers; and which are run when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from tests.chaos import faults as f
from tests.chaos.faults import Fault

_MIX = ("nap", "once", "noop", "delay", "prio", "named", "retry", "fail", "array", "parent", "spin")
_LONG = (*_MIX, "long")
_SIMPLE = ("nap", "noop", "retry", "fail", "named", "prio", "delay")
_PATIENT = ("--max-stalled-count", "50", "--max-crashes", "1000")


@dataclass(frozen=True, slots=True)
class Campaign:
    """One run: faults for ``seconds``, then peace until all is done."""

    name: str
    faults: tuple[Fault, ...]
    kinds: tuple[str, ...] = _MIX
    rate: float = 40  # of jobs a second: what two workers can just do
    backlog: int = 0
    workers: int = 2
    node_workers: int = 0
    options: tuple[str, ...] = _PATIENT
    backend: str = "one"
    program: str = ""
    seconds: float = 60
    drain: float = 90
    window: float = 0  # seconds after a failover in which Redis may still lose acknowledged writes
    is_proxied: bool = False
    is_async: bool = False
    may_hand_back: bool = False  # workers end, or are told to have fewer children
    may_stall: bool = False  # workers are gone for longer than their locks
    may_fail: tuple[str, ...] = ()  # words of reasons for which jobs may fail here


class _Options(TypedDict, total=False):
    options: tuple[str, ...]
    is_proxied: bool
    may_hand_back: bool
    may_stall: bool
    may_fail: tuple[str, ...]


_NOTHING: _Options = {}
_CHILD = Fault(0.2, f.kill_child)
_STOP_CHILD = Fault(0.3, f.abort_or_stop_child)
_FORK_SERVER = Fault(1.5, f.kill_fork_server)
_WORKER = Fault(4, f.kill_worker)
_LONG_STOP = Fault(9, f.stop_worker_long)
_REDIS = Fault(8, f.restart_redis)
_CUT = Fault(0.3, f.cut)
_HALF_OPEN = Fault(0.7, f.half_open)
_KILL_CLIENT = Fault(0.3, f.kill_client)
_DEPLOY = Fault(5, f.deploy)
_STRICT = ("--max-stalled-count", "1")

# What holds besides, where it is not the default: options of Campaign.
_GONE: _Options = {"may_stall": True}
_ONE_STALL: _Options = {"options": _STRICT, "may_stall": True, "may_fail": ("stalled more",)}
_PROXIED: _Options = {"is_proxied": True}
_STRICTLY: _Options = {"options": _STRICT, "is_proxied": True}
_BACK: _Options = {"may_hand_back": True}

SINGLE = (
    Campaign("peace", (), seconds=15),
    Campaign("child -9", (_CHILD,)),
    Campaign("child stopped", (_STOP_CHILD,)),
    Campaign("child -9 in loops", (_CHILD,), ("nap", "noop", "retry"), is_async=True),
    Campaign("zygote -9", (_FORK_SERVER,)),
    Campaign("worker -9", (_WORKER,), _LONG, **_GONE),
    Campaign("worker -9, one stall", (Fault(8, f.kill_worker),), _LONG, **_ONE_STALL),
    Campaign("worker stopped", (Fault(2, f.stop_worker_briefly),), _LONG),
    Campaign("worker stopped for long", (_LONG_STOP,), _LONG, **_GONE),
    Campaign("redis stopped", (Fault(4, f.stop_redis),), _LONG),
    Campaign("redis -9", (_REDIS,), _LONG),
    Campaign("redis -9, one stall", (_REDIS,), _LONG, options=_STRICT, program="redis-server"),
    Campaign("CLIENT KILL", (_KILL_CLIENT,), _LONG),
    Campaign("cut", (_CUT,), _LONG, **_PROXIED),
    Campaign("delayed", (Fault(5, f.delay),), _LONG, **_PROXIED),
    Campaign("half-open", (_HALF_OPEN,), _LONG, **_PROXIED),
    Campaign("half-open, idle", (_HALF_OPEN,), ("noop", "once"), rate=8, **_STRICTLY),
    Campaign("disk full", (Fault(8, f.fill_disk),), (*_SIMPLE, "long"), backend="small disk"),
    # Killed while its disk is full, it has lost what it could not write.
    Campaign("embedded", (Fault(10, f.kill_embedded),), _SIMPLE, backend="embedded", window=1.0,
             may_stall=True),
    Campaign("log blocked", (Fault(10, f.block_log),), (*_LONG, "talk")),
    Campaign("deploys", (_DEPLOY,), _LONG, may_hand_back=True,
             options=(*_PATIENT, "--shutdown-timeout", "1")),
    Campaign("scale", (Fault(1, f.scale),), _LONG, **_BACK),
    Campaign("pause", (Fault(2, f.pause),), _LONG),
    Campaign("cancel", (Fault(0.5, f.cancel),), _LONG, may_fail=("cancel",)),
    Campaign("timeouts", (), (*_MIX, "late"), rate=30),
    Campaign("memory", (), (*_MIX, "bomb"), rate=20),
    Campaign("litter", (), (*_MIX, "litter"), rate=20),
    Campaign("poison", (Fault(0.3, f.poison),)),
    Campaign("Node", (_CHILD, _WORKER, Fault(6, f.kill_node_worker)), _SIMPLE, node_workers=2,
             may_stall=True),
)  # fmt: skip

# Thousands of jobs of microseconds wait, so that each worker holds a hundred at any moment.
BACKLOG = tuple(
    Campaign(f"backlog, {name}", (fault,), ("noop",), backlog=3000, seconds=45, **more)
    for name, fault, more in (
        ("child -9", Fault(0.08, f.kill_child), _NOTHING),
        ("child stopped", Fault(0.15, f.abort_or_stop_child), _NOTHING),
        ("zygote -9", _FORK_SERVER, _NOTHING),
        ("worker -9", _WORKER, _GONE),
        ("worker -9, one stall", _WORKER, _ONE_STALL),
        ("worker stopped for long", _LONG_STOP, _GONE),
        ("redis -9", _REDIS, _NOTHING),
        ("CLIENT KILL", _KILL_CLIENT, _NOTHING),
        ("cut", _CUT, _PROXIED),
        ("half-open", _HALF_OPEN, _PROXIED),
        ("deploys", _DEPLOY, _BACK),
        ("scale", Fault(0.7, f.scale), _BACK),
    )
)

FAILOVER = tuple(
    Campaign(f"{backend}, {name}", (Fault(20, fault),), _SIMPLE, backend=backend, window=2.0,
             may_stall=True, drain=120)
    for backend in ("sentinels", "cluster")
    for name, fault in zip(("planned", "frozen", "dead"),
                           (f.fail_over, f.freeze_master, f.kill_master), strict=True)
)  # fmt: skip

EVERYTHING = Campaign(
    "all at once",
    (
        Fault(2, f.kill_child), Fault(3, f.abort_or_stop_child), Fault(15, f.kill_fork_server),
        Fault(20, f.kill_worker), Fault(25, f.stop_worker_long), Fault(20, f.stop_redis),
        Fault(30, f.restart_redis), Fault(4, f.kill_client), Fault(4, f.cut), Fault(8, f.half_open),
        Fault(15, f.delay), Fault(20, f.deploy), Fault(10, f.scale), Fault(15, f.pause),
        Fault(5, f.poison), Fault(30, f.block_log),
    ),
    (*_LONG, "late"),
    workers=3, seconds=600, drain=180, is_proxied=True, may_hand_back=True, may_stall=True,
)  # fmt: skip

ALL = {each.name: each for each in (*SINGLE, *BACKLOG, *FAILOVER, EVERYTHING)}
# About three minutes: each kind of trouble once.
SELECTION = {
    "child -9": 20, "worker -9": 25, "redis -9": 25, "half-open": 25, "backlog, child -9": 20,
    "backlog, cut": 20, "poison": 10, "deploys": 20,
}  # fmt: skip
# In the tests: less than two minutes altogether.
QUICK = {"child -9": 6, "cut": 6, "backlog, child stopped": 6, "deploys": 12, "redis -9": 10}
