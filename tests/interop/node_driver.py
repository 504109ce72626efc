"""Real BullMQ in a Node process, driven by JSON lines.

test ──call──▶ NodeDriver ──{"id","command","arguments"}──▶ node/driver.mjs ──▶ bullmq ──▶ Redis
     ◀─future─ reader thread ◀──{"id","value"|"error"}─────
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from tests.conftest import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Above every wait inside a command (`finished` waits 60 s); a hung Node must not hang the tests.
CALL_SECONDS = 90.0
FINISH_MS = 60_000


class NodeError(Exception):
    """A command failed inside Node; the text is the message of its error."""


class NodeDriver:
    """One Node process with one version of BullMQ."""

    def __init__(self, command: Sequence[str], log_path: Path) -> None:
        """Start the process; its stderr goes to ``log_path``."""
        self._log_path = log_path
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._ids = itertools.count()
        self._answers: dict[int, Future[Any]] = {}
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def ask(self, command: str, **arguments: Any) -> Future[Any]:
        """Send one command and return the future of its answer; it may raise NodeError."""
        answer: Future[Any] = Future()
        number = next(self._ids)
        self._answers[number] = answer
        line = json.dumps({"id": number, "command": command, "arguments": arguments})
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return answer

    def close(self) -> None:
        """End the process by ending its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._reader.join(60)

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._deliver(json.loads(line))
        for answer in self._answers.values():
            answer.set_exception(NodeError(f"Node ended: {self._log_path.read_text()[-2000:]}"))

    def _deliver(self, message: dict[str, Any]) -> None:
        answer = self._answers.pop(message["id"])
        if "error" in message:
            answer.set_exception(NodeError(message["error"]))
        else:
            answer.set_result(message["value"])


@dataclass(frozen=True, slots=True)
class NodeSide:
    """What Node does with one queue, in one version of BullMQ."""

    driver: NodeDriver
    queue_name: str
    version: str

    async def call(self, command: str, **arguments: Any) -> Any:
        """Run one command of driver.mjs on this queue."""
        answer = self.driver.ask(command, **{"queue": self.queue_name, **arguments})
        return await asyncio.wait_for(asyncio.wrap_future(answer), CALL_SECONDS)

    async def queue(self, method: str, *args: Any) -> Any:
        """Call a method of Node's Queue; jobs come back as dicts."""
        return await self.call("queue", method=method, args=args)

    async def add(self, name: str, data: Any, opts: dict[str, Any] | None = None) -> str:
        """Add a job and return its id."""
        job = await self.queue("add", name, data, opts or {})
        return str(job["id"])

    async def job(self, job_id: str) -> Any:
        """Return a job as Node reads it, with ``state`` and ``logs``; None when there is none."""
        return await self.call("job", id=job_id)

    async def finished(self, job_id: str) -> Any:
        """Return ``{"value": …}`` or ``{"failedReason": …}`` from Node's waitUntilFinished."""
        return await self.call("finished", id=job_id, timeoutMs=FINISH_MS)

    async def start_worker(self, **options: Any) -> None:
        """Start a Node Worker on this queue that runs processor.mjs."""
        await self.call("startWorker", options=options)

    async def stop_workers(self) -> None:
        """Close Node's workers after their running jobs."""
        await self.call("stopWorkers")

    async def until_idle(self, workers: int = 1) -> None:
        """Wait until so many of the queue's workers, of either kind, sleep until a marker comes.

        Then each has looked since anything was written, and writes nothing more of its own accord.
        """

        async def are_blocked() -> bool:
            clients = await self.queue("getWorkers")
            # Not `cmd`, which names a connection's last command also when that has returned.
            return ["b" in client["flags"] for client in clients].count(True) == workers

        await wait_until_async(are_blocked)

    async def runs(self) -> list[str]:
        """Return the ids of the jobs that Node's workers ran, one entry a run."""
        return list(await self.call("runs"))

    async def start_events(self) -> None:
        """Follow the queue's events from its beginning."""
        await self.call("startEvents")

    async def events(self, *names: str) -> list[dict[str, Any]]:
        """Return what QueueEvents has emitted so far, of these names or of all."""
        heard = await self.call("events")
        return [event for event in heard if not names or event["event"] in names]

    async def events_until(self, job_id: str, *last: str) -> list[dict[str, Any]]:
        """Return what was heard of one job once an event named in ``last`` has come."""

        async def has_come() -> bool:
            return any(event.get("jobId") == job_id for event in await self.events(*last))

        await wait_until_async(has_come)
        return [event for event in await self.events() if event.get("jobId") == job_id]
