"""What ``sandboxq dump`` shows of a worker: where each job is that it runs."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from sandboxq.pool.stacks import read_stacks

if TYPE_CHECKING:
    from sandboxq.pool.call import Call
    from sandboxq.pool.pool import Pool
    from sandboxq.pool.process import Child
    from sandboxq.worker.held_jobs import HeldJobs

# Characters of a stack: as many as fit a hundred frames.
_MOST_TEXT = 16 * 1024
_NOT_BEGUN = "it has not begun: the worker has claimed it, and no child is free"


class Dump:
    """Looks at the children of a worker."""

    def __init__(self, queue: str, worker: str, pool: Pool, held: HeldJobs) -> None:
        """Name rows by ``queue`` and ``worker``."""
        self._names = {"queue": queue, "worker": worker}
        self._pool = pool
        self._held = held

    async def rows(self, target: str) -> dict[str, Any]:
        """Return a row for each job that runs, if ``target`` is this worker, one of them, or empty.

        Times are seconds. ``is_meant`` tells whether it is any of these.
        """
        job_id = target.encode(errors="surrogateescape")
        is_whole = target in {"", self._names["worker"]}
        children = self._pool.crew.children
        running = {child: child.running_calls() for child in children}
        answer = {
            "queue": self._names["queue"],
            "pid": os.getpid(),
            "children": self._pool.size,
            "busy": self._pool.busy,
            "is_meant": is_whole or job_id in self._held,
        }
        wanted = {
            child: [call for call in calls if is_whole or call.key == job_id]
            for child, calls in running.items()
        }
        of_children = await asyncio.gather(
            *(self._rows_of(child, calls) for child, calls in wanted.items() if calls)
        )
        jobs = [row for rows in of_children for row in rows]
        if job_id in self._held and not jobs:
            jobs.append({**self._row(target), "note": _NOT_BEGUN})
        return {**answer, "jobs": jobs}

    async def _rows_of(self, child: Child, calls: list[Call]) -> list[dict[str, Any]]:
        now = asyncio.get_running_loop().time()
        since = {call.seq: self._since(child, call) for call in calls}
        stacks = await read_stacks(child)
        return [
            {
                **self._row(call.key.decode(errors="replace")),
                "pid": child.pid,
                "seconds": round(now - since[call.seq], 3),
                "stack": stacks.of(call.seq)[:_MOST_TEXT],
                "source": stacks.source,
                "note": stacks.note,
            }
            for call in calls
        ]

    def _row(self, job_id: str) -> dict[str, Any]:
        nothing = {"pid": None, "seconds": 0.0, "stack": "", "source": "", "note": ""}
        return {"job_id": job_id, **self._names, **nothing}

    @staticmethod
    def _since(child: Child, call: Call) -> float:
        """Return when a call began, on the loop's clock; it may have stood behind another."""
        if child.is_async:
            return child.begun_at(call) or call.sent_at
        return max(call.sent_at, child.progress_at)
