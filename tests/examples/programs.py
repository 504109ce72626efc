"""Runs the programs of an example, as its README says, and ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

END_SECONDS = 60


def program(
    folder: Path, module: str, *arguments: str, **options: Any
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Run a Python module in ``folder``, as ``python`` runs a file."""
    return python(folder, "-m", module, *arguments, **options)


@contextlib.contextmanager
def python(
    folder: Path,
    *arguments: str | Path,
    pass_fds: tuple[int, ...] = (),
    variables: Mapping[str, str] | None = None,
    output: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python in ``folder`` while the block runs; then it must end by SIGINT.

    What it prints and logs goes to the file ``output``, if there is one.
    """
    with output.open("wb") if output else contextlib.nullcontext() as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment(variables or {}),
            pass_fds=pass_fds,
            stdout=file,
            stderr=file and subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def finished(
    folder: Path, *arguments: str | Path, variables: Mapping[str, str] | None = None
) -> str:
    """Run Python in ``folder`` to its end, which must be a good one; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(variables or {}),
        capture_output=True, text=True, timeout=END_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def embedded_url(folder: Path) -> str:
    """Return the URL of a folder's embedded server, which is running."""
    return f"unix://{folder / '.sandboxq' / 'valkey.sock'}"


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that names no Redis: the example's folder has an embedded server."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SANDBOXQ_", "FLASK_")) and name != "REDIS_URL"
    }
    return {**own, **variables}


@contextlib.contextmanager
def uvicorn(folder: Path, example: Path) -> Iterator[str]:
    """Serve ``app:app`` of an example on a free port; yield its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        port = listening.getsockname()[1]
        fd = listening.fileno()
        arguments = ("--app-dir", str(example), "--fd", str(fd), "app:app")
        with program(
            folder, "uvicorn", "--timeout-graceful-shutdown", "5", *arguments, pass_fds=(fd,),
        ) as process:  # fmt: skip
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: process.poll() is None and _answers(url))
            yield url


def _answers(url: str) -> bool:
    import httpx

    try:
        httpx.get(url, timeout=5)
    except httpx.HTTPError:
        return False
    return True
