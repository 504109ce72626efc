"""Operating a queue from the command line."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.cli.on_queue import counting
from sandboxq.errors import QueueError
from sandboxq.queue.queue import Queue
from tests.commands import run_command
from tests.conftest import run_async
from tests.queue.bench import completed, failed, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Shell:
    """A shell in which Redis is known; ``queue`` is the name of the test's queue."""

    def __init__(self, url: str, queue: str) -> None:
        """Run commands with this URL."""
        self.url = url
        self.queue = queue

    def run(self, command: str, *flags: str, code: int = 0) -> str:
        """Run a command on the queue and return what it prints."""
        done = run_command(*self._words(command, *flags))
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def answer(self, answer: str, command: str, *flags: str) -> str:
        """Run a command on a terminal, type an answer, and return what is shown."""
        ours, theirs = pty.openpty()
        words = [sys.executable, "-m", "sandboxq", *self._words(command, *flags)]
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.write(ours, answer.encode() + b"\n")
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                # How Linux says that the other end is closed.
                break
            if not part:
                break
            shown += part
        os.close(ours)
        process.wait(60)
        return shown.decode()

    def _words(self, command: str, *flags: str) -> list[str]:
        return [command, self.queue, *flags, "--url", self.url]

    def do(self, body: Callable[[Queue], Coroutine[Any, Any, Any]]) -> Any:
        """Run an async body with the queue."""

        async def main() -> Any:
            async with Queue(self.queue, self.url) as queue:
                return await body(queue)

        return run_async(main())

    def counts(self) -> dict[str, int]:
        """Return the states that hold jobs, and how many."""
        counts = self.do(lambda queue: queue.counts())
        return {state: count for state, count in counts.items() if count}


@pytest.fixture
def shell(server_url: str, queue_name: str) -> Shell:
    """Return a shell with an empty queue."""
    return Shell(server_url, queue_name)


def fill(shell: Shell) -> None:
    """Leave one job completed, two failed, three waiting, one with priority, two delayed."""

    async def body(queue: Queue) -> None:
        await queue.add_bulk([("resize", {"src": f"{number}.jpg"}) for number in range(3)])
        await finish(shell.url, shell.queue, completed(b"1"), failed("[too big]"), failed("b"))
        await queue.add_bulk([("resize", {"src": "ä [b].jpg"})] * 3)
        await queue.add("urgent", {}, priority=3)
        await queue.add_bulk([("later", {}, {"delay": 60}), ("later", {}, {"delay": 30})])

    shell.do(body)


def test_jobs_of_a_state(shell: Shell) -> None:
    """A list to read, and one to go on with in a program."""
    fill(shell)

    listed = shell.run("jobs", "waiting", "--limit", "2")
    assert "2 of 3 waiting jobs" in listed
    assert '{"src": "ä [b].jpg"}' in listed
    assert "[too big]" in shell.run("jobs", "failed")
    rows = json.loads(shell.run("jobs", "delayed", "--json", "--oldest"))
    assert [(row["id"], row["name"], row["delay_ms"]) for row in rows] == [
        ("9", "later", 30_000),
        ("8", "later", 60_000),
    ]
    assert "0 active jobs" in shell.run("jobs", "active")


def test_one_job(shell: Shell) -> None:
    """Everything that is known of it, its log too."""
    fill(shell)
    shell.do(lambda queue: queue.add_job_log("2", "step 1"))

    shown = shell.run("jobs", "--id", "2")
    assert "failed_reason     [too big]" in shown
    assert "logs:\n  step 1" in shown
    job = json.loads(shell.run("jobs", "--id", "2", "--json"))
    assert (job["state"], job["attempts_made"], job["logs"]) == ("failed", 1, ["step 1"])
    assert "job 99 does not exist" in shell.run("jobs", "--id", "99", code=1)


def test_what_jobs_to_show_must_be_said(shell: Shell) -> None:
    """Neither a state nor an id is a slip, and the answer lists the states."""
    assert "waiting-children" in shell.run("jobs", code=2)
    assert "waiting-children" in shell.run("jobs", "sleeping", code=2)
    assert "--id" in shell.run("jobs", "failed", "--id", "1", code=2)


def test_pause_and_resume(shell: Shell) -> None:
    """The two commands that are typed in a hurry say what is so now."""
    fill(shell)

    assert "is paused" in shell.run("pause")
    assert shell.do(lambda queue: queue.is_paused())
    assert "4 jobs to claim" in shell.run("resume")
    assert not shell.do(lambda queue: queue.is_paused())


