"""One attack, tried under a policy by a processor of its own, and what became of it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.model.outcome import Outcome
    from sandboxq.sandbox.policy import Policy

_HEAD = """
import ctypes, errno, mmap, os, signal, socket, subprocess, sys, tempfile, threading, time

def process(job):
    try:
        return ["worked", attack(job.data)]
    except OSError as error:
        return ["refused", errno.errorcode[error.errno]]

"""


def attempt(folder: Path, policy: str | Policy, attack: str, data: Any = None) -> list[Any]:
    """Return ``["worked", value]`` or ``["refused", name of the errno]`` of ``attack(data)``."""
    path = processor_file(_sources(folder), _HEAD + textwrap.dedent(attack), "attacker.py")

    async def main() -> list[Any]:
        async with open_pool(path, policy=policy) as caller:
            answer: list[Any] = await caller.value(data)
            return answer

    return run_async(main())


def outcome_of(folder: Path, policy: str | Policy, attack: str, data: Any = None) -> Outcome:
    """Return how the job ended, however that was; the next job must run all the same."""
    path = processor_file(_sources(folder), _HEAD + textwrap.dedent(attack), "attacker.py")

    async def main() -> Outcome:
        async with open_pool(path, policy=policy) as caller:
            return await caller.run(data)

    return run_async(main())


def _sources(folder: Path) -> Path:
    """Return where the attacker's sources lie, apart from what it attacks."""
    path = folder / "code"
    path.mkdir(exist_ok=True)
    return path
