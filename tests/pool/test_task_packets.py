"""Calls that become tasks of one event loop share a packet; none is bound to those beside it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed
from tests.conftest import Gate, run_async
from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.pool.pool import Call

_CHORES = """
import asyncio, os, time

RAN = os.open({ran!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def process(job):
    data = job.data
    os.write(RAN, (job.id + "\\n").encode())
    if "raw" in data: os.write(1, data["raw"].encode() + b"\\n")
    if data.get("die"): os._exit(3)
    while "until" in data and not os.path.exists(data["until"]): time.sleep(0.01)
    await asyncio.sleep(data.get("sleep", 0.01))
    return os.getpid()
"""
_SEATS = 8


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Return the file in which jobs write that they run."""
    return tmp_path / "ran"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Return what ends the jobs that wait for it."""
    return Gate(tmp_path)


@pytest.fixture
def chores(tmp_path: Path, ran: Path) -> Path:
    """Return the path of a processor."""
    return processor_file(tmp_path, _CHORES.format(ran=str(ran)))


def pack(caller: Caller, datas: list[Any]) -> list[Call]:
    """Submit calls that share a packet."""
    calls = caller.submit_all(datas)
    assert all(call.is_packed for call in calls[:_SEATS]), "they went one by one"
    return calls


def runs_of(ran: Path) -> Counter[bytes]:
    """Return how often each job has run."""
    return Counter(ran.read_bytes().split())


async def outcomes_of(caller: Caller, calls: list[Call]) -> list[Any]:
    """Wait for the ends of calls."""
    return [await caller.outcome(call) for call in calls]


def test_more_calls_than_seats_end_once_each(chores: Path, ran: Path) -> None:
    """What no seat is free for is not in a packet: it must be possible to take it back unread."""

    async def main() -> None:
        async with open_pool(chores, size=2, concurrency=_SEATS) as caller:
            calls = pack(caller, [{"sleep": 0.001 * (at % 7)} for at in range(300)])
            assert all(isinstance(each, Completed) for each in await outcomes_of(caller, calls))
            assert runs_of(ran) == Counter(call.key for call in calls)

    run_async(main())


def test_calls_behind_one_that_blocks_the_loop_go_to_others(
    chores: Path, ran: Path, gate: Gate
) -> None:
    """They share its packet, and have not begun; its child is given work again afterwards."""

    async def main() -> None:
        async with open_pool(chores, size=2, concurrency=_SEATS) as caller:
            datas = [{}, {"until": gate.path}] + [{}] * (_SEATS - 2)
            before, blocker, *behind = pack(caller, datas)
            others = {each.value for each in await outcomes_of(caller, behind)}
            assert not {before.key, blocker.key} & caller.outcomes.keys()
            gate.open()
            mine = {each.value for each in await outcomes_of(caller, [before, blocker])}
            assert len(others) == len(mine) == 1
            assert others != mine
            assert set(runs_of(ran).values()) == {1}
            more = await outcomes_of(caller, caller.submit_all([{}] * 2 * _SEATS))
            assert {each.value for each in more} == others | mine

    run_async(main())


def test_death_in_a_packet_is_the_fault_of_one(chores: Path, ran: Path) -> None:
    """Those behind it never began, and run elsewhere as if nothing was."""

    async def main() -> None:
        async with open_pool(chores, size=2, concurrency=_SEATS) as caller:
            guilty, *behind = pack(caller, [{"die": 1}] + [{}] * (_SEATS - 1))
            outcome = await caller.outcome(guilty)
            assert isinstance(outcome, Failed)
            assert outcome.is_crash
            assert all(isinstance(each, Completed) for each in await outcomes_of(caller, behind))
            assert set(runs_of(ran).values()) == {1}
            assert not any(call.unbegun for call in behind)

    run_async(main())


def test_what_has_not_begun_is_given_back_and_no_token_stays(
    chores: Path, ran: Path, gate: Gate
) -> None:
    """A token too many would let the child begin what was taken back the next time."""

    async def main() -> None:
        async with open_pool(chores, concurrency=_SEATS) as caller:
            for _ in range(3):
                gate.close()
                first, *behind = pack(caller, [{"until": gate.path}] + [{}] * (_SEATS - 1))
                await caller.until_begun(first)
                assert caller.pool.take_back() == behind
                gate.open()
                assert isinstance(await caller.outcome(first), Completed)
                assert not {call.key for call in behind} & runs_of(ran).keys()
                assert isinstance(await caller.run({}), Completed)

    run_async(main())


def test_cancelled_call_leaves_its_neighbours_alone(chores: Path, ran: Path) -> None:
    """Begun or not, it ends, and the others of its packet run once each."""

    async def main() -> None:
        async with open_pool(chores, concurrency=_SEATS) as caller:
            for pause in (0.0, 0.001, 0.003, 0.05):
                calls = pack(caller, [{"sleep": 0.2}] * _SEATS)
                await asyncio.sleep(pause)  # somewhere between sent, read and begun
                caller.pool.cancel_call(calls[3], JobCancelled("not needed"), grace=1)
                cancelled, *others = await outcomes_of(caller, [calls[3], *calls[:3], *calls[4:]])
                assert isinstance(cancelled, Failed)
                assert all(isinstance(each, Completed) for each in others)
            assert set(runs_of(ran).values()) == {1}

    run_async(main())


def test_timeout_counts_from_the_begin(chores: Path) -> None:
    """Only the call that takes too long ends by it."""

    async def main() -> None:
        async with open_pool(chores, concurrency=_SEATS) as caller:
            calls = [caller.make({"sleep": seconds}) for seconds in (0.01, 60, 0.1)]
            for call in calls:
                call.timeout = 1.0
            caller.pool.submit_all(calls)
            quick, late, other = await outcomes_of(caller, calls)
            assert isinstance(quick, Completed)
            assert isinstance(other, Completed)
            assert isinstance(late, Failed)
            assert late.cause == "JobTimeout"

    run_async(main())
