"""Jobs of microseconds share packets: what that saves must cost no job its guarantees."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed
from sandboxq.pool.watch.recycler import Recycling
from tests.conftest import Gate, run_async, wait_until_async
from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.pool.pool import Call

_CHORES = """
import os, signal, time

RAN = os.open({ran!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def process(job):
    data = job.data
    if not data: return os.getpid()
    if data.get("note"): os.write(RAN, (job.id + "\\n").encode())
    if "raw" in data: os.write(1, data["raw"].encode() + b"\\n")
    if "print" in data: print(data["print"])
    if data.get("die"): os.kill(os.getpid(), signal.SIGKILL)
    if data.get("fail"): raise ValueError("on purpose")
    if "burn" in data:
        end = time.process_time() + data["burn"]
        while time.process_time() < end: pass
    if "sleep" in data: time.sleep(data["sleep"])
    while "until" in data and not os.path.exists(data["until"]): time.sleep(0.01)
    return os.getpid()
"""
# So many calls fit one packet.
_PACKET = 16


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Return the file in which jobs with a note write that they run."""
    return tmp_path / "ran"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """Return what ends the jobs that wait for it."""
    return Gate(tmp_path)


@pytest.fixture
def chores(tmp_path: Path, ran: Path) -> Path:
    """Return the path of a processor."""
    return processor_file(tmp_path, _CHORES.format(ran=str(ran)))


async def pack(caller: Caller, datas: list[Any]) -> list[Call]:
    """Have the pool believe in short jobs, and submit calls that share a packet."""
    for child in caller.pool.supervisor.ready:
        await wait_until_async(partial(_is_idle, child))
    for _ in range(100):
        caller.pool.placement.measure(0.00001)
    caller.pool.placement.adjust()
    calls = caller.submit_all(datas)
    assert not calls or calls[0].is_packed, "they went one by one"
    return calls


async def _is_idle(child: Any) -> bool:
    return not child.flying


def runs_of(ran: Path) -> Counter[str]:
    """Return how often each job has run."""
    return Counter(ran.read_text().split())


async def outcomes_of(caller: Caller, calls: list[Call]) -> list[Any]:
    """Wait for the ends of calls."""
    return [await caller.outcome(call) for call in calls]


def test_short_calls_share_a_packet_and_each_has_its_own_answer(chores: Path) -> None:
    """The values must not be mixed up."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = await pack(caller, [{}] * 5 + [{"fail": 1}] + [{}] * 30)
            outcomes = await outcomes_of(caller, calls)
            value = Completed(str(caller.pool.pids[0]).encode())
            assert outcomes[:5] + outcomes[6:] == [value] * 35
            assert isinstance(outcomes[5], Failed)
            assert caller.order == [call.key for call in calls]

    run_async(main())


def test_calls_behind_a_long_one_in_its_packet_go_to_others(
    chores: Path, ran: Path, gate: Gate
) -> None:
    """The child has read them, and does not get to them: they must not wait for the long one."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            note = [{"note": 1}] * (2 * _PACKET - 1)
            long, *others = await pack(caller, [{"until": gate.path}, *note])
            await outcomes_of(caller, others)
            assert long.key not in caller.outcomes
            gate.open()
            await caller.outcome(long)
            assert set(runs_of(ran).values()) == {1}
            await wait_until_async(lambda: _both_work(caller))

    run_async(main())


async def _both_work(caller: Caller) -> bool:
    calls = await pack(caller, [{"sleep": 0.01}] * 2 * _PACKET)
    return {each.value for each in await outcomes_of(caller, calls)} == {
        str(pid).encode() for pid in caller.pool.pids
    }


def test_answers_do_not_wait_for_a_long_job_behind_them(chores: Path, gate: Gate) -> None:
    """A job that is done is done, whatever the next one in the packet turns out to be."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = await pack(caller, [{}, {}, {"until": gate.path}, {}])
            await outcomes_of(caller, calls[:2])
            assert calls[2].key not in caller.outcomes
            gate.open()
            await outcomes_of(caller, calls)

    run_async(main())


@pytest.mark.parametrize("before", [0, 1, 5, 7])
def test_death_in_a_packet_is_the_fault_of_one(chores: Path, ran: Path, before: int) -> None:
    """Those before it are done, though their answers were not sent; those behind it never began."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            datas: list[Any] = [{"note": 1}] * _PACKET
            datas[before] = {"note": 1, "die": 1}
            calls = await pack(caller, datas)
            outcomes = await outcomes_of(caller, calls)
            guilty = outcomes.pop(before)
            assert isinstance(guilty, Failed)
            assert guilty.is_crash
            assert all(isinstance(each, Completed) for each in outcomes)
            assert runs_of(ran) == Counter(call.key.decode() for call in calls)
            assert not any(call.unbegun for call in calls)

    run_async(main())


def test_child_killed_in_a_long_job_had_answered_what_was_before(chores: Path, ran: Path) -> None:
    """A kill from outside finds answers that no packet carries yet, or carries already."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            calls = await pack(caller, [{"note": 1}] * 3 + [{"sleep": 30, "note": 1}])
            await wait_until_async(lambda: _have_run(ran, 4))
            holder = next(child for child in caller.pool.supervisor.ready if child.flying)
            os.kill(holder.pid, signal.SIGKILL)
            *done, killed = await outcomes_of(caller, calls)
            assert all(isinstance(each, Completed) for each in done)
            assert isinstance(killed, Failed)
            assert set(runs_of(ran).values()) == {1}

    run_async(main())


async def _have_run(ran: Path, count: int) -> bool:
    return runs_of(ran).total() == count


def test_call_that_is_cancelled_before_it_begins_does_not_run(
    chores: Path, ran: Path, gate: Gate
) -> None:
    """It stands in a packet that its child has read; the neighbours go on as if nothing was."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = await pack(caller, [{"until": gate.path}] + [{"note": 1}] * 7)
            await caller.until_begun(calls[0])  # the packet is read
            caller.pool.cancel_call(calls[3], JobCancelled("not needed"), grace=1)
            gate.open()
            assert isinstance(caller.outcomes[calls[3].key], Failed)
            others = calls[:3] + calls[4:]
            assert all(isinstance(each, Completed) for each in await outcomes_of(caller, others))
            assert runs_of(ran) == Counter(call.key.decode() for call in others[1:])

    run_async(main())


def test_what_has_not_begun_is_given_back(chores: Path, ran: Path, gate: Gate) -> None:
    """A worker that stops gives its jobs to others at once, those in a read packet too."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = await pack(caller, [{"until": gate.path}] + [{"note": 1}] * 15)
            await caller.until_begun(calls[0])
            assert caller.pool.take_back() == calls[1:]
            gate.open()
            assert isinstance(await caller.outcome(calls[0]), Completed)
            assert caller.pool.held == 0
            assert not runs_of(ran)
            assert isinstance(await caller.run({}), Completed)

    run_async(main())


def test_leaving_child_takes_nothing_along(chores: Path, ran: Path, gate: Gate) -> None:
    """A child that is retired in the middle of a packet finishes its job and leaves the rest."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            calls = await pack(caller, [{"until": gate.path}] + [{"note": 1}] * 15)
            await caller.until_begun(calls[0])
            resizing = asyncio.create_task(caller.pool.resize(1))
            await asyncio.sleep(0)
            gate.open()
            await resizing
            assert all(isinstance(each, Completed) for each in await outcomes_of(caller, calls))
            assert runs_of(ran) == Counter(call.key.decode() for call in calls[1:])

    run_async(main())


def test_calls_taken_back_all_the_time_run_once_each(chores: Path, ran: Path) -> None:
    """The token decides between a child that begins and a coordinator that takes back."""

    async def main() -> None:
        async with open_pool(chores, size=2) as caller:
            calls = await pack(caller, [{"note": 1, "sleep": 0.0001 * (i % 3)} for i in range(400)])
            turns = 0
            while len(caller.outcomes) < len(calls):
                caller.pool.placement.measure(0.00001, count=50)
                caller.pool.placement.adjust()
                caller.pool.submit_all(caller.pool.take_back())
                turns += 1
                await asyncio.sleep(0.0003 * (turns % 5))
            assert turns > 5
            assert all(isinstance(each, Completed) for each in caller.outcomes.values())
            assert runs_of(ran) == Counter(call.key.decode() for call in calls)

    run_async(main())


def test_timeout_of_a_call_in_a_packet_ends_that_call(chores: Path) -> None:
    """Its clock starts when it begins, not when the packet was sent."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = [caller.make({"sleep": seconds}) for seconds in (0.6, 0.6, 60, 0.01)]
            for call in calls:
                call.timeout = 1.0
            await pack(caller, [])
            caller.pool.submit_all(calls)
            first, second, late, last = await outcomes_of(caller, calls)
            assert isinstance(first, Completed)
            assert isinstance(second, Completed)
            assert isinstance(late, Failed)
            assert late.cause == "JobTimeout"
            assert isinstance(last, Completed)

    run_async(main())


def test_no_child_runs_more_calls_than_it_may(chores: Path) -> None:
    """The limit is exact, and packets end with it."""

    async def main() -> None:
        async with open_pool(chores, size=2, recycling=Recycling(max_jobs=13)) as caller:
            calls = await pack(caller, [{}] * 200)
            outcomes = await outcomes_of(caller, calls)
            counts = Counter(each.value for each in outcomes)
            assert max(counts.values()) <= 13
            assert sum(counts.values()) == 200

    run_async(main())


def test_usage_is_that_of_each_call(chores: Path) -> None:
    """CPU of a neighbour in the packet is not one's own."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            datas: list[Any] = [{}] * _PACKET
            datas[3] = {"burn": 0.1}
            calls = await pack(caller, datas)
            await outcomes_of(caller, calls)
            used = [sum(call.usage[1:3]) for call in calls if call.usage]
            assert len(used) == _PACKET
            assert used.pop(3) >= 90_000
            assert max(used) < 50_000
            assert min(used) >= 0

    run_async(main())


def test_short_calls_share_what_their_packet_has_used(chores: Path) -> None:
    """By their time: that of all is read once, and nothing of it is lost."""

    async def main() -> None:
        async with open_pool(chores, size=1) as desk:
            (child,) = desk.pool.supervisor.ready
            before = child.user_us + child.system_us
            calls = await pack(desk, [{"burn": 0.0001}, *[{}] * (_PACKET - 1)])
            await outcomes_of(desk, calls)
            used = [sum(call.usage[1:3]) for call in calls if call.usage]
            assert len(used) == _PACKET
            assert sum(used) == child.user_us + child.system_us - before
            assert min(used) >= 0
            assert min(call.usage[3] for call in calls if call.usage) > 1_000_000

    run_async(main())


def test_a_long_call_of_a_packet_has_its_own_usage(chores: Path) -> None:
    """One that waits has not computed what those before it have."""

    async def main() -> None:
        async with open_pool(chores, size=1) as desk:
            calls = await pack(desk, [{}, {"sleep": 0.05}, {}, {"burn": 0.05}, {}, {"sleep": 0.05}])
            await outcomes_of(desk, calls)
            used = [sum(call.usage[1:3]) for call in calls if call.usage]
            assert used[3] >= 45_000
            assert max(used[1], used[5]) < 40_000

    run_async(main())


def test_printed_lines_are_those_of_their_call(chores: Path) -> None:
    """A packet of calls has not one output, and none is lost."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = await pack(caller, [{"print": f"said {number}"} for number in range(32)])
            await outcomes_of(caller, calls)
            expected = [(call.key, f"said {number}") for number, call in enumerate(calls)]
            assert [(key, line) for key, _, line in caller.lines] == expected

    run_async(main())


def test_text_in_a_pipe_is_never_that_of_a_later_call(chores: Path) -> None:
    """What a job left there must be read before anybody else is to blame for it."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = await pack(caller, [{"raw": str(number)} for number in range(32)])
            await outcomes_of(caller, calls)
            lines = {int(line): key for key, _, line in caller.lines}
            assert len(lines) == 32
            assert all(key and int(key) <= int(calls[n].key) for n, key in lines.items())

    run_async(main())


def test_text_of_a_job_that_goes_on_is_its_own(chores: Path) -> None:
    """The jobs before it have ended, though nobody was told yet."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            calls = await pack(caller, [{}, {}, {"raw": "mine", "sleep": 0.2}, {}])
            await outcomes_of(caller, calls)
            assert [(key, line) for key, _, line in caller.lines] == [(calls[2].key, "mine")]

    run_async(main())


def test_a_call_that_cannot_be_sent_fails_alone(chores: Path) -> None:
    """Those of its packet are sent, also the next time."""

    async def main() -> None:
        async with open_pool(chores, policy="limits") as caller:
            for call in caller.submit_all([{}] * 300):  # so that they share packets
                assert isinstance(await caller.outcome(call), Completed)
            calls = [caller.make({}) for _ in range(_PACKET)]
            bad: Any = calls[3]
            bad.payload = "no bytes"
            caller.pool.submit_all(calls)
            for call in calls:
                outcome = await caller.outcome(call)
                assert isinstance(outcome, Failed if call is bad else Completed), outcome
            assert isinstance(await caller.run({}), Completed)

    run_async(main())