def test_retry(shell: Shell) -> None:
    """One by its id, or all; how many is said."""
    fill(shell)

    assert "1 failed job " in shell.run("retry", "--id", "3")
    assert "is not failed" in shell.run("retry", "--id", "3", code=1)
    assert json.loads(shell.run("retry", "--json", "--reset-attempts")) == {"retried": 1}
    assert "0 failed jobs" in shell.run("retry")
    assert "1 completed job " in shell.run("retry", "--state", "completed", "--limit", "5")
    assert shell.counts() == {"waiting": 6, "prioritized": 1, "delayed": 2}


def test_promote(shell: Shell) -> None:
    """The earliest first."""
    fill(shell)

    assert json.loads(shell.run("promote", "--limit", "1", "--json")) == {"promoted": 1}
    assert shell.do(lambda queue: queue.job_state("9")) == "waiting"
    shell.run("promote", "--id", "8")
    assert shell.counts()["waiting"] == 5
    assert "leave it out" in shell.run("promote", "--id", "8", "--limit", "1", code=2)


def test_clean(shell: Shell) -> None:
    """Young jobs stay; scripts are not asked."""
    fill(shell)

    assert "removed 0 failed jobs" in shell.run("clean", "failed", "--grace", "3600")
    cleaned = json.loads(shell.run("clean", "failed", "--grace", "0", "--limit", "1", "--json"))
    assert cleaned == {"removed": 1, "ids": ["2"]}
    assert "--grace" in shell.run("clean", "failed", code=2)
    assert "limit" in shell.run("clean", "failed", "--grace", "0", "--limit", "0", code=2)
    assert "grace" in shell.run("clean", "failed", "--grace", "-1", code=2)
    assert shell.counts()["failed"] == 1


def test_drain_and_obliterate(shell: Shell) -> None:
    """What waits goes, then everything."""
    fill(shell)

    assert "removed 4 jobs" in shell.run("drain")
    assert json.loads(shell.run("drain", "--delayed", "--json")) == {"removed": 2}
    assert "and 3 jobs" in shell.run("obliterate")
    assert "there is no queue" in shell.run("obliterate", code=1)
    assert "there is no queue" in shell.run("retry", code=1)


def test_an_active_queue_is_not_obliterated(shell: Shell) -> None:
    """The message says what to do."""

    async def body(queue: Queue) -> None:
        await queue.add("n", {})
        await finish(shell.url, shell.queue)

    shell.do(body)
    shell.do(lambda queue: _claim(shell, queue))

    assert "--force" in shell.run("obliterate", code=1)
    assert "and 1 job" in shell.run("obliterate", "--force")


def test_ctrl_c_says_how_far_it_came() -> None:
    """Whoever stops a long walk wants to know what is done; a loop is interrupted by cancelling."""

    def interrupted(interruption: type[BaseException]) -> None:
        with counting("draining") as show:
            show(1200)
            raise interruption

    for interruption in (KeyboardInterrupt, asyncio.CancelledError):
        with pytest.raises(QueueError, match="stopped draining after 1,200 jobs"):
            interrupted(interruption)


def test_each_job_is_one_line_in_a_pipe(shell: Shell) -> None:
    """Programs read lines, and 80 columns are for eyes."""

    async def body(queue: Queue) -> None:
        await queue.add("long", {"text": "x " * 300 + "\n"})

    shell.do(body)

    lines = shell.run("jobs", "waiting").splitlines()
    assert len(lines) == 2
    assert lines[1].count("x") > 90


async def _claim(shell: Shell, queue: Queue) -> None:
    from sandboxq.broker.commands.claim import claim
    from sandboxq.broker.connect.broker import Broker

    broker = await Broker.connect(shell.url)
    await claim(broker, queue.keys, limit=1, token="t", lock_ms=60_000, now_ms=1)  # noqa: S106 - a lock token
    await broker.close()


@pytest.mark.parametrize(
    "command",
    [("drain",), ("clean", "failed", "--grace", "0"), ("obliterate",)],
    ids=lambda words: words[0],
)
def test_a_person_is_asked(shell: Shell, command: tuple[str, ...]) -> None:
    """A queue typed wrong must not be gone; the question says how many jobs, and whose."""
    fill(shell)
    before = shell.counts()

    shown = shell.answer("n", *command)
    assert f"queue '{shell.queue}'" in shown
    assert "[y/N]" in shown
    assert shell.counts() == before
    assert "[y/N]" not in shell.answer("", *command, "--yes")
    assert shell.counts() != before
