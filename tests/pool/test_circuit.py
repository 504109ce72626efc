"""The circuit: a broken processor must not eat the queue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed, HandedBack
from sandboxq.observe.telemetry import CircuitClosed, CircuitOpened
from sandboxq.pool.children.circuit import CircuitState
from tests.conftest import SOON, run_async, wait_until_async
from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_CHORES = """
import os
def setup():
    if os.path.exists({switch!r}): os._exit(1)
def process(job):
    if job.data.get("crash") or os.path.exists({broken!r}): os._exit(3)
    if job.data.get("raise"): raise ValueError("no")
    return 1
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor that files beside it break."""
    text = _CHORES.format(switch=str(tmp_path / "no-start"), broken=str(tmp_path / "broken"))
    return processor_file(tmp_path, text)


def _opened(caller: Caller) -> list[CircuitOpened]:
    return [event for event in caller.events if isinstance(event, CircuitOpened)]


async def _is_open(caller: Caller) -> bool:
    return caller.pool.circuit.state is not CircuitState.CLOSED


def test_five_jobs_that_crash_in_a_row_stop_the_flow(chores: Path) -> None:
    """What was not begun goes back untouched; one job at a time tries whether it is over."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            await caller.value({})
            for _ in range(5):
                assert isinstance(await caller.run({"crash": 1}), Failed)
            assert caller.pool.room() == 0
            assert "5 jobs in a row" in _opened(caller)[0].reason
            assert "exit code 3" in _opened(caller)[0].reason

            async def may_try() -> bool:
                return caller.pool.room() == 1

            await wait_until_async(may_try)
            await caller.failure({"crash": 1})
            assert caller.pool.room() == 0
            assert _opened(caller)[1].seconds == 2 * _opened(caller)[0].seconds
            await wait_until_async(may_try)
            await caller.value({})
            assert caller.pool.circuit.state is CircuitState.CLOSED
            assert isinstance(caller.events[-1], CircuitClosed)

    run_async(main())


def test_calls_that_wait_go_back_when_it_opens(chores: Path) -> None:
    """They would be the next ones to die."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = [caller.submit({"crash": 1}) for _ in range(5)]
            waiting = [caller.submit({}) for _ in range(5)]
            for call in calls:
                assert isinstance(await caller.outcome(call), Failed)
            for call in waiting:
                assert await caller.outcome(call) == HandedBack()

    run_async(main())


@pytest.mark.parametrize("answer", [{}, {"raise": 1}])
def test_an_answer_in_between_is_proof(chores: Path, answer: dict[str, int]) -> None:
    """A queue with many bad jobs among good ones is no broken processor, nor one that raises."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            for _ in range(3):
                for _ in range(3):
                    await caller.failure({"crash": 1})
                await caller.run(answer)
            assert not _opened(caller)

    run_async(main())


def test_children_that_cannot_start_any_more(chores: Path, tmp_path: Path) -> None:
    """A full disk, a lost mount: said once in a while, and work goes on when it is mended."""
    switch = tmp_path / "no-start"

    async def main() -> None:
        async with open_pool(chores) as caller:
            switch.touch()
            await caller.failure({"crash": 1})
            waiting = caller.submit({})
            await wait_until_async(lambda: _is_open(caller))
            assert await caller.outcome(waiting) == HandedBack()
            assert "could not start" in _opened(caller)[0].reason
            switch.unlink()
            started = time.monotonic()

            async def may_try() -> bool:
                return caller.pool.room() == 1

            await wait_until_async(may_try)
            assert time.monotonic() - started < SOON
            assert isinstance(await caller.run({}), Completed)
            assert caller.pool.circuit.state is CircuitState.CLOSED

    run_async(main())
