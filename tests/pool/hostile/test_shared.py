"""What a child shares with its coordinator: no flag, seal or end of it stops the coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sandboxq.child.frames import FAILED, NOT_MEASURED, REPLY
from sandboxq.model.outcome import Completed, Failed
from sandboxq.pool.transport.channel import Channel
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async, wait_until
from tests.pool.caller import lives, open_pool, processor_file
from tests.pool.hostile.attackers import POLICIES, attacked, believe_short, cpu_of

if TYPE_CHECKING:
    from pathlib import Path

_MB = 1 << 20


class _Blob:
    def __init__(self, size: int) -> None:
        self.view = memoryview(bytes(size))
        self.table = b"[]"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_descriptor_that_was_made_blocking_blocks_only_its_child(
    tmp_path: Path, policy: str
) -> None:
    """O_NONBLOCK is a flag of the description, and that may be in the child's hands too."""
    text = """
    def attack(job):
        for name in os.listdir("/proc/self/fd"):
            allowed(os.set_blocking, int(name), True)
        time.sleep(60)
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy) as caller:
            await caller.run("x")
            believe_short(caller)
            evil, *others = caller.submit_all(["evil"] + ["x"] * 15)
            for call in others:
                assert await caller.outcome(call) == Completed(b'"ok"')
            assert evil.key not in caller.outcomes
            caller.pool.kill()

    run_async(main())


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_seals_the_arena_but_its_maker(tmp_path: Path, policy: str) -> None:
    """A seal against writing would keep the coordinator from mapping it for the next job."""
    text = """
    def attack(job):
        for word in ("arena", "mark", "stacks"):
            allowed(fcntl.fcntl, shared("sandboxq-" + word), 1033, 0x10)  # F_SEAL_FUTURE_WRITE
        return "ok"
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy, size=1) as caller:
            await caller.run("evil")
            call = caller.make("x")
            call.blob = _Blob(100)
            caller.pool.submit(call)
            await caller.outcome(call)  # of a job that reads bytes without a table; it has ended
            assert await caller.value("x") == "ok"

    run_async(main())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("start", [4096, 4 << 30])
def test_memory_in_the_arena_is_counted(tmp_path: Path, policy: str, start: int) -> None:
    """Pages that no process has mapped are in nobody's resident set."""
    text = f"""
    def attack(job):
        allocate = ctypes.CDLL(None, use_errno=True).fallocate
        allocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
        if allocate(shared("arena"), 0, {start}, 1200 << 20):
            raise OSError(ctypes.get_errno(), "fallocate")
        time.sleep(60)
    """
    small = Policy(policy, memory=192 * _MB)

    async def main() -> None:
        async with attacked(tmp_path, text, policy=small) as caller:
            failed = await caller.failure("evil")
            caught = ("JobMemoryExceeded", "PermissionError")
            assert policy == "strict" or failed.cause in caught, failed
            assert await caller.value("x") == "ok"

    run_async(main())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", ["SHUT_WR", "SHUT_RDWR"])
def test_an_end_that_is_shut_is_heard_once(tmp_path: Path, policy: str, way: str) -> None:
    """An end of file is readable for ever: who goes on looking uses a whole core."""
    text = f"""
    def attack(job):
        socket.socket(fileno=os.dup(link()._socket.fileno())).shutdown(socket.{way})
        time.sleep(60)
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy) as caller:
            evil = caller.submit("evil")
            assert isinstance(await caller.outcome(evil), Failed)
            assert await caller.value("x") == "ok"
            assert await cpu_of(1.0) < 0.3

    run_async(main())


def test_a_child_that_dies_before_it_is_heard_is_never_ready(tmp_path: Path) -> None:
    """Its READY is among its last words: it would get calls for ever, and never answer one."""
    died = tmp_path / "died"
    dies = tmp_path / "dies"
    path = processor_file(
        tmp_path,
        f"""
import os, threading, time, signal
def end():
    time.sleep(0.1)
    open({str(died)!r}, "w").write(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
def setup():
    if os.path.exists({str(dies)!r}): threading.Thread(target=end, daemon=True).start()
def process(job): return "ok"
""",
    )

    async def main() -> None:
        async with open_pool(path) as caller:
            dies.touch()
            growing = asyncio.ensure_future(caller.pool.resize(2))
            await asyncio.sleep(0)
            # The coordinator is busy until READY and death have both come.
            wait_until(lambda: died.exists() and died.read_text())
            wait_until(lambda: not lives(int(died.read_text())))
            dies.unlink()
            await asyncio.gather(growing, return_exceptions=True)
            for call in [caller.submit("x") for _ in range(20)]:
                assert await caller.outcome(call) == Completed(b'"ok"')
            assert all(child.channel.fileno() >= 0 for child in caller.pool.supervisor.ready)

    run_async(main())


def test_last_words_have_an_end() -> None:
    """What a job has forked may hold the socket, and write on as fast as it is read."""

    async def main() -> None:
        channel = Channel(asyncio.get_running_loop(), lambda *_: None)
        words = REPLY.pack(FAILED, 0, 0, 0, 1, *NOT_MEASURED) + bytes(100)
        writer = socket.socket(fileno=os.dup(channel.far_fileno()))
        is_over = threading.Event()
        thread = threading.Thread(target=_write, args=(writer, words, is_over))
        thread.start()
        channel.receive_last()
        is_over.set()
        channel.close()
        thread.join()
        writer.close()

    run_async(main())


def _write(writer: socket.socket, words: bytes, is_over: threading.Event) -> None:
    with contextlib.suppress(OSError):  # at last it is closed
        while not is_over.is_set():
            writer.send(words)


def test_an_output_whose_lock_is_held_is_not_waited_for(tmp_path: Path) -> None:
    """sendfile(2) into a pipe holds the lock of both its ends for as long as nothing comes."""
    text = """
    def attack(job):
        waiting, _keep = socket.socketpair()
        for end in (1, 2, link().cancels.fileno()):
            deed = (os.sendfile, end, waiting.fileno(), None, 1)
            threading.Thread(target=allowed, args=deed).start()
        time.sleep(60)
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy="strict") as caller:
            evil = caller.submit("evil", timeout=0.5)
            for _ in range(10):
                assert await caller.value("x") == "ok"
            assert isinstance(await caller.outcome(evil), Failed)

    run_async(main())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("mark", ["!1", "1", "9" + "9" * 5000, "0x", "077777777777777777777777"])
def test_marks_that_a_job_prints_are_text_at_most(tmp_path: Path, policy: str, mark: str) -> None:
    """The marks of lines stand in a pipe that everybody can write to."""
    text = f"""
    def attack(job):
        from sandboxq.child.frames import MARK, TEXT
        os.write(1, MARK + {mark!r}.encode() + TEXT + b"forged" + b"\\n")
        time.sleep(0.1)
        return "ok"
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy, size=1) as caller:
            assert await caller.value("evil") == "ok"
            assert await cpu_of(0.5) < 0.2
            assert await caller.value("x") == "ok"
            assert [line for _, _, line in caller.lines] == ["forged"]

    run_async(main())
