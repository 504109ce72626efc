"""What one job of an event loop does ends that job; those beside it end as they would have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed, HandedBack
from sandboxq.sandbox.processes import children_of, living
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_BESIDE = """
import asyncio, concurrent.futures, os, subprocess, sys, tempfile, threading, time

executor = concurrent.futures.ThreadPoolExecutor(2)
left = []

async def process(job):
    do = job.data.get("do", "good")
    return await globals()[do](job)

async def good(job):
    await asyncio.sleep(1.5)
    return "good"

async def later(function, *args):
    await asyncio.sleep(0.3)
    function(*args)

async def stray(job, function, *args):
    asyncio.create_task(later(function, *args))
    await asyncio.sleep(60)

async def exits(job): await stray(job, sys.exit, "config missing")
async def interrupts(job): await stray(job, raise_keyboard)
async def stops(job):
    asyncio.get_running_loop().stop()
async def stray_stops(job):
    asyncio.create_task(later(asyncio.get_running_loop().stop))
    await asyncio.sleep(60)
async def leaves(job): await stray(job, os._exit, 3)
async def leaves_in_callback(job):
    asyncio.get_running_loop().call_later(0.3, os._exit, 3)
    await asyncio.sleep(60)
async def exits_in_callback(job):
    asyncio.get_running_loop().call_later(0.3, sys.exit, 3)
    await asyncio.sleep(60)
async def stops_in_callback(job):
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, loop.stop)
    await asyncio.sleep(60)
async def raises_in_callback(job):
    asyncio.get_running_loop().call_later(0.3, raise_keyboard)
    await asyncio.sleep(0.6)
    return "its own"
async def exits_itself(job): sys.exit(3)
async def gathers(job):
    await asyncio.gather(later(sys.exit, 3), asyncio.sleep(60))
async def blocks(job): time.sleep(60)

def raise_keyboard(): raise KeyboardInterrupt

async def leaves_task(job):
    async def tick():
        try:
            while True:
                left.append("tick")
                await asyncio.sleep(0.01)
        finally:
            left.append("ended")
    asyncio.create_task(tick())
    await asyncio.sleep(0.1)

async def what_is_left(job):
    count = len(left)
    await asyncio.sleep(0.2)
    return [len(left) - count, left[-1:]]

async def leaves_much(job):
    os.chdir("/")
    os.environ["LEFT"] = "1"
    tempfile.mkdtemp()
    subprocess.Popen(["sleep", "300"])
    return os.getpid()

async def leaves_files(job):
    left.extend(open("/dev/null") for _ in range(200))
    return os.getpid()

async def state(job):
    return [os.getcwd(), os.environ.get("LEFT"), os.listdir(tempfile.gettempdir()), os.getpid()]

async def prints(job):
    name = job.id
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.2)
    await loop.run_in_executor(None, print, f"{name} in executor")
    await loop.run_in_executor(executor, print, f"{name} in own executor")
    await asyncio.to_thread(print, f"{name} in to_thread")
    executor.submit(print, f"{name} submitted").result()
    thread = threading.Thread(target=print, args=(f"{name} in thread",))
    thread.start()
    thread.join()
