"""Running jobs ask, the coordinator answers: the job waits, the rest of the pool does not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.child.frames import decode_page
from sandboxq.errors import JobCancelled
from sandboxq.model import dependencies as words
from sandboxq.model.outcome import Completed
from tests.conftest import run_async, wait_until, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from sandboxq.pool.calls import Question
    from tests.pool.caller import Caller

_PLAIN = """
import os, signal, threading

def process(job):
    what = job.data["ask"]
    if what == "all":
        return [job.children_values(), job.ignored_children_failures(), job.failed_children(),
                job.dependencies_count(), job.dependencies()]
    if what == "page":
        return job.dependencies(count=2, cursor=job.data["cursor"])
    if what == "threads":
        got = []
        threads = [threading.Thread(target=lambda: got.append(job.children_values()))
                   for _ in range(5)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return got
    if what == "size":
        return len(job.children_values()["k"])
    if what == "handler":
        got = []

        def handle(number, frame):
            try:
                got.append(job.children_values())
            except Exception as error:
                got.append(str(error))

        signal.signal(signal.SIGUSR1, handle)
        got.append(job.children_values())
        return got
    if what == "leave":
        threading.Thread(target=job.children_values, daemon=True).start()
        return "left"
    if what == "fork":
        pid = os.fork()
        if not pid:
            try:
                job.children_values()
            except Exception as error:
                os._exit(len(type(error).__name__))
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return what
"""
_ASYNC = """
import asyncio

async def process(job):
    what = job.data["ask"]
    if what == "values":
        return await job.children_values()
    if what == "many":
        return await asyncio.gather(*(job.children_values() for _ in range(20)))
    if what == "give up":
        try:
            return await asyncio.wait_for(job.children_values(), 0.05)
        except TimeoutError:
            return await job.children_values()
    return what
"""
_REPLIES = {
    words.VALUES: [[b"k", b"1"]],
    words.IGNORED: [[b"i", b"why"]],
    words.FAILED: [[b"f"]],
    words.COUNTS: [1, 2, 3, 4],
    words.ALL: [[b"k", b"1"], [b"u"], [b"i", b"why"], [b"f"]],
}


async def asked(caller: Caller, number: int = 1) -> Question:
    """Return a question once so many have come."""

    async def has_come() -> bool:
        return len(caller.questions) >= number

    await wait_until_async(has_come)
    return caller.questions[number - 1]


def test_every_question(tmp_path: Path) -> None:
    """What the processor gets is what Redis says, decoded in the child."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            call = caller.submit({"ask": "all"})
            for number in range(1, 6):
                question = await asked(caller, number)
                assert question.call is call
                question.answer(_REPLIES[question.kind])
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed)
            assert json.loads(outcome.value) == [
                {"k": 1},
                {"i": "why"},
                ["f"],
                {"processed": 1, "unprocessed": 2, "ignored": 3, "failed": 4},
                [{"k": 1}, ["u"], {"i": "why"}, ["f"], None],
            ]

    run_async(main())


def test_pages(tmp_path: Path) -> None:
    """Cursor and size go out; kinds that are done are not asked for again."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            call = caller.submit({"ask": "page", "cursor": "5:-:-:2"})
            question = await asked(caller)
            assert (question.kind, decode_page(question.argument)) == (words.PAGE, ("5:-:-:2", 2))
            question.answer([[b"9", [b"k", b"1"]], [b"f", b"g"]])
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed)
            assert json.loads(outcome.value) == [{"k": 1}, [], {}, ["f", "g"], "9:-:-:4"]
            failure = await caller.failure({"ask": "page", "cursor": "nonsense"})
            assert failure.cause == "UsageError"

    run_async(main())


@pytest.mark.parametrize("size", [0, 65_000, 70_000, 20_000_000])
def test_answers_of_any_size(tmp_path: Path, size: int) -> None:
    """A parent of thousands gets megabytes, in many packets, while the loop goes on."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            call = caller.submit({"ask": "size"})
            (await asked(caller)).answer([[b"k", json.dumps("x" * size).encode()]])
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed)
            assert json.loads(outcome.value) == size

    run_async(main())


def test_a_handler_of_a_signal_is_told_that_it_cannot_ask(tmp_path: Path) -> None:
    """In the middle of another question it waited for ever for an answer that was read already."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            call = caller.submit({"ask": "handler"})
            question = await asked(caller)
            os.kill(caller.pool.pids[0], signal.SIGUSR1)
            await asyncio.to_thread(wait_until, lambda: not _has_pending(caller.pool.pids[0]))
            question.answer(_REPLIES[words.VALUES])
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed)
            refused, value = json.loads(outcome.value)
            assert refused == "a handler of a signal cannot ask the worker while the job asks it"
            assert value == {"k": 1}

    run_async(main())


def _has_pending(pid: int) -> bool:
    """Tell whether a signal waits to be handled: the kernel's part of that."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = [line.split()[1] for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(int(mask, 16) for mask in pending)


