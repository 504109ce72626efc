"""A child that speaks the protocol wrongly is ended, its job fails, and nobody else notices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed
from tests.conftest import run_async, wait_until_async
from tests.pool.hostile.attackers import POLICIES, attacked, cpu_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pool.caller import Caller

# What each attack sends, in the middle of its job; ``seq`` is the number of its call.
_LIES = {
    "an answer to another's call": "s.send(frame(17, seq + 1, b'1'))",
    "an answer to no call": "s.send(frame(18, 999999, struct.pack('<3I', 0, 0, 0)))",
    "a PONG that nobody asked for": "s.send(frame(24, 0))",
    "READY again": "s.send(frame(16, 0))",
    "a failed start": "s.send(frame(23, 0, struct.pack('<3I', 0, 0, 0)))",
    "an unknown kind": "s.send(frame(99, seq))",
    "a header of three bytes": "s.send(b'abc')",
    "nothing at all": "s.send(b'')",
    "calls given back": "s.send(frame(28, seq, detail=1))",
    "stacks": "s.send(frame(27, seq, b'where'))",
    "a value that is no JSON": "s.send(frame(17, seq, b'{not json'))",
    "a value that is no UTF-8": "s.send(frame(17, seq, b'\"\\xff\"'))",
    "a value in UTF-16": "s.send(frame(17, seq, '1'.encode('utf-16')))",
    "a value nested too deep": "s.send(frame(17, seq, b'[' * 30000 + b']' * 30000))",
    "progress that is no JSON": "s.send(frame(19, seq, b'{not json'))",
    "data that are no JSON": "s.send(frame(21, seq, b'NaN'))",
    "a row that is no text": "s.send(frame(20, seq, b'\\xff'))",
    "a rest of years": "s.send(frame(25, seq, struct.pack('<Q', 2**53 - 1), detail=3))",
    "a failure of megabytes": "long(18, struct.pack('<3I', 4 << 20, 0, 0) + b'R' * (4 << 20))",
    "a long value that is no JSON": "long(17, b'[' + b'1,' * 200000 + b'x]')",
    "one message in another": "s.send(frame(17, seq, b'[', flags=1)); s.send(frame(19, seq, b'2'))",
    "a long value that changes": "s.send(frame(17, seq, begin, 65)); s.send(frame(17, seq, end))",
    "a value without its head": "s.send(frame(17, seq, b'', flags=64))",
    "a value beyond the arena": "s.send(frame(17, seq, far_away + b'[]1', flags=64))",
    "a flood of questions": "flood(frame(26, seq, struct.pack('<I', 1)))",
    "a flood of questions of no call": "flood(frame(26, 0, struct.pack('<I', 1)))",
    "a flood of reports of no call": "flood(frame(20, 0, b'row'))",
    "a flood of reports": "flood(frame(20, seq, bytes(60000)))",
    "a flood of what is left": "flood(frame(30, seq, bytes(8)))",
    "much that is left": "s.send(frame(30, seq, bytes(9)))",
    "a flood of lines": "flood(frame(22, seq, b'line'))",
}  # fmt: skip
_TEXT = """
def attack(job):
    s, seq = link()._socket, job._seq
    far_away = struct.pack('<QQI', 1 << 62, 1 << 10, 2)
    begin = struct.pack('<QQI', 0, 0, 2) + b'[]"' + b'a' * 60000
    end = b'a' * 60000 + b'"'
    def long(kind, payload):
        for start in range(0, len(payload), 60000):
            last = start + 60000 >= len(payload)
            s.send(frame(kind, seq, payload[start:start + 60000], flags=0 if last else 1))
    def flood(packet):
        while True: s.send(packet)
    LIE
    time.sleep(60)
