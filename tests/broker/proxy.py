"""A TCP proxy between clients and a real server: slow, cut, or dead on one side only."""

from __future__ import annotations

import asyncio
import contextlib
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# Small, so that what is on its way is in this file and not in the kernel.
_BUFFER = 64 << 10


class Passage:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        """Pass on between these."""
        self.client = client
        self.server = server
        self.asked = bytearray()  # what came last from the client
        self.sent = 0  # how many bytes have come from the client
        self.answered = 0  # how many bytes have come from the server
        self.is_unresponsive = False  # nothing goes to the server any more
        self.is_mute = False  # nothing comes from it any more
        self.answers_pass = asyncio.Event()  # cleared, what comes from the server waits here
        self.answers_pass.set()
        self.is_stepwise = False  # cleared again after each piece that passed

    async def gate(self) -> None:
        """Wait until an answer may pass."""
        await self.answers_pass.wait()
        if self.is_stepwise:
            self.answers_pass.clear()

    def abort(self) -> None:
        """Close both sides at once."""
        self.client.transport.abort()
        self.server.transport.abort()

    def abort_client(self) -> None:
        """Let the connection be dead on the client's side; the server hears nothing of it."""
        self.client.transport.abort()


class Proxy:
    """Passes on ``rate`` bytes a second each way of each connection, as fast as it can for None."""

    def __init__(self, port: int, *, rate: float | None = None) -> None:
        """Lead to a server on this loopback port."""
        self._to = port
        self.rate = rate
        # Cuts each connection over which so many bytes have come from the server; None never.
        self.cut_after: float | None = None
        # The same of bytes that have come from the client; they were passed on.
        self.cut_after_asking: float | None = None
        self.passages: list[Passage] = []
        self.bytes_to_client = 0
        self.bytes_to_server = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and cut what is left."""
        self._listener.close()
        for passage in self.passages:
            passage.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def living(self, asked: bytes = b"") -> list[Passage]:
        """Return the connections whose client is there and has last sent something with this."""
        return [
            each
            for each in self.passages
            if asked in each.asked and not each.client.transport.is_closing()
        ]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        passage = Passage(writer, to_server)
        self.passages.append(passage)
        for each in (writer, to_server):
            sock = each.get_extra_info("socket")
            for option in (SO_RCVBUF, SO_SNDBUF):
                sock.setsockopt(SOL_SOCKET, option, _BUFFER)

        def on_question(data: bytes) -> None:
            passage.asked[:] = data
            passage.sent += len(data)
            self.bytes_to_server += len(data)
            if self.cut_after_asking is not None and passage.sent > self.cut_after_asking:
                passage.abort_client()

        def on_answer(data: bytes) -> None:
            self.bytes_to_client += len(data)
            passage.answered += len(data)
            if self.cut_after is not None and passage.answered > self.cut_after:
                passage.abort()

        await asyncio.gather(
            self._pass_on(
                reader, to_server, on_question, lambda: passage.is_unresponsive, gate=_open
            ),
            self._pass_on(
                from_server, writer, on_answer, lambda: passage.is_mute, gate=passage.gate
            ),
        )

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        note: Callable[[bytes], None],
        is_swallowed: Callable[[], bool],
        gate: Callable[[], Coroutine[None, None, None]],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_BUFFER):
                note(data)
                await gate()
                if self.rate is not None:
                    await asyncio.sleep(len(data) / self.rate)
                if not is_swallowed() and not writer.transport.is_closing():
                    writer.write(data)
                    await writer.drain()
            return


async def _open() -> None:
    """Let pass."""
