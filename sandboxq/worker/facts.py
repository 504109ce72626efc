"""What a running worker does now, for `sandboxq workers`, `sandboxq top` and the page.

Nothing is looked at while nobody asks: see viewers.py.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import time
from typing import TYPE_CHECKING, Any, Protocol

from sandboxq import __version__
from sandboxq.pool.kinds import Kind
from sandboxq.pool.watch.usage import resident_bytes
from sandboxq.sandbox.processes import descendants_of, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.broker.keys import QueueKeys
    from sandboxq.config import WorkerSettings
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool
    from sandboxq.sandbox.policy import Policy
    from sandboxq.worker.counters import Counters

# A row has at most so many children, so many jobs of each and in all: some 100 KB, half a megabyte
# where names are all of escapes.
MOST_CHILDREN = 256
MOST_JOBS = 16
MOST_JOBS_IN_ALL = 512
# Of what one child has started so many processes are counted.
_MOST_PROCESSES = 64
# The loop has other work to do between so many children: each takes some 50 µs.
_AT_ONCE = 16
MOST_NAME = 80
# An event loop that did not turn for so many seconds is said to be blocked.
_BLOCKED_SECONDS = 0.5
# An id is to be found by.
MOST_ID = 128
_TICKS = os.sysconf("SC_CLK_TCK")
# In /proc/PID/stat behind the name (man 5 proc).
_UTIME, _CSTIME, _STARTTIME = 11, 14, 19


class Described(Protocol):
    """The worker."""

    keys: QueueKeys
    processor: str
    kind: Kind
    settings: WorkerSettings
    policy: Policy
    counters: Counters

    @property
    def name(self) -> str:
        """The worker's name for people."""

    @property
    def pool(self) -> Pool:
        """Its children."""

    @property
    def running(self) -> int:
        """Jobs whose locks it holds."""

    @property
    def is_paused(self) -> bool:
        """Whether it claims nothing until it is resumed."""

    @property
    def is_stopping(self) -> bool:
        """Whether it claims no more, for good."""

    @property
    def is_limited(self) -> bool:
        """Whether it waits for the rate limit of its queue."""


class Facts:
    """Looks at a worker."""

    def __init__(self, worker: Described) -> None:
        """Describe ``worker``, which has just started."""
        self._worker = worker
        self._since = time.time()
        # Two workers of one process and one name are two.
        self._id = os.urandom(8).hex()
        # While somebody looks: how late the event loop is, in seconds; the last line of each child.
        self.lag: float | None = None
        self.printed: Mapping[int, str] = {}

    async def row(self, *, has_children: bool) -> dict[str, Any]:
        """Return what is so now, with a row for each child if asked for; times are seconds."""
        worker, pool, counters = self._worker, self._worker.pool, self._worker.counters
        places = max(1, pool.size * worker.settings.concurrency)
        row = {
            "id": self._id,
            "worker": worker.name,
            "queue": worker.keys.queue,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "python": platform.python_version(),
            "processor": worker.processor,
            "kind": worker.kind.value,
            "policy": worker.policy.name,
            "state": self._state(),
            "circuit": pool.circuit.state.value,
            "since": self._since,
            "concurrency": worker.settings.concurrency,
            "procs": pool.size,
            "busy": pool.busy,
            "places": places,
            "jobs": worker.running,
            "lag": self.lag,
            "load": round(worker.running / places, 3),
            "completed": counters.completed,
            "failed": counters.failed,
            "retried": counters.retried,
            "died": counters.children_died,
        }
        if has_children:
            row["children"] = await self._children()
        return row

    def _state(self) -> str:
        if self._worker.is_stopping:
            return "stopping"
        if self._worker.is_paused:
            return "paused"
        return "rate limited" if self._worker.is_limited else "running"

    async def _children(self) -> list[dict[str, Any]]:
        children = self._worker.pool.supervisor.children[:MOST_CHILDREN]
        most = min(MOST_JOBS, MOST_JOBS_IN_ALL // max(1, len(children)))
        rows: list[dict[str, Any]] = []
        for place, child in enumerate(children):
            if place and place % _AT_ONCE == 0:
                await asyncio.sleep(0)
            rows.append(self._child(child, most))
        return rows

    def _child(self, child: Child, most: int) -> dict[str, Any]:
        """Return the row of a child with at most so many of its jobs."""
        calls = child.running_calls()
        row: dict[str, Any] = {"pid": child.pid, "state": child.state.value, "memory": child.memory}
        if self._worker.kind is Kind.PROCESS and child.pid:
            row |= used_by(child.pid, may_fork=self._worker.policy.may_fork)
        if child.is_async and (blocked := child.blocked_for()) > _BLOCKED_SECONDS:
            row["blocked"] = round(blocked, 1)
        if child.pid in self.printed:
            row["printed"] = self.printed[child.pid]
        now = asyncio.get_running_loop().time()
        jobs = [self._job(child, call, now) for call in calls[:most]]
        return {**row, "running": len(calls), "jobs": jobs}

    @staticmethod
    def _job(child: Child, call: Call, now: float) -> dict[str, Any]:
        job_id, name = shown_job(call)
        seconds, left = times_of(child, call, now)
        return {"id": job_id, "name": name, "seconds": seconds, "left": left}


def shown_job(call: Call) -> tuple[str, str]:
    """Return the id and the name of a call's job, cut."""
    name: bytes = call.context.job.name
    return call.key.decode(errors="replace")[:MOST_ID], name.decode(errors="replace")[:MOST_NAME]


def times_of(child: Child, call: Call, now: float) -> tuple[float, float | None]:
    """Return for how many seconds a call has run, and how many are left; None without a timeout."""
    seconds = max(0.0, now - running_since(child, call))
    left = None if call.timeout is None else round(call.timeout - seconds, 3)
    return round(seconds, 3), left


def running_since(child: Child, call: Call) -> float:
    """Return when a call began, on the loop's clock; it may have stood behind another."""
    if child.is_async:
        return child.begun_at(call) or call.sent_at
    return max(call.sent_at, child.progress_at)


def used_by(pid: int, *, may_fork: bool) -> dict[str, float]:
    """Return CPU seconds, resident bytes and age of a process, with what it has started."""
    pids = [pid, *(descendants_of(pid, most=_MOST_PROCESSES) if may_fork else [])]
    fields = [read_file(f"/proc/{each}/stat").rpartition(b") ")[2].split() for each in pids]
    cpu = sum(sum(map(int, each[_UTIME : _CSTIME + 1])) for each in fields)
    started = int(fields[0][_STARTTIME]) / _TICKS if fields[0] else 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started if started else 0.0
    return {
        "cpu": round(cpu / _TICKS, 2),
        "rss": sum(map(resident_bytes, pids)),
        "age": round(max(0.0, age), 1),
    }
