"""A worker in a program of the user's own: signals and log as those of the command."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue, Worker
from tests.conftest import run_async, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PROCESSOR = """
import pathlib, time
def process(job):
    if job.name == "fail":
        raise KeyError("b")
    if job.name == "long":
        pathlib.Path(job.data["begun"]).touch()
        end = pathlib.Path(job.data["end"])
        while not end.exists():
            time.sleep(0.01)
    return job.attempts_started
"""
_PROGRAM = """
import asyncio, logging, signal, sys
from sandboxq import Worker

# A shell that runs the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main(url, queue, processor, timeout, handled):
    if handled == "own":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    workers = [Worker(name, processor, url=url, procs=1, shutdown_timeout=float(timeout))
               for name in queue.split(",")]
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(one(worker, handled != "no"))
    print("all ended", signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)

async def one(worker, handled):
    async with worker:
        await worker.run(handle_signals=handled)
        print("one is over\\n", end="", flush=True)  # at once: another thread logs

asyncio.run(main(*sys.argv[1:]))
"""


class _Program:
    """A program with workers, and what it has printed."""

    def __init__(self, folder: Path, url: str, queues: str, timeout: str, handled: str) -> None:
        (folder / "work.py").write_text(_PROCESSOR)
        (folder / "program.py").write_text(_PROGRAM)
        arguments = [url, queues, str(folder / "work.py"), timeout, handled]
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "program.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        code = self.process.wait(60)
        self._reader.join(60)
        return code

    def close(self) -> None:
        """End what is left."""
        self.process.kill()
        self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path, server_url: str) -> Iterator[Callable[..., _Program]]:
    """Start programs, and end them after the test."""
    programs: list[_Program] = []

    def started(queues: str, timeout: str = "20", handled: str = "yes") -> _Program:
        programs.append(_Program(tmp_path, server_url, queues, timeout, handled))
        program = programs[-1]
        wanted = len(queues.split(","))
        wait_until(lambda: program.text.count("locks   ") == wanted or program.process.poll())
        assert program.process.poll() is None, program.text
        return program

    yield started
    for program in programs:
        program.close()


def _add(url: str, queue_name: str, folder: Path, name: str = "long") -> str:
    async def add() -> str:
        data = {"begun": str(folder / "begun"), "end": str(folder / "end")}
        async with Queue(queue_name, url) as queue:
            return (await queue.add(name, data, attempts=1)).id

    return run_async(add())


def _job(url: str, queue_name: str, job_id: str) -> tuple[str, int, object]:
    async def read() -> tuple[str, int, object]:
        async with Queue(queue_name, url) as queue:
            job = await queue.read_job(job_id)
            return str(await job.state()), job.attempts_made, job.returnvalue

    return run_async(read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_jobs_finish(
    start: Callable[..., _Program],
    server_url: str,
    queue_name: str,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """All workers of the program end, and it goes on after `run`, with its own handlers."""
    program = start(f"{queue_name},{queue_name}-2")
    job_id = _add(server_url, queue_name, tmp_path)
    wait_until((tmp_path / "begun").exists)
    program.process.send_signal(number)
    wait_until(lambda: f"{number.name}: no new jobs; running jobs (1) have 20 s" in program.text)
    (tmp_path / "end").touch()
    assert program.wait() == 0, program.text
    assert program.text.count("one is over\n") == 2
    assert "all ended True" in program.text
    assert _job(server_url, queue_name, job_id) == ("completed", 1, 1)


def test_a_deploy_uses_no_attempt(
    start: Callable[..., _Program], server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A job that does not end in time goes back; its one attempt is the next worker's."""
    program = start(queue_name, "0.2")
    job_id = _add(server_url, queue_name, tmp_path)
    wait_until((tmp_path / "begun").exists)
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 0, program.text
    assert "1 handed back" in program.text
    assert _job(server_url, queue_name, job_id) == ("waiting", 0, None)
    (tmp_path / "end").touch()
    start(queue_name)
    wait_until(lambda: _job(server_url, queue_name, job_id)[0] == "completed")
    assert _job(server_url, queue_name, job_id) == ("completed", 1, 2)


def test_signals_are_left_alone(start: Callable[..., _Program], queue_name: str) -> None:
    """Who wants them for something else says so."""
    program = start(queue_name, "20", "no")
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == -signal.SIGTERM


def test_an_idle_worker_has_nothing_to_finish(
    start: Callable[..., _Program], queue_name: str
) -> None:
    """Nobody is told that 0 jobs have time."""
    program = start(queue_name)
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 0, program.text
    assert "SIGTERM: no new jobs; none is running" in program.text


def test_the_second_signal_hands_back(
    start: Callable[..., _Program], server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """As the command: finish first, then hand back at once."""
    program = start(queue_name)
    job_id = _add(server_url, queue_name, tmp_path)
    wait_until((tmp_path / "begun").exists)
    program.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "no new jobs" in program.text)
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 0, program.text
    assert "handing back running jobs (1) now" in program.text
    assert _job(server_url, queue_name, job_id) == ("waiting", 0, None)


def test_handlers_of_the_program_stay(start: Callable[..., _Program], queue_name: str) -> None:
    """A server that the worker runs in has its own way to end."""
    program = start(queue_name, "20", "own")
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 7


def test_failures_are_logged(
    start: Callable[..., _Program], server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """With `logging`, in the words of the command, the trace below them."""
    program = start(queue_name)
    _add(server_url, queue_name, tmp_path, "fail")
    head = f"WARNING:sandboxq.worker.events:job 1 (fail) of queue {queue_name!r} failed for good"
    wait_until(lambda: "KeyError: 'b'\n  Traceback (most recent call last):\n" in program.text)
    assert head in program.text
    assert "INFO:sandboxq.worker:children   1 process x 1 job at once" in program.text


def test_a_loop_that_had_a_worker_is_kept_by_nobody(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """A program may run many, one after the other."""
    (tmp_path / "work.py").write_text(_PROCESSOR)
    loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    async def main() -> None:
        loops.add(asyncio.get_running_loop())
        async with Worker(queue_name, tmp_path / "work.py", url=server_url, procs=1) as worker:
            await worker.run(burst=True)

    asyncio.run(main())
    gc.collect()
    assert not loops
