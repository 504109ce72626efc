"""The life of children of every kind: import, setup, resize, recycling, teardown, stop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from sandboxq.child import thread
from sandboxq.errors import ChildStartFailed, ProcessorNotLoaded, UsageError
from sandboxq.model.outcome import Completed, HandedBack
from sandboxq.pool.watch.recycler import Recycling
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.conftest import Open

_CHORES = """
import threading, time

def note(line):
    with open(PATH, "a") as file:
        file.write(line + "\\n")

def setup():
    note(f"setup {threading.get_native_id()}")

def teardown():
    note(f"teardown {threading.get_native_id()}")

def process(job):
    time.sleep(job.data.get("sleep", 0))
    return threading.get_native_id()
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Return the file that setup and teardown write to."""
    return tmp_path / "notes"


@pytest.fixture
def chores(tmp_path: Path, notes: Path) -> Path:
    """Return the path of a processor with hooks."""
    return processor_file(tmp_path, f"PATH = {str(notes)!r}\n{_CHORES}")


def test_each_child_is_set_up_and_torn_down_once(
    open_kind: Open, chores: Path, notes: Path
) -> None:
    """Both run where the jobs run."""

    async def main() -> None:
        async with open_kind(chores, size=2) as caller:
            seen = {await caller.value({}) for _ in range(4)}
            assert seen <= set(caller.pool.pids)

    run_async(main())
    lines = notes.read_text().splitlines()
    ups = [line.split()[1] for line in lines if line.startswith("setup")]
    downs = [line.split()[1] for line in lines if line.startswith("teardown")]
    assert len(ups) == 2
    assert sorted(ups) == sorted(downs)


def test_more_and_fewer_children(open_kind: Open, chores: Path) -> None:
    """Surplus children finish first; new ones take jobs at once."""

    async def main() -> None:
        async with open_kind(chores, size=1) as caller:
            await caller.pool.resize(3)
            assert caller.pool.size == 3
            calls = [caller.submit({"sleep": 0.3}) for _ in range(3)]
            await caller.until_begun(*calls)
            assert caller.pool.busy == 3
            await caller.pool.resize(1)
            outcomes = await asyncio.gather(*map(caller.outcome, calls))
            assert all(isinstance(outcome, Completed) for outcome in outcomes)
            assert {outcome.value for outcome in outcomes if isinstance(outcome, Completed)}
            assert caller.pool.size == 1
            assert await caller.value({})

    run_async(main())


def test_a_child_is_replaced_after_its_jobs(open_kind: Open, chores: Path) -> None:
    """No child runs more than max_jobs, and none is missing for long."""

    async def main() -> None:
        async with open_kind(chores, recycling=Recycling(max_jobs=2)) as caller:
            runners = [await caller.value({}) for _ in range(6)]
            assert len(set(runners)) >= 3

    run_async(main())


def test_what_was_not_begun_can_be_taken_back(open_kind: Open, chores: Path) -> None:
    """Short jobs are sent ahead; behind a long one they are given up in their order."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            for call in [caller.submit({}) for _ in range(50)]:
                await caller.outcome(call)
            long = caller.submit({"sleep": 1})
            waiting = [caller.submit({}) for _ in range(5)]
            await caller.until_begun(long)
            taken = caller.pool.take_back()
            assert taken == waiting
            assert isinstance(await caller.outcome(long), Completed)
            assert caller.pool.held == 0

    run_async(main())


def test_a_stop_lets_jobs_finish_and_hands_back_the_rest(open_kind: Open, chores: Path) -> None:
    """Nothing is lost, nothing is run twice."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            running = caller.submit({"sleep": 1})
            waiting = caller.submit({})
            await caller.until_begun(running)
            await caller.pool.stop(timeout=60)
            assert isinstance(caller.outcomes[running.key], Completed)
            assert caller.outcomes[waiting.key] == HandedBack()
            assert caller.pool.room() == 0

    run_async(main())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def process(job: pass", "SyntaxError"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("x = 1", "defines no 'process'"),
        ("import sys; sys.exit(3)", "sys.exit"),
    ],
)
def test_a_processor_that_cannot_be_imported(
    open_kind: Open, tmp_path: Path, text: str, why: str
) -> None:
    """Said at the start, with the reason."""

    async def main() -> None:
        with pytest.raises(ProcessorNotLoaded, match=why):
            async with open_kind(processor_file(tmp_path, text)):
                pass

    run_async(main())


def test_a_setup_that_fails_is_a_failed_start(open_kind: Open, tmp_path: Path) -> None:
    """With the user's reason."""
    text = "def setup(): raise OSError('no device')\ndef process(job): pass"

    async def main() -> None:
        with pytest.raises(ChildStartFailed, match=r"setup\(\) failed: OSError: no device"):
            async with open_kind(processor_file(tmp_path, text)):
                pass

    run_async(main())


def test_what_the_coordinator_logs_of_a_child_is_no_output_of_it(
    open_kind: Open, tmp_path: Path
) -> None:
    """A thread calls back from its own context, where all that is printed is its job's."""
    setup = "def setup(): 1 / 0\ndef process(job): pass"
    contexts = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            contexts.append((record.msg, thread.is_claimed()))

    async def main() -> None:
        with pytest.raises(ChildStartFailed):
            async with open_kind(processor_file(tmp_path, setup)):
                pass

    log, listening = logging.getLogger("sandboxq.pool"), Listening()
    log.addHandler(listening)
    try:
        run_async(main())
    finally:
        log.removeHandler(listening)
    assert contexts
    assert not any(is_claimed for _, is_claimed in contexts)


def test_concurrency_needs_an_async_processor(open_kind: Open, chores: Path) -> None:
    """A plain function runs one job at once."""

    async def main() -> None:
        with pytest.raises(UsageError, match="async def"):
            async with open_kind(chores, concurrency=2):
                pass

    run_async(main())


def test_a_pool_that_is_killed_holds_nothing(open_kind: Open, chores: Path) -> None:
    """Calls that ran are told as handed back, at once; the job looks and ends."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            call = caller.submit({"sleep": 0.3})
            await caller.until_begun(call)
            caller.pool.kill()
            assert caller.outcomes[call.key] == HandedBack(was_started=True)

            async def is_quiet() -> bool:
                await asyncio.sleep(0.5)
                return True

            await wait_until_async(is_quiet)

    run_async(main())
