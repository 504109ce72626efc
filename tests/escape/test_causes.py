"""The owner of a job reads which policy was in the way, and which limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.model.outcome import Failed
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_CHORES = """
import os, socket, tempfile

def fill():
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(8):
            file.write(bytes(1 << 20))

def process(job):
    match job.data:
        case "fill": fill()
        case "hoard": kept = [os.open(os.devnull, 0) for _ in range(200)]
        case "shadow": open("/etc/shadow")
        case "socket": socket.socket()
        case "fork": os.fork()
"""


def test_failures_name_policy_and_limit(tmp_path: Path) -> None:
    """What only a limit can cause is a SandboxViolation; the rest keeps its class, with a hint."""
    path = processor_file(tmp_path, _CHORES)
    policy = Policy("strict", files=100, file_size=4 << 20)
    expected = {
        "fill": ("SandboxViolation", "grants files of 4 MB"),
        "shadow": ("PermissionError", "read=["),
        "socket": ("PermissionError", "forbids network"),
        "fork": ("BlockingIOError", "subprocess=True"),
        "hoard": ("SandboxViolation", "grants 100 open files"),
    }

    async def main() -> None:
        async with open_pool(path, policy=policy) as caller:
            for do, (cause, text) in expected.items():
                outcome = await caller.run(do)
                assert isinstance(outcome, Failed)
                assert (outcome.cause, text in outcome.reason) == (cause, True), outcome
                assert "'strict'" in outcome.reason

    run_async(main())
