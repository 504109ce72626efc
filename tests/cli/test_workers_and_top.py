"""`workers` and `top`: what running workers tell of themselves, while somebody asks."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq import QueueEvents
from sandboxq.broker.commands.workers import ask_for_facts, facts_from_payload
from tests.commands import run_command
from tests.conftest import wait_until_async
from tests.worker.test_worker import with_worker

if TYPE_CHECKING:
    from sandboxq import Queue, Worker

STAY = {"do": "stay", "seconds": 60}


async def command(url: str, *words: str, code: int = 0) -> str:
    """Run a command and return what it prints."""
    done = await asyncio.to_thread(run_command, *words, "--url", url)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


async def begun(queue: Queue, worker: Worker) -> None:
    """Add a job that stays, and wait until it runs."""
    await queue.add("\x1b[2Jname", STAY)

    async def is_busy() -> bool:
        return worker.pool.busy == 1

    await wait_until_async(is_busy)


def test_workers(server_url: str, queue_name: str) -> None:
    """A row for each that answers, and the number of those that do not: Node's."""

    async def body(queue: Queue, worker: Worker) -> None:
        await begun(queue, worker)
        reader = await worker.broker.blocking(queue.keys.client_name, queue.keys["marker"])
        shown = await command(server_url, "workers", queue_name)
        found = json.loads(await command(server_url, "workers", queue_name, "--json"))
        await reader.close()
        assert re.search(
            rf"{queue_name} +{worker.name} .* {os.getpid()} .* 2 +1 +0.5 +limits", shown
        )
        assert "1 more connected, of Node.js or not answering" in shown
        assert [row["pid"] for row in found["workers"]] == [os.getpid()]
        assert found["others"] == {queue_name: 1}

    with_worker(server_url, queue_name, body)


def test_a_worker_is_found_when_all_keys_of_its_queue_are_gone(
    server_url: str, queue_name: str
) -> None:
    """After FLUSHALL it runs on, and says so: whoever looks would start a second one else.

    The queue of somebody who only listens is none: its name may be mistyped.
    """
    quiet = f"{queue_name}-typo"

    async def body(_: Queue, worker: Worker) -> None:
        async with QueueEvents(quiet, server_url):
            for key in [
                key
                async for page in worker.broker.scan(
                    "MATCH", f"bull:{queue_name}:*", "COUNT", "1000"
                )
                for key in page
            ]:
                await worker.broker.command("DEL", key)
            for words in (("workers",), ("top",), ("stats",)):
                shown = await command(server_url, *words)
                assert queue_name in shown
                assert quiet not in shown
            assert queue_name in await command(server_url, "metrics", "--once")

    with_worker(server_url, queue_name, body)


def test_no_worker(server_url: str, queue_name: str) -> None:
    """It is said, with what to do."""

    async def body() -> None:
        shown = await command(server_url, "workers", queue_name)
        assert "has no running worker; start one with 'run'" in shown
        assert "no running worker" in await command(server_url, "top", queue_name, code=1)

    asyncio.run(body())


def test_top_once(server_url: str, queue_name: str) -> None:
    """Without a terminal: plain lines, once, with what the kernel says of the child."""

    async def body(queue: Queue, worker: Worker) -> None:
        await begun(queue, worker)
        shown = await command(server_url, "top", queue_name)
        assert "1 of 2 children busy" in shown
        assert re.search(r"child \d+  ready +\d+ % CPU +\d+ of \d+ MB  age", shown)
        assert re.search(r"job 1  \\x1b\[2Jname  \d+\.\d s", shown)
        assert "\x1b" not in shown
        (row,) = json.loads(await command(server_url, "top", queue_name, "--json"))
        assert [job["id"] for child in row["children"] for job in child["jobs"]] == ["1"]

    with_worker(server_url, queue_name, body)


def test_facts_are_sent_only_while_somebody_looks(server_url: str, queue_name: str) -> None:
    """For as long as it was asked for and not longer, and not when nobody listens any more."""

    async def body(queue: Queue, worker: Worker) -> None:
        async def publishes() -> bool:
            return any(task.get_name() == "sandboxq facts" for task in asyncio.all_tasks())

        async def is_silent() -> bool:
            return not await publishes()

        channel = queue.keys.reply_key("viewer")
        subscription = await worker.broker.subscribe(channel)
        (answer,) = await ask_for_facts(worker.broker, [queue.keys], seconds=2, channel=channel)
        assert await publishes()
        payload = await anext(aiter(subscription))
        row = facts_from_payload(payload)
        assert row is not None
        assert row["id"] == answer["id"]
        await wait_until_async(is_silent)  # it was not asked again

        await ask_for_facts(worker.broker, [queue.keys], seconds=30, channel=channel)
        await anext(aiter(subscription))
        await subscription.close()
        await wait_until_async(is_silent)  # who looked has gone

    with_worker(server_url, queue_name, body)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", [b"q", signal.SIGTERM, signal.SIGHUP])
def test_top_in_a_terminal(end: bytes | signal.Signals, server_url: str, queue_name: str) -> None:
    """It paints, q or a signal ends it, and the terminal is as before."""

    async def body(queue: Queue, worker: Worker) -> None:
        await begun(queue, worker)
        code, shown = await asyncio.to_thread(_in_a_terminal, server_url, queue_name, end)
        assert code == 0, shown
        assert shown.count("\x1b[?1049h") == shown.count("\x1b[?1049l") == 1
        assert "\\x1b[2Jname" in shown
        assert "\x1b[2J" not in shown

    with_worker(server_url, queue_name, body)


def _in_a_terminal(url: str, queue: str, end: bytes | signal.Signals) -> tuple[int, str]:
    """Run `top` in a terminal until it shows a job; return its exit code and what it wrote.

    ``end`` is the key or the signal by which it is ended.
    """
    near, far = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sandboxq", "top", queue, "--url", url],
        stdin=far, stdout=far, stderr=far, env={**os.environ, "COLUMNS": "200", "LINES": "30"},
    )  # fmt: skip
    os.close(far)
    shown, deadline = b"", time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            if select.select([near], [], [], 0.1)[0]:
                shown += _read(near)
                if b"job 1 " in shown:
                    if isinstance(end, bytes):
                        os.write(near, end)
                    else:
                        process.send_signal(end)
                    break
        while piece := _read(near):
            shown += piece
        return process.wait(30), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(near)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the other side is closed
        return b""
