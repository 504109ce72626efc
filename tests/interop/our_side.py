"""What sandboxq does with one queue in the interop tests."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxq.queue.queue import Queue
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sandboxq.config import WorkerOptions
    from sandboxq.observe.tracing import Tracing

PROCESSOR = Path(__file__).parent / "processor.py"
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class OurSide:
    """sandboxq on one queue of one server."""

    queue_name: str
    url: str

    def queue(self, *, tracing: Tracing | None = None) -> Queue:
        """Return the queue; use it in `async with`."""
        return Queue(self.queue_name, url=self.url, tracing=tracing)

    @contextlib.asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[Worker]:
        """Run a worker with processor.py while the block runs; one child unless told otherwise."""
        # As Node's default is: what both leave in Redis is compared.
        settings = {"metrics_points": 0, **settings}
        options: WorkerOptions = {"procs": 1, "drain_delay": 1.0, **settings}  # type: ignore[typeddict-item]
        async with Worker(self.queue_name, str(PROCESSOR), url=self.url, **options) as worker:
            running = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                await asyncio.wait_for(running, STOP_SECONDS)

    @contextlib.contextmanager
    def worker_process(self, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `python -m sandboxq run` while the block runs; the test may kill it."""
        command = [sys.executable, "-m", "sandboxq", "run", str(PROCESSOR)]
        place = ["--queue", self.queue_name, "--url", self.url, "--procs", "1"]
        # Its log goes to stderr, which pytest shows when the test fails.
        process = subprocess.Popen([*command, *place, *flags])
        try:
            yield process
        finally:
            process.kill()
            process.wait(60)
