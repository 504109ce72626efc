"""Drains a queue with one worker and counts, as a program: what a job costs apart from time.

Standard input is ``{"url", "queue", "processor", "procs"}``; the last line of standard output has
``instructions``, those of Python's bytecode that the coordinator ran, start and end left out.
Counted so, the coordinator is far slower than its children and Redis: batches are full, and the
number is the same on a busy machine.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import uvloop

from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Do what standard input says."""
    print(json.dumps({"instructions": uvloop.run(_counted(json.load(sys.stdin)))}))


async def _counted(spec: dict[str, Any]) -> int:
    counter = _Counter()
    async with Worker(
        spec["queue"], spec["processor"], url=spec["url"], procs=spec["procs"]
    ) as worker:
        sys.settrace(counter.trace)
        await worker.run(burst=True)
        sys.settrace(None)
    return counter.count


class _Counter:
    """Counts bytecode instructions of all functions that are called from now on."""

    def __init__(self) -> None:
        self.count = 0

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """Ask for the instructions of a function that begins or goes on."""
        del event, argument
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        del frame, argument
        if event == "opcode":
            self.count += 1
        return self._step


if __name__ == "__main__":
    main()
