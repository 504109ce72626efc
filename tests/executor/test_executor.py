"""Functions through a queue: real workers, real Redis, and those who should not be obeyed."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue, RemoteError, SandboxExecutor, SignatureRefused, UsageError
from sandboxq.errors import JobCancelled, JobExited, JobFailed, PayloadTooLarge
from sandboxq.payload.signing import PAYLOAD_LIMIT, SignedPlace, signed_text
from tests.broker.servers import StoppableServer
from tests.conftest import wait_until
from tests.pool.caller import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "a secret of more than sixteen bytes"  # noqa: S105 - a test's


@contextlib.contextmanager
def worker(url: str, queue: str, secret: str = SECRET) -> Iterator[None]:
    """Run a worker process of functions."""
    command = [sys.executable, "-m", "sandboxq", "run", "sandboxq.functions"]
    process = subprocess.Popen(
        [*command, "--queue", queue, "--url", url, "--procs", "2"],
        env={**os.environ, "SANDBOXQ_SECRET": secret},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def slow_square(number: int) -> int:
    """Take a while."""
    time.sleep(0.005)
    return number * number


class Odd(Exception):
    """What is no built-in exception."""


def fails(kind: type[BaseException], *args: Any) -> None:
    """Raise what it is told to."""
    raise kind(*args)


def test_functions_of_every_kind(server_url: str, queue_name: str) -> None:
    """Closures, lambdas, recursion; values that JSON has not; the secret stays away."""
    factor = 3

    def times(number: int) -> int:
        return factor * number

    def factorial(number: int) -> int:
        return 1 if number < 2 else number * factorial(number - 1)

    value = {"t": (1, {2, 3}), 4: [b"raw", None, 1.5], "$x": float("inf")}
    with (
        worker(server_url, queue_name),
        SandboxExecutor(queue_name, server_url, secret=SECRET) as executor,
    ):
        assert executor.submit(times, 5).result(60) == 15
        assert executor.submit(lambda *parts: parts[0] * factor, "a").result(60) == "aaa"
        assert executor.submit(factorial, 10).result(60) == 3628800
        assert executor.submit(lambda: value).result(60) == value
        assert executor.submit(lambda: os.environ.get("SANDBOXQ_SECRET")).result(60) is None
        assert list(executor.map(pow, range(50), range(50), chunksize=7)) == [
            number**number for number in range(50)
        ]
        with pytest.raises(TimeoutError):
            list(executor.map(time.sleep, [5, 5], timeout=0.3))
    assert not any("sandboxq-executor" in each.name for each in threading.enumerate())


def test_exceptions_come_back(server_url: str, queue_name: str) -> None:
    """Built-in ones as themselves, with arguments; others, and deaths, typed."""
    with (
        worker(server_url, queue_name),
        SandboxExecutor(queue_name, server_url, secret=SECRET) as executor,
    ):
        error = executor.submit(fails, KeyError, "a").exception(60)
        assert (type(error), error.args if error else ()) == (KeyError, ("a",))
        assert "in fails" in str(error.__cause__ if error else "")
        missing = executor.submit(os.stat, "/nowhere").exception(60)
        assert isinstance(missing, FileNotFoundError)
        assert missing.filename == "/nowhere"
        odd = executor.submit(fails, Odd, "strange").exception(60)
        assert isinstance(odd, RemoteError)
        assert (odd.type_name, "strange" in str(odd)) == ("Odd", True)
        assert "in fails" in odd.traceback
        assert isinstance(executor.submit(os._exit, 3).exception(60), JobExited)
        assert isinstance(executor.submit(fails, SystemExit, 3).exception(60), JobFailed)
        assert isinstance(executor.submit(object).exception(60), JobFailed)


def test_cancel_reaches_the_job(server_url: str, queue_name: str) -> None:
    """The child is free for others soon after."""
    with (
        worker(server_url, queue_name),
        SandboxExecutor(queue_name, server_url, secret=SECRET) as executor,
        Queue.sync(queue_name, server_url) as queue,
    ):
        future = executor.submit(time.sleep, 60)
        wait_until(lambda: queue.counts()["active"])
        assert future.cancel()
        assert future.cancelled()
        assert concurrent.futures.wait([future], 1).not_done == set()
        wait_until(lambda: queue.counts()["failed"])
        assert queue.get_jobs("failed")[0].cause == JobCancelled.__name__


def test_async_use(server_url: str, queue_name: str) -> None:
    """From a loop, in both ways that asyncio has."""

    async def main() -> None:
        async with SandboxExecutor(queue_name, server_url, secret=SECRET) as executor:
            assert await executor.run(sum, [1, 2]) == 3
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(executor, max, 1, 2) == 2

    with worker(server_url, queue_name):
        asyncio.run(main())


class Bomb:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, path: Path) -> None:
        """Touch this."""
        self.path = str(path)

    def __reduce__(self) -> Any:
        """Have the loader create the file."""
        return (open, (self.path, "w"))


def test_what_is_not_signed_is_never_loaded(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Unsigned, signed by others, tampered with, replayed in another queue or under another id."""
    mark = tmp_path / "mark"
    bomb = pickle.dumps(Bomb(mark))
    key, here = SECRET.encode(), SignedPlace("bull", queue_name)
    good = signed_text(bomb, key, here, "a")
    attacks: dict[str, Any] = {
        "unsigned": {"signed": good[64:]},
        "other": {"signed": signed_text(bomb, b"x" * 32, here, "other")},
        "tampered": {"signed": signed_text(bomb, key, here, "tampered")[:-4] + "AAA="},
        "queue": {"signed": signed_text(bomb, key, SignedPlace("bull", "elsewhere"), "queue")},
        "renamed": {"signed": good},
        "shape": [good],
    }
    with worker(server_url, queue_name), Queue.sync(queue_name, server_url) as queue:
        for job_id, data in attacks.items():
            job = queue.add("call", data, job_id=job_id, attempts=3)
            with pytest.raises(JobFailed, match="refused"):
                job.result(60)
            assert job.refresh().cause == SignatureRefused.__name__
        assert not mark.exists()
        queue.add("call", {"signed": signed_text(bomb, key, here, "good")}, job_id="good")
        wait_until(mark.exists)  # the bomb is one: signed, it goes off


