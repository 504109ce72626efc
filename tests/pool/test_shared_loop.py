"""The tasks and settings of one job in an event loop are no other job's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed, HandedBack
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_SHARED = """
import asyncio, os, signal, sys
from asyncio import all_tasks, current_task, get_running_loop, sleep
from concurrent.futures import ThreadPoolExecutor

heard = []
gate = None

async def setup():
    global gate, clock
    gate = asyncio.Event()
    clock = asyncio.create_task(tick())

async def tick():
    while True:
        await sleep(0.01)

async def process(job):
    return await globals()[job.data](job)

# what neighbours do: own tasks, generators, executors, a signal
async def numbers():
    for number in range(3):
        await gate.wait()
        yield number

async def good(job):
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(gate.wait())
        await asyncio.gather(sleep(0.05), gate.wait())
    found = [number async for number in numbers()]
    found.append(await get_running_loop().run_in_executor(None, len, "four"))
    found.append(await get_running_loop().create_task(sleep(0, "five")))
    return found

async def opens(job):
    gate.set()

def others():
    return [task for task in all_tasks() if task is not current_task()]

# deeds
async def cancels_all(job):
    for task in all_tasks():
        task.cancel()
    await sleep(60)

async def cancels_others(job):
    for task in others():
        task.cancel()
    await asyncio.gather(*others(), return_exceptions=True)

async def cancels_and_swallows(job):
    try:
        await cancels_others(job)
    except BaseException:
        return "swallowed"

async def cancels_and_goes_on(job):
    while True:
        try:
            await cancels_others(job)
        except BaseException:
            await sleep(0)

async def gathers_others(job):
    gathered = asyncio.gather(*others())
    await sleep(0)
    gathered.cancel()
    await sleep(60)

async def waits_for_others(job):
    async with asyncio.timeout(0.2):
        await asyncio.gather(*others())

async def cancels_in_a_task(job):
    asyncio.create_task(cancels_others(job))
    await sleep(60)

async def cancels_in_a_group(job):
    async with asyncio.TaskGroup() as group:
        group.create_task(cancels_others(job))

async def cancels_in_a_callback(job):
    for task in others():
        get_running_loop().call_later(0.1, task.cancel)
    await sleep(60)

async def cancels_in_a_thread(job):
    for task in others():
        await asyncio.to_thread(get_running_loop().call_soon_threadsafe, task.cancel)
    await sleep(60)

async def exits_soon(job):
    get_running_loop().call_soon(sys.exit, 4)
    await sleep(60)

async def exits_later(job):
    get_running_loop().call_later(0.1, sys.exit, 4)
    await sleep(60)

async def exits_when_done(job):
    asyncio.create_task(sleep(0)).add_done_callback(sys.exit)
    await sleep(60)

async def exits_handling(job):
    get_running_loop().set_exception_handler(lambda *_: sys.exit(3))
    get_running_loop().call_soon(lambda: 1 / 0)
    await sleep(60)

async def exits_handling_of_task(job):
    def leave(*_): raise SystemExit(3)
    get_running_loop().set_exception_handler(leave)
    async def fails(): 1 / 0
    asyncio.create_task(fails())
    await sleep(60)

async def raises_at_a_signal(job):
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    await sleep(60)

async def exits_at_a_signal(job):
    get_running_loop().add_signal_handler(signal.SIGALRM, sys.exit, 3)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    await sleep(60)

async def exits_in_a_bare_task(job):
    asyncio.Task(exits_after_a_while(), loop=get_running_loop())
    await sleep(60)

async def exits_after_a_while():
    await sleep(0.1)
    sys.exit(3)

async def exits_from_a_thread(job):
    loop = get_running_loop()
    await asyncio.to_thread(asyncio.run_coroutine_threadsafe, exits_after_a_while(), loop)
    await sleep(60)

async def stops_from_a_thread(job):
    loop = get_running_loop()
    loop.run_in_executor(None, loop.call_soon_threadsafe, loop.stop)
    await sleep(60)

async def exits_in_a_group(job):
    async with asyncio.TaskGroup() as group:
        group.create_task(exits_after_a_while())
        group.create_task(sleep(60))

async def shuts_generators(job):
    await get_running_loop().shutdown_asyncgens()

async def shuts_executor(job):
    await get_running_loop().shutdown_default_executor()

async def closes(job):
    get_running_loop().close()

async def closes_later(job):
    get_running_loop().call_soon(get_running_loop().close)
    await sleep(0.1)
    raise RuntimeError("it could not be closed")

# settings
async def sets_executor(job):
    executor = ThreadPoolExecutor(1, thread_name_prefix="mine")
    get_running_loop().set_default_executor(executor)
    import threading
    name = await asyncio.to_thread(lambda: threading.current_thread().name)
    executor.shutdown()
    await gate.wait()
    return name

