"""What comes back from a job: values, failures, moves; from every kind of children."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import (
    ChildrenAwaited,
    Completed,
    Failed,
    HandedBack,
    Postponed,
    RateLimited,
)
from sandboxq.pool.kinds import Kind
from sandboxq.pool.outcomes import Unstored
from tests.conftest import run_async
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.conftest import Open

_CHORES = """
class DelayedError(Exception): seconds = 1.5
class RateLimitError(Exception): seconds = 2
class WaitingError(Exception): pass
class WaitingChildrenError(Exception): pass
class UnrecoverableError(Exception): pass

def process(job):
    data = job.data
    if "raise" in data:
        raise {"ValueError": ValueError, "SystemExit": SystemExit, "MemoryError": MemoryError,
               **globals()}[data["raise"]]("why")
    if "size" in data:
        return "x" * data["size"]
    if "set" in data:
        return {1}
    if "bytes" in data:
        return {"raw": b"z" * data["bytes"]}
    return [data["value"], job.id, job.name, job.queue_name, job.attempts_made]
"""
_ASYNC = """
import asyncio
running = most = 0

async def process(job):
    global running, most
    running += 1
    most = max(most, running)
    await asyncio.sleep(job.data.get("sleep", 0))
    running -= 1
    if job.data.get("fail"):
        raise ValueError("bad")
    return most
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a plain processor."""
    return processor_file(tmp_path, _CHORES)


def test_a_value_comes_back_as_it_is(open_kind: Open, chores: Path) -> None:
    """The job's fields go in, JSON comes out, and what the run took is measured."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            value = {"ä": [1, 2.5, None, True, "\ud83d"]}
            call = caller.submit({"value": value}, attempts_made=2)
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed), outcome
            assert await caller.value({"value": 1}) == [1, "2", "test", "tests", 0]
            assert call.usage is not None
            assert call.usage[0] >= 0

    run_async(main())


def test_hundreds_of_jobs_in_several_children_each_end_once(open_kind: Open, chores: Path) -> None:
    """Each answer belongs to its call."""

    async def main() -> None:
        async with open_kind(chores, size=3) as caller:
            calls = [caller.submit({"value": number}) for number in range(500)]
            outcomes = await asyncio.gather(*map(caller.outcome, calls))
            for number, outcome in enumerate(outcomes):
                assert isinstance(outcome, Completed)
                assert outcome.value.startswith(b"[%d," % number)

    run_async(main())


def test_failures_have_reason_class_and_the_users_frames(open_kind: Open, chores: Path) -> None:
    """The next job runs all the same, also after sys.exit() and MemoryError."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            failure = await caller.failure({"raise": "ValueError"})
            assert (failure.reason, failure.cause) == ("why", "ValueError")
            assert "chores.py" in failure.stack
            assert "sandboxq/child" not in failure.stack
            assert (await caller.failure({"raise": "UnrecoverableError"})).is_unrecoverable
            assert "sys.exit" in (await caller.failure({"raise": "SystemExit"})).reason
            assert (await caller.failure({"raise": "MemoryError"})).cause == "JobMemoryExceeded"
            assert "set at $" in (await caller.failure({"set": 1})).reason
            assert "is not JSON" in (await caller.failure(b"{no json")).reason
            assert (await caller.value({"value": 7}))[0] == 7

    run_async(main())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DelayedError", Postponed(1500)),
        ("RateLimitError", RateLimited(2000)),
        ("WaitingError", HandedBack(was_started=True)),
        ("WaitingChildrenError", ChildrenAwaited()),
    ],
)
def test_jobs_can_be_moved(open_kind: Open, chores: Path, name: str, expected: object) -> None:
    """What a processor raises to have its job moved reaches the worker as that."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            assert await caller.run({"raise": name}) == expected

    run_async(main())


def test_values_of_many_packets_and_of_too_many_bytes(open_kind: Open, chores: Path) -> None:
    """A value is whole, or refused with both sizes."""

    async def main() -> None:
        async with open_kind(chores, max_result=3_000_000) as caller:
            assert len(await caller.value({"size": 2_000_000})) == 2_000_000
            failure = await caller.failure({"size": 3_000_000})
            assert failure.cause == "ResultTooLarge"
            assert "3000000" in failure.reason
            assert len((await caller.value({"value": "y" * 2_000_000}))[0]) == 2_000_000

    run_async(main())


def test_bytes_in_a_value_come_as_a_blob(open_kind: Open, chores: Path) -> None:
    """Binary values never become JSON text, whatever the child is."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            outcome = await caller.run({"bytes": 1_000_000})
            assert isinstance(outcome, Unstored)
            assert outcome.blob is not None
            assert bytes(outcome.blob.view[:3]) == b"zzz"
            assert b"sq:binary" in outcome.value
            outcome.blob = None

    run_async(main())


def test_async_processors_run_several_jobs_at_once(open_kind: Open, tmp_path: Path) -> None:
    """One child, one loop, as many jobs as concurrency says; a failure is of its job alone."""
    chores = processor_file(tmp_path, _ASYNC)

    async def main() -> None:
        async with open_kind(chores, concurrency=4) as caller:
            bad = caller.submit({"sleep": 0.1, "fail": True})
            calls = [caller.submit({"sleep": 0.1}) for _ in range(7)]
            outcomes = await asyncio.gather(*map(caller.outcome, calls))
            assert {outcome.value for outcome in outcomes if isinstance(outcome, Completed)} == {
                b"4"
            }
            assert isinstance(await caller.outcome(bad), Failed)

    run_async(main())


def test_thousands_of_short_calls_end_once_each(open_kind: Open, tmp_path: Path) -> None:
    """Where several share a packet, and where they do not."""

    async def main() -> None:
        short = processor_file(tmp_path, "def process(job): return job.id", "short.py")
        async with open_kind(short, size=2) as caller:
            for _ in range(10):
                calls = caller.submit_all([{}] * 300)
                outcomes = [await caller.outcome(call) for call in calls]
                assert outcomes == [Completed(b'"%b"' % call.key) for call in calls]

    run_async(main())


def test_calls_that_are_taken_back_run_once_all_the_same(
    open_kind: Open, kind: Kind, tmp_path: Path
) -> None:
    """Whoever has the token of a call of a packet has the call; processes share packets always."""

    async def main() -> None:
        short = processor_file(tmp_path, "def process(job): return job.id", "short.py")
        async with open_kind(short, size=2) as caller:
            calls = []
            for _ in range(100):
                calls += caller.submit_all([{}] * 100)
                await asyncio.sleep(0.001)
                caller.pool.submit_all(caller.pool.take_back())
            outcomes = [await caller.outcome(call) for call in calls]
            assert outcomes == [Completed(b'"%b"' % call.key) for call in calls]
            children = caller.pool.supervisor.children
            assert all(child.can_pack for child in children) == (kind is Kind.PROCESS)

    run_async(main())
