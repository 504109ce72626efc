"""What a processor may do, and what the pool tells of it."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.child.output import LINES_LIMIT
from sandboxq.model.outcome import Completed
from tests.conftest import SOON, run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_CHORES = """
import logging, os, subprocess, sys, threading, time

class UnrecoverableError(Exception):
    pass

class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")

class Circle(Exception):
    pass

def raise_circle():
    error = Circle("round")
    error.me = error
    raise error

def nested(job):
    raise_circle()

ACTIONS = {}

def process(job):
    return globals()["do_" + job.name_of_action](job) if False else ACTIONS[job.data["do"]](job)

def action(function):
    ACTIONS[function.__name__.removeprefix("do_")] = function
    return function

@action
def do_value(job): return job.data["value"]
@action
def do_pid(job): return os.getpid()
@action
def do_fail(job): raise ValueError("bad colour")
@action
def do_deep(job): nested(job)
@action
def do_empty(job): raise ValueError
@action
def do_number(job): raise ValueError(42)
@action
def do_odd(job): raise Odd
@action
def do_exit(job): sys.exit(3)
@action
def do_interrupt(job): raise KeyboardInterrupt
@action
def do_give_up(job): raise UnrecoverableError("no use")
@action
def do_nan(job): return {"a": [1, float("nan")]}
@action
def do_bytes(job): return {"picture": {b"x"}}
@action
def do_object(job): return [1, {"b": threading.Lock()}]
@action
def do_loop(job):
    a = []; a.append(a); return a
@action
def do_surrogate(job): return "\\ud800"
@action
def do_unicode(job): return "größe"
@action
def do_fields(job):
    return [job.id, job.name, job.opts, job.attempts_made, job.attempts_started, job.queue_name,
            job.parent, job.token, job.timestamp, job.progress, job.cancelled, job.priority]
@action
def do_report(job):
    job.update_progress({"done": 40}); job.log("row one"); job.log(2); job.update_data({"x": 1})
    return job.data
@action
def do_print(job):
    print("out"); print("err", file=sys.stderr); logging.getLogger("mine").info("said %d", 5)
    print("no newline", end="")
    sys.stdout.buffer.write(b"bytes\\n")
    subprocess.run(["echo", "from a program"])
    t = threading.Thread(target=print, args=("from a thread",)); t.start(); t.join()
@action
def do_flood(job):
    for i in range(job.data["lines"]): print(i)
@action
def do_fd_flood(job):
    line = b"x" * 99 + b"\\n"
    for _ in range(job.data["mb"] * 10): os.write(1, line * 1048)
@action
def do_long_line(job): os.write(2, b"y" * 50_000 + b"\\n")
@action
def do_huge(job): return "x" * (257 << 20)
@action
def do_sleep(job): time.sleep(job.data["seconds"])
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor with many actions."""
    return processor_file(tmp_path, _CHORES)


def test_value_arrives_as_the_bytes_that_the_child_wrote(chores: Path) -> None:
    """The coordinator must not decode results: they go into Redis as they are."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            outcome = await caller.run({"do": "value", "value": {"a": [1, None, "ü"]}})
            assert outcome == Completed('{"a":[1,null,"ü"]}'.encode())
            assert await caller.run({"do": "sleep", "seconds": 0}) == Completed(b"null")
            assert await caller.value({"do": "unicode"}) == "größe"
            assert await caller.run({"do": "surrogate"}) == Completed(b'"\\ud800"')

    run_async(main())


def test_failure_names_message_class_and_the_users_frames_only(chores: Path) -> None:
    """A trace that starts in our loop teaches users to skip what they read."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            failed = await caller.failure({"do": "deep"})
            assert (failed.reason, failed.cause) == ("round", "Circle")
            assert failed.stack.count("chores.py") == 4
            assert "sandboxq" not in failed.stack.replace(str(chores), "")
            assert not failed.is_unrecoverable
            assert (await caller.failure({"do": "number"})).reason == "42"
            assert (await caller.failure({"do": "empty"})).reason == "ValueError"
            assert (await caller.failure({"do": "give_up"})).is_unrecoverable

    run_async(main())


def test_a_class_of_a_file_with_a_taken_name_is_called_as_in_the_file(tmp_path: Path) -> None:
    """How we name its module concerns nobody."""
    text = "class Lost(Exception): pass\ndef process(job): raise Lost('letter')\n"

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, text, "email.py")) as caller:
            assert (await caller.failure()).stack.endswith("\nemail.Lost: letter\n")

    run_async(main())


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("odd", "message could not be read"),
        ("exit", "sys.exit(3)"),
        ("interrupt", "KeyboardInterrupt"),
        ("nan", "nan at $.a[1]"),
        ("bytes", "set at $.picture"),
        ("object", "lock at $[1].b"),
        ("loop", "$[0] contains itself"),
    ],
)
def test_odd_endings_fail_the_job_and_keep_the_child(chores: Path, action: str, text: str) -> None:
    """A child costs milliseconds to replace and its caches are gone: only real deaths end it."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            pid = await caller.value({"do": "pid"})
            failed = await caller.failure({"do": action})
            assert text in failed.reason, failed
            assert await caller.value({"do": "pid"}) == pid

    run_async(main())