async def sets_factory(job):
    get_running_loop().set_task_factory(lambda *_, **__: 1 / 0)
    await gate.wait()
    try:
        asyncio.create_task(sleep(0))
    except ZeroDivisionError:
        return "mine"

async def sets_debug(job):
    get_running_loop().set_debug(True)
    await gate.wait()
    return "mine"

async def sets_handler(job):
    get_running_loop().set_exception_handler(lambda _, context: heard.append(context["message"]))
    get_running_loop().call_exception_handler({"message": "mine"})
    await gate.wait()
    return heard[-1]

async def sets_signal(job):
    get_running_loop().add_signal_handler(signal.SIGUSR1, heard.append, "signal")
    os.kill(os.getpid(), signal.SIGUSR1)
    while "signal" not in heard:
        await sleep(0.01)
    await gate.wait()
    return "mine"

async def state(job):
    loop = get_running_loop()
    return [
        os.getpid(), repr(loop.get_exception_handler()), loop.get_debug(),
        repr(signal.getsignal(signal.SIGUSR1)), clock.done(),
        await loop.run_in_executor(None, len, "four"),
    ]

async def keeps_a_task(job):
    async def deaf():
        while True:
            try:
                await sleep(0.05)
            except asyncio.CancelledError:
                pass
    asyncio.create_task(deaf())
    await sleep(0.01)
    return os.getpid()
"""

_OTHERS = "cancelled a task of another job"
_DEEDS = {
    "cancels_all": _OTHERS,
    "cancels_others": _OTHERS,
    "cancels_and_swallows": _OTHERS,
    "cancels_and_goes_on": _OTHERS,
    "gathers_others": _OTHERS,
    "waits_for_others": _OTHERS,
    "cancels_in_a_task": _OTHERS,
    "cancels_in_a_group": _OTHERS,
    "cancels_in_a_callback": _OTHERS,
    "cancels_in_a_thread": _OTHERS,
    "exits_soon": "sys.exit(4)",
    "exits_later": "sys.exit(4)",
    "exits_when_done": "sys.exit(",
    "exits_handling": "sys.exit(3)",
    "exits_handling_of_task": "sys.exit(3)",
    "raises_at_a_signal": "division by zero",
    "exits_at_a_signal": "sys.exit(3)",
    "exits_in_a_bare_task": "sys.exit(3)",
    "exits_from_a_thread": "sys.exit(3)",
    "stops_from_a_thread": "stopped the event loop",
    "exits_in_a_group": "sys.exit(3)",
    "shuts_generators": "closed all asynchronous generators",
    "shuts_executor": "shut down the executor",
    "closes": "Cannot close a running event loop",
    "closes_later": "it could not be closed",
}
_GOOD = Completed(b'[0,1,2,4,"five"]')


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return the path of a processor whose jobs reach for each other's tasks."""
    return processor_file(tmp_path, _SHARED)


@pytest.mark.parametrize("deed", _DEEDS)
def test_what_one_job_does_to_the_loop_ends_no_other(shared: Path, deed: str) -> None:
    """It fails, with a reason that says what it did; its neighbours end well or go back."""

    async def main() -> None:
        async with open_pool(shared, concurrency=6, policy="limits") as caller:
            good = [caller.submit("good") for _ in range(3)]
            await caller.until_begun(*good)
            failed = await caller.failure(deed)
            assert _DEEDS[deed] in failed.reason
            await caller.value("opens")
            for call in good:
                ended = await caller.outcome(call)
                assert ended == _GOOD or (isinstance(ended, HandedBack) and ended.is_neighbour)
            assert (await caller.value("state"))[4:] == [False, 4]

    run_async(main())


@pytest.mark.parametrize("what", ["executor", "factory", "debug", "handler", "signal"])
def test_what_a_job_sets_at_the_loop_is_its_own(shared: Path, what: str) -> None:
    """For as long as it runs; jobs beside it and after it see what setup() has left."""

    async def main() -> None:
        async with open_pool(shared, concurrency=6, policy="limits") as caller:
            before = await caller.value("state")
            sets, good = caller.submit(f"sets_{what}"), caller.submit("good")
            await caller.until_begun(sets, good)
            await caller.value("opens")
            own = await caller.outcome(sets)
            assert isinstance(own, Completed), own
            assert own.value.startswith(b'"mine')
            assert await caller.outcome(good) == _GOOD
            assert await caller.value("state") == before

    run_async(main())


def test_a_task_that_does_not_end_with_its_job_has_the_child_replaced(shared: Path) -> None:
    """It would run beside jobs that know nothing of it, for as long as the child lives."""

    async def main() -> None:
        async with open_pool(shared, concurrency=6, policy="limits") as caller:
            pid = await caller.value("keeps_a_task")

            async def is_replaced() -> bool:
                return bool(caller.pool.pids) and pid not in caller.pool.pids

            await wait_until_async(is_replaced)
            assert not isinstance(await caller.run("opens"), Failed)

    run_async(main())
