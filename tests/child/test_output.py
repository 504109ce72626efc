"""What stands for sys.stdout in a job has what libraries ask of a text file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed
from sandboxq.pool.kinds import Kind
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_ASKS = """
import contextlib, io, logging, os, shutil, signal, subprocess, sys, time

def process(job):
    return globals()[job.data["do"]]()

def asks():
    found = {}
    for stream in (sys.stdout, sys.stderr):
        found[stream.name] = [
            stream.encoding, stream.errors, stream.mode, stream.newlines, stream.closed,
            stream.isatty(), stream.writable(), stream.readable(), stream.seekable(),
            stream.line_buffering, stream.write_through, stream.fileno(),
            stream.reconfigure(encoding="utf-8", errors="replace", line_buffering=True),
            stream.writelines(["one\\n", "two\\n"]), stream.flush(),
            stream.buffer.write("b\u00fctes\\n".encode()), stream.buffer.flush(),
            stream.buffer.raw.write(b"raw\\n"), stream.buffer.writable(), stream.buffer.mode,
        ]
    wrapper = io.TextIOWrapper(sys.stdout.buffer, write_through=True)
    wrapper.write("wrapped\\n")
    wrapper.close()
    io.TextIOWrapper(sys.stdout.detach(), line_buffering=True).write("detached\\n")
    shutil.copyfileobj(io.BytesIO(b"copied\\n"), sys.stdout.buffer)
    with contextlib.redirect_stdout(io.StringIO()) as caught: print("caught")
    print("after", caught.getvalue().strip())
    sys.__stdout__.reconfigure(line_buffering=True)
    for name in ("read", "seek", "truncate"):
        try: getattr(sys.stdout, name)(0)
        except io.UnsupportedOperation as error: found[name] = type(error).__name__
    try: sys.stdout.write(b"bytes")
    except TypeError as error: found["bytes"] = str(error)
    sys.stdout.close()
    print("still", file=sys.stdout)
    subprocess.run(["echo", "child"], stdout=sys.stdout, check=True)
    logging.StreamHandler(sys.stdout).emit(logging.makeLogRecord({"msg": "handled"}))
    return found

def halves():
    for byte in "h\u00e9\u2603".encode(): sys.stdout.buffer.write(bytes([byte]))
    print()
    sys.stdout.buffer.write(b"\\xff\\n")

def shows():
    print("loading model ... ", end="", flush=True)
    time.sleep(60)

def kills():
    print("line 1")
    print("half", end="", flush=True)
    sys.stderr.write("before the crash")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)

def dots():
    for _ in range(1000): print(".", end="", flush=True)
    print(" done")

def bar():
    for i in range(500):
        sys.stderr.write(f"\\r{i:3}%")
        sys.stderr.flush()
        if i == 250: time.sleep(0.6)
    sys.stderr.write("\\n")

def no_flush():
    print("one ", end="")
    print("two")
"""


@pytest.fixture
def asks(tmp_path: Path) -> Path:
    """Return the path of a processor that does with stdout what it is told."""
    return processor_file(tmp_path, _ASKS)


@pytest.mark.parametrize("kind", [Kind.PROCESS, Kind.THREAD], ids=lambda kind: kind.value)
def test_it_is_a_text_file(asks: Path, kind: Kind) -> None:
    """Attributes, bytes, wrappers, handlers: nothing fails, and no text is lost."""

    async def main() -> None:
        async with open_pool(asks, kind=kind) as caller:
            call = caller.submit({"do": "asks"})
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Completed), outcome
            lines = [line for key, _, line in caller.lines if key == call.key]
            for text in (
                *("one", "two", "b\u00fctes", "raw", "wrapped", "detached", "copied"),
                *("after caught", "still", "handled"),
            ):
                assert text in lines, (text, lines)
            found = outcome.value.decode()
            assert found.count("UnsupportedOperation") == 3
            assert "must be str, not bytes" in found

    if kind is Kind.THREAD and isinstance(__import__("sys").stdout, io.StringIO):
        pytest.skip("there is no real stream")
    run_async(main())


def test_bytes_in_pieces(asks: Path) -> None:
    """Half a character waits; what is none is shown."""

    async def main() -> None:
        async with open_pool(asks) as caller:
            await caller.value({"do": "halves"})
            assert [line for _, _, line in caller.lines] == ["h\u00e9\u2603", "\\xff"]

    run_async(main())


def test_flushed_text_is_seen_while_the_job_runs(asks: Path) -> None:
    """And not only with the newline, which may never come."""

    async def main() -> None:
        async with open_pool(asks) as caller:
            call = caller.submit({"do": "shows"})

            async def is_shown() -> bool:
                return (call.key, "stdout", "loading model ... ") in caller.lines

            await wait_until_async(is_shown)
            assert call.key not in caller.outcomes

    run_async(main())


def test_flushed_text_survives_a_crash(asks: Path) -> None:
    """It is often the best hint at what happened."""

    async def main() -> None:
        async with open_pool(asks) as caller:
            call = caller.submit({"do": "kills"})
            await caller.outcome(call)
            lines = [(stream, line) for key, stream, line in caller.lines if key == call.key]
            assert ("stdout", "half") in lines
            assert ("stderr", "before the crash") in lines

    run_async(main())


def test_progress_is_no_flood(asks: Path) -> None:
    """A thousand dots are a few lines, and a bar is what was seen last."""

    async def main() -> None:
        async with open_pool(asks) as caller:
            call = caller.submit({"do": "dots"})
            await caller.outcome(call)
            dots = [line for key, _, line in caller.lines if key == call.key]
            assert "".join(dots) == "." * 1000 + " done"
            assert len(dots) < 200
            call = caller.submit({"do": "bar"})
            await caller.outcome(call)
            bar = [line for key, _, line in caller.lines if key == call.key]
            assert 2 < len(bar) < 200
            assert "251%" in bar
            await caller.value({"do": "no_flush"})
            assert caller.lines[-1][2] == "one two"

    run_async(main())
