"""A TCP proxy with faults, in a thread of its own: cut, delayed, half-open, rewritten.

clients ◄──► Proxy ◄──► one Redis; each connection is a ``_Pair`` that a fault may pick out
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

# Longer than any client waits for a peer that is silent.
_HALF_OPEN_SECONDS = 20.0


class _Pair:
    """One client's connection and the one to the server that stands for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.cut_after: int | None = None
        self.is_swallowed = False  # both sides believe in it, and nothing goes through
        self.keeps_server = False  # the client has gone, and the server is not told

    def abort(self) -> None:
        """End both sides."""
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Listens while it is a context; the faults may be called from any thread."""

    def __init__(
        self,
        target: int,
        *,
        seed: int = 0,
        rewriter: Callable[[], Callable[[bytes], bytes]] | None = None,
        swallow_at: bytes = b"",
    ) -> None:
        """Pass on to the port ``target``; a ``rewriter`` is made for each connection.

        A connection on which ``swallow_at`` is sent is silent from then on.
        """
        self.port = 0
        self._target = target
        self._rng = random.Random(seed)
        self._rewriter = rewriter
        self._swallow_at = swallow_at
        self._delay = 0.0
        self._pairs: list[_Pair] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}"

    # ── faults ──────────────────────────────────────────────────────────────

    def cut(self) -> str:
        """End a connection somewhere in the middle of its next reply."""

        def choose(pair: _Pair) -> None:
            pair.cut_after = self._rng.choice([0, 1, 3, 5, 20, 100])

        return self._pick("cut", choose)

    def swallow(self) -> str:
        """Let nothing through a connection any more, and tell neither side."""

        def choose(pair: _Pair) -> None:
            pair.is_swallowed = True
            self._loop.call_later(_HALF_OPEN_SECONDS, pair.abort)

        return self._pick("half-open", choose)

    def lose_client(self) -> str:
        """End a connection for the client; the server believes in it still."""

        def choose(pair: _Pair) -> None:
            pair.keeps_server = True
            pair.client.transport.abort()
            self._loop.call_later(_HALF_OPEN_SECONDS, pair.abort)

        return self._pick("half-open at the server", choose)

    def lose_server(self) -> str:
        """End a connection for the server; the client believes in it still."""

        def choose(pair: _Pair) -> None:
            pair.is_swallowed = True
            pair.server.transport.abort()
            self._loop.call_later(_HALF_OPEN_SECONDS, pair.abort)

        return self._pick("half-open at the client", choose)

    def delay(self, seconds: float) -> None:
        """Hold each chunk back for up to so long, from now on; 0 for no longer."""
        self._delay = seconds

    def _pick(self, name: str, choose: Callable[[_Pair], None]) -> str:
        async def pick() -> str:
            whole = [pair for pair in self._pairs if not pair.is_swallowed]
            if not whole:
                return ""
            choose(self._rng.choice(whole))
            return name

        return str(self._wait_for(pick()))

    # ── the proxy itself ────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self._listener = self._wait_for(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and end what is left."""
        self._wait_for(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._listener.close()
        for pair in self._pairs:
            pair.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            client.transport.abort()
            return
        pair = _Pair(client, server)
        self._pairs.append(pair)
        requests = asyncio.create_task(self._pass_requests(pair, from_client))
        replies = asyncio.create_task(self._pass_replies(pair, from_server))
        try:
            await asyncio.wait([requests, replies], return_when=asyncio.FIRST_COMPLETED)
            while pair.is_swallowed or pair.keeps_server:
                await asyncio.sleep(0.1)
                if client.transport.is_closing() and server.transport.is_closing():
                    break
        except asyncio.CancelledError:
            return  # the proxy stops; asyncio's own callback would tell of it as of an error
        finally:
            requests.cancel()
            replies.cancel()
            pair.abort()
            self._pairs.remove(pair)

    async def _pass_requests(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await self._hold_back()
                if self._swallow_at and self._swallow_at in chunk:
                    pair.is_swallowed = True
                if not pair.is_swallowed:
                    pair.server.write(chunk)
                    await pair.server.drain()

    async def _pass_replies(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        rewrite = self._rewriter() if self._rewriter else bytes
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await self._hold_back()
                if pair.cut_after is not None:
                    pair.client.write(chunk[: pair.cut_after])
                    await pair.client.drain()
                    return
                if pair.is_swallowed or pair.client.transport.is_closing():
                    continue
                pair.client.write(rewrite(chunk))
                await pair.client.drain()

    async def _hold_back(self) -> None:
        if self._delay:
            await asyncio.sleep(self._rng.uniform(0, self._delay))