"""


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("lie", _LIES)
def test_a_lie_ends_its_own_job(tmp_path: Path, lie: str, policy: str) -> None:
    """By name, with what it did; neighbours and successors are served as if nothing was."""
    name = {"strict": "SandboxViolation", "limits": "JobCrashed"}[policy]

    async def main() -> None:
        async with attacked(tmp_path, _TEXT.replace("LIE", _LIES[lie]), policy=policy) as caller:
            await caller.run("x")
            evil = caller.submit("evil")
            others = [caller.submit("x") for _ in range(10)]
            failed = await caller.outcome(evil)
            assert isinstance(failed, Failed)
            assert failed.cause == name, failed
            assert "this breaks the protocol" in failed.reason
            for call in others:
                assert await caller.outcome(call) == Completed(b'"ok"')

    run_async(main())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("lie", ["progress that is no JSON", "an unknown kind"])
def test_an_answer_behind_a_lie_is_not_heard(tmp_path: Path, lie: str, policy: str) -> None:
    """It is in the socket already when the child is ended for what came before it."""
    text = _TEXT.replace("LIE", _LIES[lie]).replace("time.sleep(60)", "return 'fine'")

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy) as caller:
            for _ in range(3):
                failed = await caller.failure("evil")
                assert "this breaks the protocol" in failed.reason

    run_async(main())


@pytest.mark.parametrize("policy", POLICIES)
def test_an_answer_is_heard_once(tmp_path: Path, policy: str) -> None:
    """The second one is nobody's: the child is replaced, the job keeps its first outcome."""
    text = """
    def attack(job):
        for value in (b'1', b'2'):
            link()._socket.send(frame(17, job._seq, value))
        time.sleep(60)
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy) as caller:
            pids = caller.pool.pids
            assert await caller.run("evil") == Completed(b"1")
            await wait_until_async(lambda: _is_replaced(caller, pids))
            for _ in range(4):
                assert await caller.value("x") == "ok"

    run_async(main())


async def _is_replaced(caller: Caller, pids: list[int]) -> bool:
    return len(caller.pool.supervisor.ready) == len(pids) and set(caller.pool.pids) != set(pids)


@pytest.mark.parametrize(
    "way", ["os.kill(os.getpid(), signal.SIGSTOP)", "s.shutdown(socket.SHUT_RD)"]
)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_child_that_answers_and_then_is_deaf_is_replaced(
    tmp_path: Path, policy: str, way: str
) -> None:
    """While it has nothing to do, and when it was given a call: that goes to another."""
    text = f"""
    def attack(job):
        s = socket.socket(fileno=os.dup(link()._socket.fileno()))
        def deafen():
            time.sleep(0.2)
            {way}
        threading.Thread(target=deafen).start()
        return "done"
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy) as caller:
            pids = set(caller.pool.pids)
            for call in [caller.submit("evil"), caller.submit("evil")]:
                assert await caller.outcome(call) == Completed(b'"done"')
            await asyncio.sleep(0.4)  # until they are deaf: nobody can ask them
            for call in [caller.submit("x", timeout=20) for _ in range(3)]:
                assert await caller.outcome(call) == Completed(b'"ok"')
            await wait_until_async(lambda: _are_gone(caller, pids))

    run_async(main())


async def _are_gone(caller: Caller, pids: set[int]) -> bool:
    return not pids & set(caller.pool.pids)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_word_of_a_child_puts_its_deadline_off(tmp_path: Path, policy: str) -> None:
    """Not that it reads on, nor that it has not begun yet."""
    text = """
    def attack(job):
        mark = link().mark
        end = time.monotonic() + 60
        while time.monotonic() < end:
            mark.words[0] = 0
            try: time.sleep(0.01)
            except BaseException: pass
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy=policy, size=1) as caller:
            evil = caller.submit("evil", timeout=0.5)
            failed = await caller.outcome(evil)
            assert isinstance(failed, Failed)
            assert failed.cause == "JobTimeout"
            assert await caller.value("x") == "ok"

    run_async(main())


def test_under_strict_nothing_is_sent_ahead(tmp_path: Path) -> None:
    """What a job could reach of the next one's data is nothing."""
    text = """
    def attack(job):
        s = link()._socket
        time.sleep(0.3)
        try: return len(s.recv(65536, socket.MSG_DONTWAIT))
        except BlockingIOError: return "nothing"
    """

    async def main() -> None:
        async with attacked(tmp_path, text, policy="strict", size=1) as caller:
            for _ in range(50):
                await caller.value("x")
            evil, *others = caller.submit_all(["evil", *["x"] * 20])
            assert await caller.outcome(evil) == Completed(b'"nothing"')
            for call in others:
                assert await caller.outcome(call) == Completed(b'"ok"')

    run_async(main())


@pytest.mark.parametrize("policy", POLICIES)
def test_an_idle_pool_costs_nothing(tmp_path: Path, policy: str) -> None:
    """To ask children whether they are there is cheap enough for every second."""

    async def main() -> None:
        async with attacked(tmp_path, "", policy=policy, size=4) as caller:
            await caller.value("x")
            assert await cpu_of(3.0) < 0.3

    run_async(main())