"""


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """Return the path of a processor whose jobs do no good to others."""
    return processor_file(tmp_path, _BESIDE)


@pytest.mark.parametrize(
    ("do", "text"),
    [
        ("exits", "sys.exit('config missing')"),
        ("interrupts", "KeyboardInterrupt"),
        ("stops", "have stopped the event loop"),
        ("stray_stops", "have stopped the event loop"),
        ("exits_itself", "sys.exit(3)"),
        ("gathers", "sys.exit(3)"),
        ("exits_in_callback", "sys.exit(3)"),
        ("stops_in_callback", "have stopped the event loop"),
    ],
)
def test_a_job_that_would_end_the_loop_fails_alone(beside: Path, do: str, text: str) -> None:
    """Its neighbours do not even notice, and its child goes on."""

    async def main() -> None:
        async with open_pool(beside, concurrency=5) as caller:
            good = [caller.submit({}) for _ in range(3)]
            await caller.until_begun(*good)
            failed = await caller.failure({"do": do})
            assert text in failed.reason
            for call in good:
                assert await caller.outcome(call) == Completed(b'"good"')
            assert await caller.value({}) == "good"
            assert len(caller.pool.pids) == 1

    run_async(main())


def test_nobody_ends_the_loop_from_aside(beside: Path) -> None:
    """Where it cannot be told whose code it was: a callback that raises what ends loops."""

    async def main() -> None:
        async with open_pool(beside, concurrency=5) as caller:
            good = caller.submit({})
            assert await caller.value({"do": "raises_in_callback"}) == "its own"
            assert await caller.outcome(good) == Completed(b'"good"')

    run_async(main())


@pytest.mark.parametrize("do", ["leaves", "leaves_in_callback"])
def test_a_job_that_ends_the_process_is_told_from_its_neighbours(beside: Path, do: str) -> None:
    """These go back, with a note that they were beside it."""

    async def main() -> None:
        async with open_pool(beside, concurrency=5) as caller:
            good = [caller.submit({}) for _ in range(3)]
            await caller.until_begun(*good)
            bad = caller.submit({"do": do})
            outcome = await caller.outcome(bad)
            assert isinstance(outcome, Failed), outcome
            assert "exit code 3" in outcome.reason
            for call in good:
                ended = await caller.outcome(call)
                assert isinstance(ended, HandedBack), ended
                assert ended.is_neighbour

    run_async(main())


def test_tasks_end_with_their_job(beside: Path) -> None:
    """What one has left running does not run beside the next."""

    async def main() -> None:
        async with open_pool(beside, concurrency=5) as caller:
            await caller.value({"do": "leaves_task"})
            assert await caller.value({"do": "what_is_left"}) == [0, ["ended"]]

    run_async(main())


def test_lines_of_threads_belong_to_their_job(beside: Path) -> None:
    """From executors, whoever has made them, and from threads of its own."""

    async def main() -> None:
        async with open_pool(beside, concurrency=5) as caller:
            calls = [caller.submit({"do": "prints"}) for _ in range(5)]
            for call in calls:
                assert isinstance(await caller.outcome(call), Completed)
            for call in calls:
                name = call.key.decode()
                lines = {line for key, _, line in caller.lines if key == call.key}
                places = ("executor", "own executor", "to_thread", "thread")
                assert lines == {*(f"{name} in {place}" for place in places), f"{name} submitted"}

    run_async(main())


def test_what_is_left_is_cleared_when_no_job_runs(beside: Path) -> None:
    """Not while others run: whose it is nobody can tell then."""

    async def main() -> None:
        async with open_pool(beside, concurrency=5, policy="limits") as caller:
            good = caller.submit({})
            await caller.until_begun(good)
            before = await caller.value({"do": "state"})
            await caller.value({"do": "leaves_much"})
            assert await caller.outcome(good) == Completed(b'"good"')

            async def is_cleared() -> bool:
                below = [pid for child in caller.pool.pids for pid in children_of(child)]
                return not living(below)

            await wait_until_async(is_cleared)
            assert await caller.value({"do": "state"}) == before

    run_async(main())


def test_leaked_descriptors_have_the_child_replaced(beside: Path) -> None:
    """Also while others run, which it finishes."""

    async def main() -> None:
        async with open_pool(beside, concurrency=5, policy="limits") as caller:
            good = caller.submit({})
            await caller.until_begun(good)
            pid = await caller.value({"do": "leaves_files"})
            assert await caller.outcome(good) == Completed(b'"good"')

            async def is_replaced() -> bool:
                return bool(caller.pool.pids) and pid not in caller.pool.pids

            await wait_until_async(is_replaced)
            assert (await caller.value({"do": "state"}))[-1] != pid

    run_async(main())
