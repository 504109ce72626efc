"""What comes over a connection, cut as the network likes, unasked, or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from sandboxq.broker.connect.broker import Broker
from sandboxq.errors import BrokerUnavailable
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.servers import StoppableServer

MB = 1 << 20


def test_what_nobody_takes_stays_with_the_server(server_url: str) -> None:
    """A subscriber that is busy must not fill our memory; later it gets every message."""

    async def main() -> list[int]:
        # A Unix socket: of TCP the kernel itself takes megabytes.
        broker = await Broker.connect(server_url)
        subscription = await broker.subscribe("channel")
        for number in range(24):
            await broker.command("PUBLISH", "channel", b"%d" % number + b"x" * (MB // 4))

        async def is_held_back() -> bool:
            return b" omem=0 " not in await broker.command("CLIENT", "LIST", "TYPE", "pubsub")

        await wait_until_async(is_held_back)
        assert subscription._link is not None
        assert subscription._link.received < MB
        found = []
        async for payload in subscription:
            found.append(int(payload.rstrip(b"x")))
            if len(found) == 24:
                break
        await subscription.close()
        await broker.close()
        return found

    assert run_async(main()) == list(range(24))


def test_a_wait_for_a_message_that_is_given_up_loses_none(server: StoppableServer) -> None:
    """Subscribers look up from their work every few seconds."""

    async def main() -> bytes:
        broker = await Broker.connect(server.url)
        link = await broker.open_link("channel")
        await link.send("SUBSCRIBE", "channel")
        await link.next_push()
        waiting = asyncio.ensure_future(link.next_push())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await broker.command("PUBLISH", "channel", b"message")
        push = await asyncio.wait_for(link.next_push(), 10)
        await link.drop()
        await broker.close()
        return bytes(push[2])

    assert run_async(main()) == b"message"


def test_a_message_that_comes_as_its_wait_is_given_up_is_not_lost(
    server: StoppableServer,
) -> None:
    """So it is after the loop was held up: what came and the end of the wait are met together."""

    async def main() -> bytes:
        broker = await Broker.connect(server.url)
        link = await broker.open_link("channel")
        await link.send("SUBSCRIBE", "channel")
        await link.next_push()
        waiting = asyncio.ensure_future(link.next_push())
        await asyncio.sleep(0)
        with Redis.from_url(server.url) as other:
            other.publish("channel", "message")
        assert link._poll is not None
        assert link._poll.poll(10_000)
        # Timers come after what was read in the same turn.
        asyncio.get_running_loop().call_later(0, waiting.cancel)
        assert isinstance(*await asyncio.gather(waiting, return_exceptions=True), BaseException)
        push = await asyncio.wait_for(link.next_push(), 10)
        await link.drop()
        await broker.close()
        return bytes(push[2])

    assert run_async(main()) == b"message"


def test_small_messages_taken_slowly_stay_with_the_server(server_url: str) -> None:
    """Each that is taken must not let in a hundred more."""

    async def main() -> tuple[int, list[int]]:
        broker = await Broker.connect(server_url)
        subscription = await broker.subscribe("channel")
        found = []
        for start in range(0, 10_000, 100):
            numbers = range(start, start + 100)
            await broker.pipeline(
                [("PUBLISH", "channel", b"%d" % number + b"x" * 1000) for number in numbers]
            )
            found.append(int((await anext(subscription)).rstrip(b"x")))
        assert subscription._link is not None
        received = subscription._link.received
        while len(found) < 10_000:
            found.append(int((await anext(subscription)).rstrip(b"x")))
        await subscription.close()
        await broker.close()
        return received, found

    received, found = run_async(main())
    assert found == list(range(10_000))
    assert received < 2 * MB


def test_a_reply_that_nobody_waits_for_ends_its_connection(server: StoppableServer) -> None:
    """The next command would take it for its own answer."""

    async def main() -> None:
        broker = await Broker.connect(server.url)
        link = await broker.open_link("k")
        (reply,) = await link.exchange(b"*1\r\n$4\r\nPING\r\n" * 2, replies=1, timeout=5)
        assert reply == b"PONG"

        async def is_found() -> bool:
            return not await link.is_usable()

        await wait_until_async(is_found)
        await link.drop()
        await broker.close()

    run_async(main())


def test_a_connection_that_was_dropped_takes_nothing_more(server: StoppableServer) -> None:
    """Nor does it connect again by itself."""

    async def main() -> None:
        broker = await Broker.connect(server.url)
        link = await broker.open_link("k")
        await link.drop()
        with pytest.raises(BrokerUnavailable):
            await link.send("PING")
        with pytest.raises(BrokerUnavailable):
            await link.exchange(b"*1\r\n$4\r\nPING\r\n", replies=1, timeout=5)
        assert not link.is_open
        await broker.close()

    run_async(main())


@pytest.mark.parametrize(
    "nonsense",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"%1\r\n*0\r\n+a\r\n", b"*4294967295\r\n", b"-MOVED\r\n"],
)
def test_nonsense_is_no_reply(nonsense: bytes, tmp_path: Path) -> None:
    """Another program may listen where Redis did."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while words := await reader.read(1000):
            # redis-py greets before we read.
            writer.write(b"+OK\r\n" * words.count(b"SETINFO") or nonsense)
        writer.close()

    async def main() -> None:
        path = tmp_path / "socket"
        async with await asyncio.start_unix_server(answer, path):
            with pytest.raises(BrokerUnavailable, match="Redis at"):
                await asyncio.wait_for(Broker.connect(f"unix://{path}"), 10)

    run_async(main())
