"""What a running worker does now, for `sandboxq workers` and `sandboxq top`.

    asker ──"facts", for so many seconds──► Control ──► Facts.row ──► the answer
                                               └──────► Viewers: one row a second, published to
                                                        each channel until it is not renewed

Nothing is looked at, and nothing sent, while nobody asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Protocol

from sandboxq import __version__
from sandboxq.broker.commands.workers import publish_facts
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.pool.kinds import Kind
from sandboxq.pool.watch.usage import resident_bytes
from sandboxq.sandbox.processes import descendants_of, read_file
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
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
_MOST_TEXT = 80
# Seconds between two rows, and the most for which somebody may ask without asking again.
INTERVAL = 1.0
MOST_SECONDS = 30.0
MOST_VIEWERS = 16
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


class Facts:
    """Looks at a worker."""

    def __init__(self, worker: Described) -> None:
        """Describe ``worker``, which has just started."""
        self._worker = worker
        self._since = time.time()
        # Two workers of one process and one name are two.
        self._id = os.urandom(8).hex()

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
            "processor": worker.processor,
            "kind": worker.kind.value,
            "policy": worker.policy.name,
            "state": self._state(),
            "circuit": pool.circuit.state.value,
            "since": self._since,
            "concurrency": worker.settings.concurrency,
            "procs": pool.size,
            "busy": pool.busy,
            "jobs": worker.running,
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
        return "paused" if self._worker.is_paused else "running"

    async def _children(self) -> list[dict[str, Any]]:
        children = self._worker.pool.supervisor.children[:MOST_CHILDREN]
        most = min(MOST_JOBS, MOST_JOBS_IN_ALL // max(1, len(children)))
        rows = []
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
            row |= _used_by(child.pid, may_fork=self._worker.policy.may_fork)
        now = asyncio.get_running_loop().time()
        jobs = [self._job(child, call, now) for call in calls[:most]]
        return {**row, "running": len(calls), "jobs": jobs}

    @staticmethod
    def _job(child: Child, call: Call, now: float) -> dict[str, Any]:
        seconds = max(0.0, now - running_since(child, call))
        return {
            "id": call.key.decode(errors="replace")[:_MOST_TEXT],
            "name": call.context.job.name.decode(errors="replace")[:_MOST_TEXT],
            "seconds": round(seconds, 3),
            "left": None if call.timeout is None else round(call.timeout - seconds, 3),
        }


class Viewers:
    """Publishes a row a second to those who look, each for as long as it has asked for."""

    def __init__(self, broker: Broker, facts: Facts) -> None:
        """Publish what ``facts`` says."""
        self._broker = broker
        self._facts = facts
        self._until: dict[str, float] = {}  # by channel
        self._task: asyncio.Task[None] | None = None
        self._seldom = Seldom()

    def add(self, channel: str, seconds: float) -> None:
        """Publish to a channel from now on, or go on for so many seconds more."""
        if seconds <= 0 or (channel not in self._until and len(self._until) >= MOST_VIEWERS):
            return
        clock = asyncio.get_running_loop().time
        self._until[channel] = clock() + min(seconds, MOST_SECONDS)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._publish(), name="sandboxq facts")

    def close(self) -> None:
        """Publish no more."""
        self._until.clear()
        if self._task is not None:
            self._task.cancel()

    async def _publish(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(INTERVAL)
            self._until = {name: until for name, until in self._until.items() if until > clock()}
            if not self._until:
                return
            try:
                await self._publish_once()
            except BrokerUnavailable:
                continue
            except QueueError as error:
                self._until.clear()
                self._seldom.warn("`top` does not see this worker any more", error)
            except Exception as error:  # noqa: BLE001 - what is shown must not end what works
                self._until.clear()
                self._seldom.warn("the state of this worker cannot be published for `top`", error)

    async def _publish_once(self) -> None:
        message = json.dumps(await self._facts.row(has_children=True))
        for channel in list(self._until):
            if not await publish_facts(self._broker, channel, message):
                self._until.pop(channel, None)  # nobody listens any more


def running_since(child: Child, call: Call) -> float:
    """Return when a call began, on the loop's clock; it may have stood behind another."""
    if child.is_async:
        return child.begun_at(call) or call.sent_at
    return max(call.sent_at, child.progress_at)


def _used_by(pid: int, *, may_fork: bool) -> dict[str, float]:
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