def test_a_wrong_secret_is_a_typed_error(server_url: str, queue_name: str) -> None:
    """The caller reads that secrets differ."""
    with (
        worker(server_url, queue_name),
        SandboxExecutor(queue_name, server_url, secret=SECRET[::-1]) as executor,
    ):
        assert isinstance(executor.submit(int).exception(60), SignatureRefused)


def test_limits_are_said_at_once(server_url: str, queue_name: str) -> None:
    """Nothing is written for what cannot work; a worker without a secret does not start."""
    with SandboxExecutor(queue_name, server_url, secret=SECRET) as executor:
        with pytest.raises(PayloadTooLarge, match="limit"):
            executor.submit(len, b"x" * (PAYLOAD_LIMIT + 1))
        with pytest.raises(UsageError, match="cannot be sent"):
            executor.submit(lambda: executor)
    with pytest.raises(RuntimeError):
        executor.submit(int)
    with pytest.raises(UsageError, match="secret"):
        SandboxExecutor(queue_name, server_url, secret=SECRET[:15])
    command = [sys.executable, "-m", "sandboxq", "run", "sandboxq.functions", "--url", server_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "SANDBOXQ_SECRET" in done.stderr) == (2, True)


def test_from_a_notebook(server_url: str, queue_name: str) -> None:
    """What stands in `__main__` and in no file travels by value."""
    program = f"""
from sandboxq import SandboxExecutor
base = 40
def add(n): return base + helper(n)
def helper(n): return n
with SandboxExecutor({queue_name!r}, {server_url!r}, secret={SECRET!r}) as executor:
    print(executor.submit(add, 2).result(60))
"""
    with worker(server_url, queue_name):
        command = [sys.executable, "-"]
        done = subprocess.run(command, input=program, capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"


def test_shutdown_cancels_only_what_no_worker_has(server_url: str, queue_name: str) -> None:
    """As the standard library's: what runs, runs on; what waits is cancelled."""
    with worker(server_url, queue_name):
        executor = SandboxExecutor(queue_name, server_url, secret=SECRET)
        running = [executor.submit(time.sleep, 1.5) for _ in range(2)]
        wait_until(lambda: all(future.running() for future in running))
        waiting = [executor.submit(time.sleep, 0) for _ in range(150)]
        assert not waiting[-1].running()
        executor.shutdown(cancel_futures=True)
        assert [future.result(0) for future in running] == [None] * 2
        assert not running[0].running()
        assert all(future.done() for future in waiting)
        assert sum(future.cancelled() for future in waiting) > 140
        with Queue.sync(queue_name, server_url) as queue:
            assert queue.counts()["waiting"] == queue.counts()["active"] == 0


def test_large_values_travel_beside_the_json(server_url: str, queue_name: str) -> None:
    """Twenty megabytes of array and bytes, whole and writable; small ones in the JSON."""
    numpy = pytest.importorskip("numpy")

    def make(count: int) -> dict[str, Any]:
        return {
            "array": numpy.arange(count),
            "bytes": [bytes(count), bytearray(count)],
            "tuple": (1, numpy.ones(count)),
        }

    with (
        worker(server_url, queue_name),
        SandboxExecutor(queue_name, server_url, secret=SECRET) as executor,
    ):
        for count in (10, 1_000_000):
            value = executor.submit(make, count).result(60)
            assert (value["array"] == numpy.arange(count)).all()
            value["array"][0] = 7
            assert value["bytes"] == [bytes(count), bytearray(count)]
            assert [type(each) for each in value["bytes"]] == [bytes, bytearray]
            assert (type(value["tuple"]), value["tuple"][1].sum()) == (tuple, count)
        error = executor.submit(fails, ValueError, bytes(100_000)).exception(60)
        assert isinstance(error, RemoteError)


def test_many_calls_leave_nothing_behind(server_url: str, queue_name: str) -> None:
    """No task, thread, connection or pending job for any of 5,000 calls."""
    with worker(server_url, queue_name):
        with SandboxExecutor(queue_name, server_url, secret=SECRET) as executor:
            assert executor.submit(abs, -1).result(60) == 1
        before = open_descriptors()
        with SandboxExecutor(queue_name, server_url, secret=SECRET) as executor:
            values = executor.map(abs, range(-5000, 0))
            first = next(values)
            calls = executor._calls
            assert len(calls._tasks) < 5
            assert [first, *values] == list(range(5000, 0, -1))
            assert not calls._pending
            assert not calls._added
        assert not any("sandboxq-executor" in each.name for each in threading.enumerate())
        assert open_descriptors() <= before


def test_redis_goes_away_during_a_map(tmp_path: Path, queue_name: str) -> None:
    """What was sent, and what was not yet, comes back in order once Redis does."""
    with StoppableServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:  # noqa: SIM117 - the server outlives the worker
        with (
            worker(server.url, queue_name),
            SandboxExecutor(queue_name, server.url, secret=SECRET) as executor,
        ):
            values = executor.map(slow_square, range(300))
            assert next(values) == 0
            server.stop()
            later = executor.submit(slow_square, 1000)
            time.sleep(1)
            server.start()
            assert list(values) == [number * number for number in range(1, 300)]
            assert later.result(60) == 1_000_000
