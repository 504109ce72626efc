"""Servers that tests may stop, freeze and start again, and a proxy that cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import signal
import subprocess
from collections import Counter
from socket import AF_INET, SOCK_STREAM, socket
from typing import TYPE_CHECKING, Self

from sandboxq.broker.embedded.launcher import binary_path
from tests.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path


# Below those that Linux gives to whoever asks for any: until it is used, nobody is given it.
_PORTS = range(11_000, 32_000)


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    while True:
        port = secrets.choice(_PORTS)
        with socket(AF_INET, SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class StoppableServer:
    """A real valkey-server on a loopback port, without persistence."""

    def __init__(self, directory: Path, *options: str, program: str | None = None) -> None:
        """Prepare; ``start`` runs it. ``options`` go to its command line."""
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._command = [program or str(binary_path()), "--port", str(self.port)]
        self._command += ["--bind", "127.0.0.1", "--save", "", "--dir", str(directory), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.is_frozen = False

    def start(self) -> None:
        """Run the server and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        port = int(self._command[self._command.index("--tls-port") + 1]) if self._tls else self.port
        wait_until(lambda: listens(port))

    def stop(self) -> None:
        """End the server and wait for its end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """Let it die at once, with whatever it has not passed on to its replicas."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)
        self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and neither stopped nor killed."""
        return self._process is not None

    def freeze(self) -> None:
        """Let it answer nothing, as a network does that swallows packets."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self.is_frozen = False

    def __enter__(self) -> Self:
        """Start it; what does not come up is no other test's process."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def _tls(self) -> bool:
        return "--tls-port" in self._command


class FaultProxy:
    """Stands between clients and a real server, and cuts a connection when it sees a word.

    The server still gets the command and runs it; its reply is what the client never sees.
    """

    def __init__(
        self,
        server: StoppableServer,
        *,
        cut_at: bytes | tuple[bytes, ...] = b"",
        cuts: float = math.inf,
        delay: float = 0.0,
    ) -> None:
        """Cut each connection over which (one of) ``cut_at`` is sent, the first ``cuts`` times.

        ``delay`` holds back each reply for so many seconds: a server in the next town.
        """
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.connections = 0
        self.was_cut_at: Counter[bytes] = Counter()
        self._server_port = server.port
        self.cut_at = cut_at
        self.cuts_left = cuts if cut_at else 0
        self._delay = delay
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Listen."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut what is left."""
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_cut_at(self, request: bytes) -> bool:
        words = self.cut_at if isinstance(self.cut_at, tuple) else (self.cut_at,)
        found = [word for word in words if word in request]
        self.was_cut_at.update(found)
        return bool(found)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        replies = asyncio.create_task(_pass_on(from_server, to_client, self._delay))
        try:
            while request := await from_client.read(65536):
                if self.cuts_left > 0 and self._is_cut_at(request):
                    self.cuts_left -= 1
                    replies.cancel()
                    to_client.transport.abort()
                    to_server.write(request)
                    to_server.write_eof()
                    # The server closes once it has run everything.
                    await asyncio.wait([replies])
                    await from_server.read()
                    return
                to_server.write(request)
        finally:
            replies.cancel()
            to_client.transport.abort()
            to_server.transport.abort()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await asyncio.sleep(delay)
            writer.write(data)
            await writer.drain()


def listens(port: int) -> bool:
    """Whether somebody listens on this loopback port."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
