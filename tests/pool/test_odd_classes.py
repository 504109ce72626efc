"""Exceptions whose classes resist being asked: their job fails, its child lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Failed
from tests.conftest import run_async
from tests.pool.caller import open_pool

if TYPE_CHECKING:
    from pathlib import Path

PROCESSOR = """
import os

class Name(type):
    __name__ = property(lambda cls: 1 / 0)

class Listed(type):
    __name__ = property(lambda cls: [])

class Order(type):
    __mro__ = property(lambda cls: 1 / 0)

class Nothing(type):
    def __getattribute__(cls, name): raise SystemExit(5)

class DelayedError(Exception):
    seconds = property(lambda self: exit(6))

def run(kind):
    if kind == "pid": return os.getpid()
    if kind == "move": raise DelayedError("x")
    kinds = {"name": Name, "list": Listed, "mro": Order, "all": Nothing}
    class Odd(Exception, metaclass=kinds[kind]): pass
    raise Odd("x")
"""
RUNS = {
    "sync": "def process(job): return run(job.data)\n",
    "async": "async def process(job): return run(job.data)\n",
}


@pytest.mark.parametrize("how", RUNS)
def test_odd_classes_harm_their_job_alone(tmp_path: Path, how: str) -> None:
    """It is answered, and by the same child as the next."""
    path = tmp_path / "odd.py"
    path.write_text(PROCESSOR + RUNS[how])

    async def main() -> None:
        async with open_pool(path, policy="limits") as caller:
            pid = await caller.value("pid")
            for kind in ("name", "list", "mro", "all", "move"):
                outcome = await caller.run(kind, timeout=20)
                assert isinstance(outcome, Failed), kind
                assert not outcome.is_crash, (kind, outcome)
                assert outcome.cause in {"Odd", "DelayedError"}
            assert await caller.value("pid") == pid

    run_async(main())
