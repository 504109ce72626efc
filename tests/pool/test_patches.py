"""What a job puts in the place of others' code does not reach the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.observe.telemetry import ChildRecycled
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_PATCHES = """
import ctypes, faulthandler, gc, json, os, random, signal, socket, subprocess, sys, time
import numpy
from unittest.mock import MagicMock, patch

def process(job):
    return globals()[job.data]()

class Finder:
    def find_spec(self, *_): return None

def function(): json.dumps = lambda *_, **__: "{}"
def nothing(): json.loads = None
def mocked(): patch("time.sleep").start()
def mixed_up(): time.time = time.monotonic
def missing(): del os.getcwd
def no_module(): sys.modules["json"] = None
def other_module(): sys.modules["random"] = MagicMock()
def gone_module(): del sys.modules["subprocess"]
def other_environment(): os.environ = {}
def collector(): gc.callbacks.append(lambda *_: 1 / 0)
def no_finders(): sys.meta_path.clear()
def finder(): sys.meta_path.insert(0, Finder())
def path_hook(): sys.path_hooks.insert(0, lambda path: 1 / 0)
def wakeup():
    global pair
    pair = socket.socketpair()
    pair[0].setblocking(False)
    signal.set_wakeup_fd(pair[0].fileno())
def generators(): sys.set_asyncgen_hooks(lambda _: 1 / 0)
def breakpoints(): sys.breakpointhook = None
def dump_later(): faulthandler.dump_traceback_later(0.5, exit=True)
def sleeps(): time.sleep(1)
def of_a_library():
    random.choice = numpy.mean
    gc.callbacks.append(numpy.mean)

def c_handler():
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGUSR2, ctypes.cast(libc.abort, ctypes.c_void_p))
def audit(): sys.addaudithook(lambda *_: None)
def c_timer():
    ctypes.CDLL(None).timer_create(0, None, ctypes.byref(ctypes.c_long()))

def state():
    names = json.dumps, json.loads, time.sleep, time.time, getattr(os, "getcwd", None), os.environ
    modules = [sys.modules.get(name) for name in ("json", "random", "subprocess")]
    wakeup = signal.set_wakeup_fd(-1)
    if wakeup >= 0: signal.set_wakeup_fd(wakeup)
    return [
        list(map(id, [*names, *modules, *sys.meta_path, *sys.path_hooks, *gc.callbacks])), wakeup,
        repr(sys.get_asyncgen_hooks()), repr(sys.breakpointhook), os.getpid(),
    ]
def of_libraries(): return [os.getpid(), random.choice is numpy.mean, numpy.mean in gc.callbacks]
def pid(): return os.getpid()
"""
_OWN = (
    "function nothing mocked mixed_up missing no_module other_module gone_module collector "
    "other_environment no_finders finder path_hook wakeup generators breakpoints"
)


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Return the path of a processor whose jobs patch what is not theirs."""
    return processor_file(tmp_path, _PATCHES)


@pytest.mark.parametrize("deed", _OWN.split())
def test_what_a_job_patches_is_put_back(patches: Path, deed: str) -> None:
    """In the same child; the next job finds what the first one found."""

    async def main() -> None:
        async with open_pool(patches, policy="limits") as caller:
            before = await caller.value("state")
            for _ in range(2):
                await caller.value(deed)
                assert await caller.value("state") == before

    run_async(main())


def test_what_a_library_puts_there_stays(patches: Path) -> None:
    """It would miss it: what instruments a program is made in a job at times."""

    async def main() -> None:
        async with open_pool(patches, policy="limits") as caller:
            pid = await caller.value("pid")
            await caller.value("of_a_library")
            assert await caller.value("of_libraries") == [pid, True, True]

    run_async(main())


def test_a_dump_that_would_end_the_next_job_is_called_off(patches: Path) -> None:
    """It exits the process, after a time, whoever runs there."""

    async def main() -> None:
        async with open_pool(patches, policy="limits") as caller:
            await caller.value("dump_later")
            assert await caller.value("sleeps") is None

    run_async(main())


@pytest.mark.parametrize("deed", ["c_handler", "c_timer", "audit"])
def test_what_c_code_sets_has_the_child_replaced(patches: Path, deed: str) -> None:
    """Signal handlers and timers of which Python knows nothing."""

    async def main() -> None:
        async with open_pool(patches, policy="limits") as caller:
            pid = await caller.value("pid")
            await caller.value(deed)

            async def is_replaced() -> bool:
                return any(isinstance(event, ChildRecycled) for event in caller.events)

            await wait_until_async(is_replaced)
            assert await caller.value("pid") != pid

    run_async(main())


def test_a_child_that_is_used_as_it_should_be_is_not_replaced(patches: Path) -> None:
    """Whatever its jobs import and call, through ctypes too."""

    async def main() -> None:
        async with open_pool(patches, policy="limits") as caller:
            values: list[Any] = [await caller.value("state") for _ in range(3)]
            assert values[0] == values[1] == values[2]

    run_async(main())
