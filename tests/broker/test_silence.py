"""Deadlines are on silence, and connections that were left are ended on the server."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.commands.binary import fetch, new_reference, store
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import BrokerUnavailable
from tests.broker.proxy import Proxy
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from tests.broker.servers import StoppableServer

MB = 1 << 20


async def blocked(broker: Broker) -> int:
    """Return how many clients wait inside the server."""
    info: bytes = await broker.command("INFO", "clients")
    return int(info.partition(b"blocked_clients:")[2].split()[0])


def test_what_takes_longer_than_the_deadline_arrives_while_it_moves(
    server: StoppableServer,
) -> None:
    """24 MB over 2 MB/s were dropped after 10 s and asked for again, for ever."""

    async def main() -> None:
        async with Proxy(server.port, rate=2 * MB) as proxy:
            broker = await Broker.connect(proxy.url + "?socket_timeout=1")
            began = time.monotonic()
            await broker.command("SET", "large", b"x" * (4 * MB))
            sent = time.monotonic() - began
            assert await broker.command("GET", "large") == b"x" * (4 * MB)
            assert sent > 1 < time.monotonic() - began - sent
            await broker.close()

    run_async(main())


def test_blobs_arrive_over_a_slow_link(server: StoppableServer) -> None:
    """They go past redis-py, and have the same deadline."""

    async def main() -> None:
        async with Proxy(server.port, rate=2 * MB) as proxy:
            broker = await Broker.connect(proxy.url)
            reference = new_reference(QueueKeys("q"), 3 * MB, "")
            await store(broker, reference, [b"y" * (3 * MB)])
            assert bytes(await fetch(broker, reference)) == b"y" * (3 * MB)
            await broker.close()

    run_async(main())


def test_a_reply_that_stops_halfway_is_given_up(server: StoppableServer) -> None:
    """Progress that has ended is silence, and no reason to wait longer."""

    async def main() -> None:
        async with Proxy(server.port, rate=4 * MB) as proxy:
            broker = await Broker.connect(proxy.url + "?socket_timeout=1")
            await broker.command("SET", "large", b"x" * (4 * MB))
            asking = asyncio.ensure_future(broker.command("GET", "large"))
            before = proxy.bytes_to_client

            async def is_coming() -> bool:
                return proxy.bytes_to_client > before + MB

            await wait_until_async(is_coming)
            for passage in proxy.living():
                passage.is_mute = True
            with pytest.raises(BrokerUnavailable, match="did not answer within 1 s"):
                await asyncio.wait_for(asking, 10)
            await broker.close()

    run_async(main())


def test_a_request_that_nobody_takes_is_given_up(server: StoppableServer) -> None:
    """A server that reads no more must not hold its client for ever."""

    async def main() -> None:
        broker = await Broker.connect(server.url + "?socket_timeout=1")
        server.freeze()
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(broker.command("SET", "large", b"x" * (32 * MB)), 10)
        server.thaw()
        await broker.close()

    run_async(main())


def test_the_kernel_is_told_to_look_for_dead_peers(server: StoppableServer) -> None:
    """Else a connection over which nothing goes is never known to be dead."""

    async def main() -> list[int]:
        broker = await Broker.connect(server.url)
        link = await broker.open_link("k")
        reader = await broker.blocking("n", "k")
        links = [link, reader._link]
        subscription = await broker.subscribe("channel")
        links.append(subscription._link)
        found = []
        for each in links:
            assert each is not None
            sock = each._transport.get_extra_info("socket")
            found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
            found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        await link.drop()
        await reader.close()
        await broker.close()
        return found

    assert run_async(main()) == [1, 10, 10_000] * 3


def test_a_connection_that_is_dead_on_our_side_is_ended_on_the_server(
    server: StoppableServer,
) -> None:
    """It would pop the next marker, and run what waits behind that, for nobody."""

    async def main() -> None:
        direct = await Broker.connect(server.url)
        async with Proxy(server.port) as proxy:
            broker = await Broker.connect(proxy.url)
            reader = await broker.blocking("name", "marker")
            waiting = asyncio.ensure_future(reader.pop_marker("marker", 30))
            await wait_until_async(lambda: _has_blocked(direct))
            for passage in proxy.living(b"BZPOPMIN"):
                passage.abort_client()
            with pytest.raises(BrokerUnavailable):
                await waiting
            assert await blocked(direct) == 1  # the server does not know
            await reader.time()
            assert await blocked(direct) == 0

            # The same over one of the connections that commands go over.
            asking = asyncio.ensure_future(broker.command("BLPOP", "list", 30))
            await wait_until_async(lambda: _has_blocked(direct))
            for passage in proxy.living(b"BLPOP"):
                passage.abort_client()
            with pytest.raises(BrokerUnavailable):
                await asking
            assert await broker.command("ECHO", "next") == b"next"
            assert await blocked(direct) == 0
            await broker.close()
        await direct.close()

    run_async(main())


async def _has_blocked(broker: Broker) -> bool:
    return await blocked(broker) == 1


def test_a_user_who_may_not_end_connections_is_told_once_and_goes_on(
    server: StoppableServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Managed servers forbid CLIENT KILL; a worker there must go on all the same."""

    async def main() -> None:
        direct = await Broker.connect(server.url)
        await direct.command("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-client|kill")
        async with Proxy(server.port) as proxy:
            broker = await Broker.connect(proxy.url.replace("redis://", "redis://u:p@"))
            for _ in range(2):
                asking = asyncio.ensure_future(broker.command("BLPOP", "list", 30))
                await wait_until_async(lambda: _has_passage(proxy))
                for passage in proxy.living(b"BLPOP"):
                    passage.abort_client()
                with pytest.raises(BrokerUnavailable):
                    await asking
                assert await broker.command("ECHO", "next") == b"next"
            await broker.close()
        await direct.close()

    run_async(main())
    told = [each for each in caplog.records if "CLIENT KILL" in each.getMessage()]
    assert len(told) == 1


async def _has_passage(proxy: Proxy) -> bool:
    return bool(proxy.living(b"BLPOP"))
