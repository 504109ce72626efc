"""One running job, for who looks at it: its stack, what it uses, what it prints."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from sandboxq.observe.telemetry import JobLines
from sandboxq.pool.kinds import Kind
from sandboxq.pool.stacks import read_stacks
from sandboxq.worker.attempt import AttemptState
from sandboxq.worker.facts import shown_job, times_of, used_by

if TYPE_CHECKING:
    from sandboxq.observe.telemetry import Event, Telemetry
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import HeldJobs

# Of what a job prints the last lines are shown, so much of each.
_MOST_LINES, _MOST_TEXT, _SHORT_TEXT = 50, 400, 120
# Of so many jobs lines are kept, and of so many children the last one.
_MOST_JOBS, _MOST_CHILDREN = 64, 256
# Characters of a stack: as many as fit a hundred frames.
MOST_STACK = 16 * 1024


class Printed:
    """The last lines of jobs and children, while somebody looks at the worker."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Hear nothing before ``listen``."""
        self._telemetry = telemetry
        self._listens = False
        self.by_pid: dict[int, str] = {}
        self._by_job: dict[str, deque[tuple[str, str]]] = {}

    def listen(self) -> None:
        """Hear of printed lines; twice is harmless."""
        if not self._listens:
            self._listens = True
            self._telemetry.subscribe(self._take, JobLines)

    def stop(self) -> None:
        """Hear no more, and forget; twice is harmless."""
        if self._listens:
            self._listens = False
            self._telemetry.unsubscribe(self._take)
            self.by_pid.clear()
            self._by_job.clear()

    def of(self, job_id: str) -> list[tuple[str, str]]:
        """Return the last lines of a job, each behind the name of its stream."""
        return list(self._by_job.get(job_id, ()))

    def _take(self, event: Event) -> None:
        if not isinstance(event, JobLines) or not event.lines:
            return
        self.by_pid.pop(event.child_pid, None)  # the newest go last
        self.by_pid[event.child_pid] = event.lines[-1][:_SHORT_TEXT]
        _cut(self.by_pid, _MOST_CHILDREN)
        if event.job_id:
            lines = self._by_job.pop(event.job_id, None) or deque(maxlen=_MOST_LINES)
            lines.extend((event.stream, line[:_MOST_TEXT]) for line in event.lines[-_MOST_LINES:])
            self._by_job[event.job_id] = lines
            _cut(self._by_job, _MOST_JOBS)


def _cut(kept: dict[Any, Any], most: int) -> None:
    if len(kept) > most:
        del kept[next(iter(kept))]


class JobView:
    """Looks at jobs of one worker."""

    def __init__(self, pool: Pool, held: HeldJobs, printed: Printed, *, kind: Kind) -> None:
        """Look at what ``pool`` runs and ``held`` has."""
        self._pool = pool
        self._held = held
        self._printed = printed
        self._kind = kind

    def has(self, job_id: str) -> bool:
        """Tell whether this worker has the job."""
        return job_id.encode(errors="surrogateescape") in self._held

    async def row(self, job_id: str) -> dict[str, Any] | None:
        """Return what the job does now; None when it is not here any more."""
        attempt = self._held.get(job_id.encode(errors="surrogateescape"))
        if attempt is None or attempt.state is AttemptState.ENDED:
            return None
        row = {
            "id": job_id,
            "attempt": attempt.job.attempts_made + 1,
            "lines": self._printed.of(job_id),
        }
        found = self._running(attempt)
        if found is None:
            return {**row, "state": "waits for a free child"}
        child, call = found
        return {**row, **await self._running_row(child, call)}

    def _running(self, attempt: Attempt) -> tuple[Child, Call] | None:
        for child in self._pool.supervisor.children:
            for call in child.running_calls():
                if call is attempt.call:
                    return child, call
        return None

    async def _running_row(self, child: Child, call: Call) -> dict[str, Any]:
        seconds, left = times_of(child, call, asyncio.get_running_loop().time())
        stacks = await read_stacks(child)
        row = {
            "state": "is being ended" if call.asked_at else "runs",
            "name": shown_job(call)[1],
            "pid": child.pid,
            "seconds": seconds,
            "timeout": call.timeout,
            "left": left,
            "memory": child.memory,
            "stack": stacks.of(call.seq)[:MOST_STACK],
            "source": stacks.source,
            "note": stacks.note,
            "beside": max(0, len(child.running_calls()) - 1),
        }
        if self._kind is Kind.PROCESS and child.pid:
            row |= used_by(child.pid, may_fork=True)
        return row