def test_data_that_is_no_json_fails_the_job_with_a_reason(chores: Path) -> None:
    """Redis may hold anything; the job's owner must be told what is wrong with it."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            for raw in (b"{not json", b"\xff\xfe", b"[" * 100_000):
                failed = await caller.failure(raw)
                assert "the data of job" in failed.reason
                assert "is not JSON" in failed.reason

    run_async(main())


def test_job_shows_the_fields_of_the_hash(chores: Path) -> None:
    """Processors written for BullMQ look at these."""
    parent = {"id": "7", "queueKey": "bull:albums"}

    async def main() -> None:
        async with open_pool(chores, queue_name="images") as caller:
            value = await caller.value(
                {"do": "fields"},
                opts=b'{"attempts":3}',
                parent=json.dumps(parent).encode(),
                token=b"worker:1",
                timestamp=b"1700000000000",
                progress=b"40",
                priority=b"5",
                attempts_made=1,
                attempts_started=2,
            )
            assert value == [
                "1", "test", {"attempts": 3}, 1, 2, "images",
                parent, "worker:1", 1700000000000, 40, False, 5,
            ]  # fmt: skip

    run_async(main())


def test_reports_come_before_the_outcome_and_in_order(chores: Path) -> None:
    """Progress that arrives after completion would be refused by Redis."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            assert await caller.value({"do": "report"}) == {"x": 1}
            assert caller.reports == [
                (b"1", "progress", b'{"done":40}'),
                (b"1", "log", b"row one"),
                (b"1", "log", b"2"),
                (b"1", "data", b'{"x":1}'),
            ]

    run_async(main())


def test_everything_printed_reaches_the_job_that_printed_it(chores: Path) -> None:
    """print, logging, threads, bytes and programs: users look for all of it in the log."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            await caller.value({"do": "print"})
            assert sorted(caller.lines) == sorted([
                (b"1", "stdout", "out"),
                (b"1", "stderr", "err"),
                (b"1", "logging", "INFO mine: said 5"),
                (b"1", "stdout", "no newlinebytes"),
                (b"1", "stdout", "from a thread"),
                (b"1", "stdout", "from a program"),
            ])  # fmt: skip

    run_async(main())


def test_flood_of_lines_is_capped_with_a_notice(chores: Path) -> None:
    """A job that prints in a loop must not fill Redis or the coordinator."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            await caller.value({"do": "flood", "lines": LINES_LIMIT + 500})
            assert len(caller.lines) == LINES_LIMIT + 1
            assert "not kept" in caller.lines[-1][2]
            caller.lines.clear()
            await caller.value({"do": "flood", "lines": 3})
            assert len(caller.lines) == 3

    run_async(main())


def test_flood_of_native_output_neither_blocks_the_loop_nor_grows(chores: Path) -> None:
    """C code writes at 1 GB/s; heartbeats must go on meanwhile."""
    import asyncio

    async def main() -> None:
        async with open_pool(chores) as caller:
            call = caller.submit({"do": "fd_flood", "mb": 20})
            longest = 0.0
            while call.key not in caller.outcomes:
                before = time.thread_time()  # what other programs take of the core is left out
                await asyncio.sleep(0.002)
                longest = max(longest, time.thread_time() - before)
            assert len(caller.lines) == LINES_LIMIT + 1
            assert longest < 0.25

    run_async(main())


def test_long_lines_are_cut(chores: Path) -> None:
    """A line without end must not be gathered without end."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            await caller.value({"do": "long_line"})
            assert [len(line) for _, _, line in caller.lines] == [16384, 16384, 16384, 848]

    run_async(main())


@pytest.mark.parametrize("size", [65_000, 70_000, 30_000_000])
def test_payloads_of_any_size_go_both_ways(chores: Path, size: int) -> None:
    """Messages above one packet are cut into many; every size around the border must survive."""
    text = os.urandom(1000).hex() * (size // 2000)

    async def main() -> None:
        async with open_pool(chores) as caller:
            assert await caller.value({"do": "value", "value": text}) == text
            assert await caller.value({"do": "value", "value": 1}) == 1

    run_async(main())


@pytest.mark.slow
def test_value_above_the_limit_fails_for_good_and_the_child_lives(chores: Path) -> None:
    """It would be as large at the next attempt; Redis could not take it either."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            failed = await caller.failure({"do": "huge"})
            assert failed.cause == "ResultTooLarge"
            assert failed.is_unrecoverable
            assert await caller.value({"do": "value", "value": 1}) == 1
            assert len(caller.pool.pids) == 1

    run_async(main())


def test_seconds_are_the_childs_own_measure(chores: Path) -> None:
    """Depth and duration metrics follow from it; waiting in the socket must not count."""

    async def main() -> None:
        async with open_pool(chores) as caller:
            await caller.run({"do": "sleep", "seconds": 0.05})
            assert 0.05 <= caller.seconds[b"1"] < SOON

    run_async(main())
