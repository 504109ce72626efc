"""What a child holds itself: its socket, its pipes, its deadline."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed
from sandboxq.pool.watch.usage import resident_bytes
from tests.conftest import WAIT_SECONDS, run_async
from tests.pool.caller import open_pool, processor_file
from tests.pool.test_packets import outcomes_of, pack

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.pool.pool import Call
    from tests.pool.caller import Caller

_MB = 1 << 20
_PACKET = 16  # calls that share one
_CHORES = """
import ctypes, os, signal, socket, struct, sys, time

def fill_mark(*, forged):
    # What the coordinator reads of this process: numbers, then two pages of answers.
    for line in open("/proc/self/maps"):
        if "sandboxq-mark" in line:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            ctypes.memmove(start, os.urandom(end - start), end - start)
            ctypes.memset(start, 0, 8)
            if forged:
                done = b"".join(
                    struct.pack("<BBHIQQQQ", 17, 0, 8, 0, seq, 0, 0, 0) + b'"forged"'
                    for seq in forged
                )
                page = struct.pack("<BBHIQQQQ", 29, 0, 0, 0, 0, 0, 0, 0) + done
                ctypes.memmove(start + 4096, page, len(page))
                word = 4096 + len(page)
                ctypes.memmove(start + 24, struct.pack("<Q", word), 8)

def tokens():
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventfd" in os.readlink(f"/proc/self/fd/{name}"): yield int(name)
        except OSError: pass

def process(job):
    match job.data:
        case {"forge": seqs}:
            for fd in range(3, 64):
                try:
                    if "socket" not in os.readlink(f"/proc/self/fd/{fd}"): continue
                    for seq in seqs:
                        head = struct.pack("<BBHIQQQQ", 17, 0, 0, 0, seq, 0, 0, 0)
                        os.write(fd, head + b'"forged"')
                except OSError: pass
            time.sleep(60)
        case {"scribble": forged, "end": end}:
            fill_mark(forged=forged)
            time.sleep(0.05)
            if end: os.kill(os.getpid(), signal.SIGKILL)
        case {"tokens": number}:
            for fd in tokens():
                if number: os.write(fd, struct.pack("<Q", number))
                else:
                    try:
                        while True: os.read(fd, 8)
                    except BlockingIOError: pass
            time.sleep(0.3)
        case {"sockets": _}:
            links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                     if os.path.islink(f"/proc/self/fd/{fd}")]
            return sorted(link for link in links if link.startswith(("socket", "pipe")))
        case {"deaf": _}:
            signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)
        case {"pour": size}:
            for _ in range(size): os.write(1, b"y" * (1 << 20))
            return "wrote"
        case {"flood": size}:
            for _ in range(size): sys.stdout.write("x" * 1023 + "\\n")
            return "wrote"
    return "honest"
"""


def test_forged_outcome_of_another_call(tmp_path: Path) -> None:
    """A child answers for its own calls; what it says of others' is not heard."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), size=2, policy="strict") as caller:
            forger = caller.submit({"forge": list(range(2, 50))})
            for _ in range(10):
                assert await caller.value({}) == "honest"
            caller.pool.end_call(forger, JobCancelled("enough"))
            assert isinstance(await caller.outcome(forger), Failed)

    run_async(main())


async def submitted(caller: Caller, policy: str, datas: list[Any]) -> tuple[list[Call], set[bytes]]:
    """Submit calls; return them, and the keys of those that share a packet with the first.

    A child that is not trusted is given one call at a time: under `strict` nobody shares one.
    """
    if policy == "strict":
        return caller.submit_all(datas), set()
    calls = await pack(caller, datas)
    return calls, {call.key for call in calls[1:_PACKET]}


@pytest.mark.parametrize("policy", ["limits", "strict"])
@pytest.mark.parametrize("forged", [[], list(range(1, 2 * _PACKET + 1))])
@pytest.mark.parametrize("end", [0, 1])
def test_shared_memory_is_not_believed(
    tmp_path: Path, policy: str, forged: list[int], end: int
) -> None:
    """What a child writes there is about its own calls, or nonsense; other children's are safe."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), size=2, policy=policy) as caller:
            datas = [{"scribble": forged, "end": end}] + [{}] * (2 * _PACKET - 1)
            (bad, *good), mine = await submitted(caller, policy, datas)
            await outcomes_of(caller, [bad, *good])
            for call in good:
                outcome = caller.outcomes[call.key]
                assert outcome == Completed(b'"honest"') or call.key in mine, outcome
            await caller.run({})  # perhaps in the child that has spoiled its own memory

    run_async(main())


@pytest.mark.parametrize("policy", ["limits", "strict"])
@pytest.mark.parametrize("number", [0, 5, 1000, 2**64 - 100])
def test_tokens_that_a_child_takes_or_makes(tmp_path: Path, policy: str, number: int) -> None:
    """Its calls end all the same, and the coordinator does not count for ever."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), size=2, policy=policy) as caller:
            calls, mine = await submitted(caller, policy, [{"tokens": number}] + [{}] * 40)
            await outcomes_of(caller, calls)
            for call in calls[1:]:
                outcome = caller.outcomes[call.key]
                # A child that gives back what nobody took is ended, with what shares the packet.
                was_ended = isinstance(outcome, Failed) and outcome.is_crash and call.key in mine
                assert outcome == Completed(b'"honest"') or was_ended, outcome
            assert await caller.value({}) == "honest"

    run_async(main())


def test_descriptors_are_no_siblings(tmp_path: Path) -> None:
    """Two children share no socket and no pipe: there is no call of another to be read."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), size=2, policy="strict") as caller:
            first = caller.submit({"sockets": 1})
            second = caller.submit({"sockets": 1})
            seen = []
            for call in (first, second):
                outcome = await caller.outcome(call)
                assert isinstance(outcome, Completed)
                seen.append(json.loads(outcome.value))
            assert seen[0] == seen[1] or not set(seen[0]) & set(seen[1])

    run_async(main())


def test_ignoring_sigterm(tmp_path: Path) -> None:
    """Nothing here asks politely: SIGKILL cannot be ignored."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), policy="strict") as caller:
            call = caller.submit({"deaf": 1})
            caller.pool.cancel_call(call, JobCancelled("enough"), grace=0.2)
            assert isinstance(await caller.outcome(call), Failed)
            assert signal.SIGTERM
            assert await caller.value({}) == "honest"

    run_async(main())


def test_flood_of_output(tmp_path: Path) -> None:
    """What is printed above ten thousand lines is counted and thrown away."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), policy="limits") as caller:
            assert await caller.value({"flood": 50_000}) == "wrote"
            assert len(caller.lines) <= 10_001

    run_async(main())


@pytest.mark.parametrize("size", [128, pytest.param(1024, marks=pytest.mark.slow)])
def test_a_gigabyte_of_output(tmp_path: Path, size: int) -> None:
    """Read at 64 MB/s and dropped: it ends, and the coordinator holds none of it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), policy="strict") as caller:
            before = resident_bytes(os.getpid())
            call = caller.submit({"pour": size})
            async with asyncio.timeout(WAIT_SECONDS + size / 64 * 3):
                while call.key not in caller.outcomes:  # noqa: ASYNC110 - longer than ``outcome`` waits
                    await asyncio.sleep(0.1)
            assert isinstance(caller.outcomes[call.key], Completed)
            assert resident_bytes(os.getpid()) - before < 64 * _MB
            assert sum(len(line) for _, _, line in caller.lines) < 64 * _MB

    run_async(main())