def test_threads_of_a_job_take_turns(tmp_path: Path) -> None:
    """None gets the answer of another."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            call = caller.submit({"ask": "threads"})
            for number in range(1, 6):
                (await asked(caller, number)).answer([[b"k", str(number).encode()]])
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed)
            assert sorted(each["k"] for each in json.loads(outcome.value)) == [1, 2, 3, 4, 5]

    run_async(main())


def test_a_refusal_fails_the_job(tmp_path: Path) -> None:
    """Unless the processor catches it; the text says why."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            call = caller.submit({"ask": "size"})
            (await asked(caller)).refuse("größer als erlaubt")
            outcome = await caller.outcome(call)
            assert (outcome.reason, outcome.cause) == ("größer als erlaubt", "QueueError")  # type: ignore[union-attr]

    run_async(main())


def test_calls_behind_a_job_that_waits_can_be_taken_back(tmp_path: Path) -> None:
    """The answers have a way of their own, or other workers' children would wait for this one."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            for _ in range(300):  # microseconds each: the pool sends ahead from now on
                await caller.value({"ask": "-"})
            waiting = caller.submit({"ask": "size"})
            behind = [caller.submit({"ask": "-"}) for _ in range(5)]
            question = await asked(caller)
            assert set(caller.pool.take_back()) == set(behind)
            question.answer([[b"k", b'"abc"']])
            assert await caller.outcome(waiting) == Completed(b"3")

    run_async(main())


def test_a_job_that_is_over_gets_no_answer(tmp_path: Path) -> None:
    """A thread that outlives its job neither hangs the next one nor reads its answers."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            assert await caller.value({"ask": "leave"}) == "left"
            call = caller.submit({"ask": "size"})
            late = await asked(caller)
            if late.call is not call:
                late.answer([[b"k", b"1"]])
                late = await asked(caller, 2)
            late.answer([[b"k", b'"four"']])
            assert await caller.outcome(call) == Completed(b"4")

    run_async(main())


def test_a_dead_child_forgets_its_questions(tmp_path: Path) -> None:
    """The answer may come long after; nobody is there to take it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            call = caller.submit({"ask": "size"})
            question = await asked(caller)
            caller.pool.end_call(call, JobCancelled("no use"))
            question.answer([[b"k", b'"x"']])
            await caller.outcome(call)
            question.answer([[b"k", json.dumps("x" * 5_000_000).encode()]])
            assert await caller.value({"ask": "-"}) == "-"

    run_async(main())


def test_a_forked_process_cannot_ask(tmp_path: Path) -> None:
    """It would take the answers from the job."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PLAIN)) as caller:
            assert await caller.value({"ask": "fork"}) == len("UsageError")
            assert caller.questions == []

    run_async(main())


def test_async_processors_await(tmp_path: Path) -> None:
    """While one job waits, others of the same child run; all seats taken, answers still arrive."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _ASYNC), concurrency=3) as caller:
            waiting = [caller.submit({"ask": "values"}) for _ in range(2)]
            await asked(caller, 2)
            assert await caller.value({"ask": "-"}) == "-"
            third = caller.submit({"ask": "values"})
            await asked(caller, 3)
            for number, question in reversed(list(enumerate(caller.questions))):
                question.answer([[b"k", str(number).encode()]])
            outcomes = [await caller.outcome(call) for call in (*waiting, third)]
            keys = {question.call: number for number, question in enumerate(caller.questions)}
            for call, outcome in zip((*waiting, third), outcomes, strict=True):
                assert outcome == Completed(b'{"k":%d}' % keys[call])

    run_async(main())


def test_async_jobs_ask_many_things_at_once(tmp_path: Path) -> None:
    """Each answer finds its question, in whatever order they come; one given up is dropped."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _ASYNC), concurrency=2) as caller:
            call = caller.submit({"ask": "many"})
            await asked(caller, 20)
            for number, question in reversed(list(enumerate(caller.questions))):
                question.answer([[b"k", str(number).encode()]])
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed)
            assert [each["k"] for each in json.loads(outcome.value)] == list(range(20))

            call = caller.submit({"ask": "give up"})
            late, again = await asked(caller, 21), await asked(caller, 22)
            late.answer([[b"k", b"1"]])
            again.answer([[b"k", b"2"]])
            assert await caller.outcome(call) == Completed(b'{"k":2}')

    run_async(main())


def test_retiring_waits_for_answers(tmp_path: Path) -> None:
    """A worker that shuts down finishes what runs, also what waits for Redis."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _ASYNC)) as caller:
            call = caller.submit({"ask": "values"})
            question = await asked(caller)
            stopping = asyncio.ensure_future(caller.pool.stop(timeout=10))
            await asyncio.sleep(0)  # it has begun
            question.answer([[b"k", b"1"]])
            assert await caller.outcome(call) == Completed(b'{"k":1}')
            await stopping

    run_async(main())
