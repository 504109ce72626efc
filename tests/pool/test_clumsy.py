"""Processors that break what they stand on: their own job may fail, the next one runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_DEEDS = """
import asyncio, atexit, builtins, json, os, resource, signal, sys, threading, time

def _ignore_signals():
    for number in range(1, 64):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass

def _patch_json():
    json.dumps = lambda *_, **__: "}{"
    json.loads = lambda *_, **__: 1 / 0

def _fork(end):
    if os.fork() == 0:
        end()

def _raise():
    raise ValueError

def _wait_for_ever():
    threading.Thread(target=time.sleep, args=(3600,)).start()
    atexit.register(time.sleep, 3600)

def _break_builtins():
    builtins.print = builtins.len = builtins.isinstance = None

def _loop_back():
    for fd in range(3, 64):
        try: os.dup2(1, fd)
        except OSError: pass

DEEDS = {
    "patch json": _patch_json,
    "break builtins": _break_builtins,
    "forget modules": sys.modules.clear,
    "ignore signals": _ignore_signals,
    "fork and leave": lambda: _fork(lambda: os._exit(0)),
    "fork and return": os.fork,
    "fork and raise": lambda: _fork(_raise),
    "close all": lambda: os.closerange(0, 64),
    "loop back": _loop_back,
    "close the output": lambda: (sys.stdout.close(), sys.stderr.close()),
    "no output": lambda: setattr(sys, "stdout", None),
    "trace": lambda: (sys.settrace(lambda *_: 1 / 0), sys.setprofile(lambda *_: 1 / 0)),
    "no descriptors": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)),
    "elsewhere": lambda: (os.chdir("/"), os.environ.clear(), os.umask(0o777)),
    "wait for ever": _wait_for_ever,
}

def process(job):
    if job.data["do"]:
        DEEDS[job.data["do"]]()
    return "done"
"""
# After these the child is beyond help; the job that did it fails as its crash.
_FATAL = ("break builtins", "close all", "loop back", "trace")
_HARMLESS = (
    *("patch json", "forget modules", "ignore signals", "fork and leave", "fork and return"),
    *("fork and raise", "close the output", "no output", "no descriptors", "elsewhere"),
    "wait for ever",
)


@pytest.mark.parametrize("policy", ["none", "limits"])
def test_what_breaks_only_itself_is_no_trouble(tmp_path: Path, policy: str) -> None:
    """All of it in one child, one after the other, and it still answers."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _DEEDS), policy=policy) as caller:
            for deed in _HARMLESS:
                assert await caller.value({"do": deed}) == "done", deed
                assert await caller.value({"do": ""}) == "done", deed

    run_async(main())


@pytest.mark.parametrize("deed", _FATAL)
def test_what_breaks_the_child_is_a_crash_of_that_job(tmp_path: Path, deed: str) -> None:
    """The next job has a new child."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _DEEDS)) as caller:
            outcome = await caller.run({"do": deed})
            assert isinstance(outcome, Failed), outcome
            assert outcome.is_crash
            assert isinstance(await caller.run({"do": ""}), Completed)

    run_async(main())


_TICKS = """
import signal

def process(job):
    ticks = 0
    def tick(number, frame):
        nonlocal ticks
        ticks += 1
        job.log("tick")
        print("tick")
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        while ticks < 150:
            job.update_progress(ticks)
            if job.data: print(ticks)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "done"
"""


@pytest.mark.parametrize("prints", [True, False])
def test_handlers_of_signals_may_report_and_print(tmp_path: Path, *, prints: bool) -> None:
    """They run in the thread that is just reporting, or printing."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _TICKS), policy="limits") as caller:
            for _ in range(2):
                assert await caller.value(prints) == "done"

    run_async(main())
