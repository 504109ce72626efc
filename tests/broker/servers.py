"""Servers that tests may stop, freeze and start again, and one that says what it is told to say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from socket import AF_INET, SOCK_STREAM, socket
from typing import TYPE_CHECKING, Self

from sandboxq.broker.launcher import binary_path
from tests.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StoppableServer:
    """A real valkey-server on a loopback port, without persistence."""

    def __init__(self, directory: Path, *options: str, program: str | None = None) -> None:
        """Prepare; ``start`` runs it. ``options`` go to its command line."""
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._command = [program or str(binary_path()), "--port", str(self.port)]
        self._command += ["--bind", "127.0.0.1", "--save", "", "--dir", str(directory), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run the server and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        port = int(self._command[self._command.index("--tls-port") + 1]) if self._tls else self.port
        wait_until(lambda: _listens(port))

    def stop(self) -> None:
        """End the server and wait for its end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Let it answer nothing, as a network does that swallows packets."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def _tls(self) -> bool:
        return "--tls-port" in self._command


class ScriptedServer:
    """Answers each command by its name with the bytes it was given; None closes the connection."""

    def __init__(self, answers: dict[str, list[bytes | None]]) -> None:
        """Give the answers of each command in order; the last one repeats."""
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.seen: list[str] = []
        self.connections = 0
        self._answers = answers

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                name = await _command_name(reader)
                self.seen.append(name)
                answers = self._answers.get(name, [b"+OK\r\n"])
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is None:
                    break
                writer.write(answer)
        writer.close()


async def _command_name(reader: asyncio.StreamReader) -> str:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    parts = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        parts.append((await reader.readexactly(size + 2))[:-2])
    return parts[0].decode()


def _listens(port: int) -> bool:
    with socket(AF_INET, SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
