"""What becomes of a worker whose output nobody reads, or cannot be written: it goes on."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from sandboxq import Queue
from tests.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHATTY = """
import os, sys, time

def process(job):
    for number in range(job.data.get("lines", 0)):
        print(job.data.get("text", "x" * 200), number)
    if "file" in job.data:
        fd = os.open(job.data["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, b"begun\\n")
    time.sleep(job.data.get("seconds", 0))
    if "reason" in job.data:
        raise ValueError(job.data["reason"] + "\\ud800")
    return 1
"""
SHORT_LOCKS = ("--lock-duration", "2", "--stalled-interval", "1")


@pytest.fixture
def processor(tmp_path: Path) -> str:
    """Return a processor that prints as much as it is told."""
    path = tmp_path / "chatty.py"
    path.write_text(CHATTY)
    return str(path)


@contextlib.contextmanager
def running(url: str, queue: str, *arguments: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker while the block runs."""
    command = [sys.executable, "-m", "sandboxq", "run", *arguments, "--queue", queue]
    process = subprocess.Popen([*command, "--url", url], **how)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield both ends of a pipe."""
    near, far = os.pipe()
    with os.fdopen(near, "rb", 0) as reader, os.fdopen(far, "wb", 0) as writer:
        yield reader, writer


@pytest.mark.parametrize("is_nonblocking", [False, True])
def test_a_log_that_nobody_reads_stops_no_heartbeat(
    server_url: str, queue_name: str, processor: str, tmp_path: Path, *, is_nonblocking: bool
) -> None:
    """Lock renewal, jobs and SIGTERM work while stderr is blocked; no job runs twice."""
    begun = tmp_path / "begun"
    with Queue.sync(queue_name, url=server_url) as queue, pipe() as (_, far):
        os.set_blocking(far.fileno(), not is_nonblocking)
        long = queue.add("long", {"seconds": 5, "file": str(begun)})
        flood = queue.add("flood", {"lines": 3000})
        with (
            running(
                server_url, queue_name, processor, "--procs", "2", *SHORT_LOCKS,
                stdout=far, stderr=far,
            ) as worker,
            running(
                server_url, queue_name, processor, "--procs", "1", *SHORT_LOCKS,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            ),
        ):  # fmt: skip
            assert long.result(timeout=60) == 1
            assert flood.result(timeout=60) == 1
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        assert begun.read_text() == "begun\n"


def test_lines_that_found_no_reader_are_counted(
    server_url: str, queue_name: str, processor: str
) -> None:
    """A reader that was asleep reads on, and is told how much it missed."""
    with Queue.sync(queue_name, url=server_url) as queue, pipe() as (near, far):
        flood = [{"lines": 9000, "text": "x" * 1000}] * 4
        with running(
            server_url, queue_name, processor, "--procs", "2", stdout=far, stderr=far
        ) as worker:
            far.close()
            for job in queue.add_bulk([("flood", data) for data in flood]):
                assert job.result(timeout=60) == 1
            worker.send_signal(signal.SIGTERM)
            lines = near.read().decode().splitlines()
            assert worker.wait(60) == 0
    dropped = [int(line.split()[2]) for line in lines if "lines were dropped: more came" in line]
    printed = sum("] xxx" in line for line in lines)
    assert dropped
    assert printed + sum(dropped) == 4 * 9000
    assert "handed back" in lines[-1], "what the worker says finds room"


def test_a_reader_that_leaves_ends_nothing(
    server_url: str, queue_name: str, processor: str
) -> None:
    """``run … | head``: jobs go on, and SIGTERM ends it with exit code 0."""
    with Queue.sync(queue_name, url=server_url) as queue, pipe() as (near, far):
        with running(server_url, queue_name, processor, stdout=far, stderr=far) as worker:
            far.close()
            near.read(10)
            near.close()
            for job in queue.add_bulk([("print", {"lines": 5})] * 5):
                assert job.result(timeout=60) == 1
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        assert queue.counts()["active"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small tmpfs")
def test_a_full_disk_costs_lines_and_says_so(
    server_url: str, queue_name: str, processor: str, tmp_path: Path
) -> None:
    """ENOSPC on the log file: the worker goes on, and counts what is missing once there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    try:
        _fill_and_free(server_url, queue_name, processor, disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill_and_free(server_url: str, queue_name: str, processor: str, disk: Path) -> None:
    log, ballast = disk / "log", disk / "ballast"
    ballast.write_bytes(b"x" * 128 * 1024)
    with (
        Queue.sync(queue_name, url=server_url) as queue,
        log.open("ab") as file,
        running(server_url, queue_name, processor, stdout=file, stderr=file) as worker,
    ):
        assert queue.add("flood", {"lines": 2000}).result(timeout=60) == 1
        ballast.unlink()
        assert queue.add("print", {"lines": 1}).result(timeout=60) == 1
        wait_until(lambda: b"could not be written" in log.read_bytes())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    lines = log.read_text().splitlines()
    lost = [int(line.split()[2]) for line in lines if "could not be written" in line]
    printed = sum("] xxx" in line and line[-1].isdigit() for line in lines)
    assert 2001 <= printed + sum(lost) <= 2001 + len(lost), "but for lines torn where it was full"


@pytest.mark.parametrize("missing", [(0,), (1,), (2,), (0, 1, 2)])
def test_missing_descriptors(
    server_url: str, queue_name: str, processor: str, missing: tuple[int, ...]
) -> None:
    """A service manager that closes them gets a worker all the same; it was exit 134."""
    closing = " ".join(f"{number}>&-" for number in missing)
    run = f'exec {sys.executable} -m sandboxq run "$0" --queue "$1" --url "$2" --burst {closing}'
    with Queue.sync(queue_name, url=server_url) as queue:
        job = queue.add("print", {"lines": 5})
        done = subprocess.run(
            ["sh", "-c", run, processor, queue_name, server_url],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert job.state() == "completed"


ODD = "user:id:42 [bold]b[/bold] é 🆔 \x1b[2J \x9b1m \u202eevil"
SHOWN = "user:id:42 [bold]b[/bold] é 🆔 \\x1b[2J \\x9b1m \\u202eevil"


def _log_of(server_url: str, queue_name: str, processor: str, *options: str) -> list[str]:
    with Queue.sync(queue_name, url=server_url) as queue:
        queue.add("odd", {"lines": 1, "text": ODD, "reason": f"{ODD}\n2026 INFO forged"})
        with running(
            server_url, queue_name, processor, "--burst", *options, stderr=subprocess.PIPE
        ) as worker:
            text = worker.communicate(timeout=60)[1].decode()
    return text.splitlines()


def test_text_of_jobs_is_shown_as_it_is(server_url: str, queue_name: str, processor: str) -> None:
    """No emoji codes, no markup, nothing that a terminal obeys, no line that a job has forged."""
    lines = _log_of(server_url, queue_name, processor)
    assert any(SHOWN in line for line in lines if "[job" in line), lines
    assert any(SHOWN in line for line in lines if "failed" in line), lines
    assert not any(line.startswith("2026 INFO forged") for line in lines)


def test_json_holds_the_original_text(server_url: str, queue_name: str, processor: str) -> None:
    """Each line is a JSON object, whatever jobs print; the text in it is what they printed."""
    lines = _log_of(server_url, queue_name, processor, "--log-format", "json")
    rows = [json.loads(line) for line in lines]
    failed = next(row for row in rows if row.get("event") == "attempt-failed")
    # The child has escaped the lone surrogate: a reason is UTF-8 in Redis.
    assert failed["reason"] == f"{ODD}\n2026 INFO forged\\ud800"
    assert not set("\x1b\x9b\u202e") & set("".join(lines))


def test_progress_line_stays_below_the_log(
    server_url: str, queue_name: str, processor: str
) -> None:
    """On a terminal it is erased before a line, drawn after it, and gone at the end."""
    near, far = pty.openpty()
    with Queue.sync(queue_name, url=server_url) as queue:
        environment = {**os.environ, "TERM": "xterm"}
        with running(
            server_url, queue_name, processor, stdout=far, stderr=far, env=environment
        ) as worker:
            os.close(far)
            seen = bytearray()
            _read_until(near, seen, b"children busy")
            assert queue.add("print", {"lines": 3, "text": "hello"}).result(timeout=60) == 1
            _read_until(near, seen, b"1 done")
            worker.send_signal(signal.SIGTERM)
            _read_until(near, seen, b"longest heartbeat gap")
            with contextlib.suppress(OSError):  # the end of a terminal
                while piece := os.read(near, 65536):
                    seen += piece
            assert worker.wait(60) == 0
    os.close(near)
    assert b"hello 0\r\n" in seen
    assert seen.rstrip().endswith(b" s"), "the summary is last, without a progress line below it"


def _read_until(fileno: int, seen: bytearray, wanted: bytes) -> None:
    start = len(seen)
    deadline = time.monotonic() + 30
    while wanted not in seen[start:]:
        assert time.monotonic() < deadline, bytes(seen)
        seen += os.read(fileno, 65536)


LIBRARY = """
import asyncio, logging, sys
from sandboxq import Queue, Worker

logging.basicConfig(level=logging.DEBUG)  # writes to stderr, which nobody reads

async def main(url, queue, processor):
    async with Worker(queue, processor, url=url, procs=1, lock_duration=1) as worker:
        running = asyncio.ensure_future(worker.run())
        await asyncio.sleep(0)
        for number in range(2000):
            logging.getLogger("sandboxq.worker").warning("%d %s", number, "x" * 100)
        async with Queue(queue, url=url) as jobs:
            job = await jobs.add("x", {"seconds": 3})
            assert await job.result(timeout=60) == 1
        worker.stop()
        await running
    print(worker.counters.longest_gap < 1, flush=True)
    import os
    os._exit(0)

asyncio.run(main(*sys.argv[1:]))
"""


def test_logging_of_a_python_worker_blocks_no_loop(
    server_url: str, queue_name: str, processor: str, tmp_path: Path
) -> None:
    """A program's own handler on a blocked pipe does not stop the renewal of locks."""
    program = tmp_path / "program.py"
    program.write_text(LIBRARY)
    with pipe() as (_, far):
        done = subprocess.run(
            [sys.executable, str(program), server_url, queue_name, processor],
            stdout=subprocess.PIPE, stderr=far, timeout=60, check=False,
        )  # fmt: skip
    assert done.stdout == b"True\n"


MANY = """
import asyncio, os, sys

DEF process(job):
    for number in range(job.data):
        print(job.id, "out", number)
        if number % 50 == 0:
            PAUSE
            job.log(f"{job.id} row {number}")
            print(job.id, "err", number, file=sys.stderr)
    os.write(1, f"{job.id} raw\\n".encode())
    print(job.id, "tail", end="")
"""


@pytest.mark.parametrize(
    ("kind", "pause", "options"),
    [
        ("def", "pass", ()),
        ("def", "pass", ("--policy", "strict")),
        ("async def", "await asyncio.sleep(0)", ("--concurrency", "8")),
    ],
    ids=["def", "def strict", "async def"],
)
def test_lines_belong_to_the_job_that_printed_them(
    server_url: str,
    queue_name: str,
    tmp_path: Path,
    kind: str,
    pause: str,
    options: tuple[str, ...],
) -> None:
    """Many at a time, of jobs that follow each other or run at once, in the order of the prints."""
    path = tmp_path / "many.py"
    path.write_text(MANY.replace("DEF", kind).replace("PAUSE", pause))
    sizes = [0, 1, 700, 3, 2000, 1] * 5
    with Queue.sync(queue_name, url=server_url) as queue:
        jobs = queue.add_bulk([("many", size) for size in sizes])
        with running(
            server_url, queue_name, str(path), "--burst", "--procs", "2", *options,
            stderr=subprocess.DEVNULL,
        ) as worker:  # fmt: skip
            assert worker.wait(60) == 0
        for job, size in zip(jobs, sizes, strict=True):
            rows = [row for row in job.logs() if not row.endswith("raw")]
            wanted = []
            for number in range(size):
                wanted.append(f"{job.id} out {number}")
                if number % 50 == 0:
                    wanted += [f"{job.id} row {number}", f"{job.id} err {number}"]
            assert rows == [*wanted, f"{job.id} tail"]
