"""The HTTP server of a worker, against strangers: each harms its own connection alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from sandboxq import UsageError
from sandboxq.worker.http_server import (
    MOST_CONNECTIONS,
    MOST_HEAD,
    Address,
    HttpServer,
    Request,
    Response,
    address_from_text,
)
from tests.conftest import run_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GET = b"GET /echo?a=b HTTP/1.1\r\nHost: x\r\naccept: text/x\r\n\r\n"


async def echo(request: Request) -> Response:
    """Answer with what was asked; fail where that is asked."""
    if request.path == "/fail":
        raise ValueError(request.path)
    return Response(200, f"{request.path} {request.query} {request.accept}")


@asynccontextmanager
async def listening() -> AsyncIterator[HttpServer]:
    """Serve on a free port."""
    server = HttpServer("0", echo)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def sent(server: HttpServer, data: bytes) -> bytes:
    """Return all that is answered to these bytes."""
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        writer.write(data)
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (GET, b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n/echo {'a': 'b'} text/x"),
        (GET.replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"),
        (b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 ", b"405 Method Not Allowed\n"),
        (b"GET /fail HTTP/1.1\r\n\r\n", b"HTTP/1.1 500 ", b"500 Internal Server Error\n"),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 ", b"400 Bad Request\n"),
        (b"\xff\x00 nonsense\r\n\r\n", b"HTTP/1.1 400 ", b"400 Bad Request\n"),
        (b"GET /" + b"x" * 2 * MOST_HEAD + b" HTTP/1.1\r\n\r\n", b"HTTP/1.1 431 ", b"Large\n"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * MOST_HEAD, b"HTTP/1.1 431 ", b"Large\n"),
    ],
)
def test_each_request_has_one_answer(data: bytes, start: bytes, end: bytes) -> None:
    """Whatever it is; then the connection is closed, and the next one is served."""

    async def main() -> None:
        async with listening() as server:
            answer = await sent(server, data)
            # Where more was sent than was read, the reset may outrun the answer.
            assert not answer or (answer.startswith(start) and answer.endswith(end)), answer
            assert answer or len(data) > MOST_HEAD
            assert (await sent(server, GET)).startswith(b"HTTP/1.1 200 OK")

    run_async(main())


def test_more_connections_than_there_are_places() -> None:
    """Those who only hold theirs keep no probe out: the oldest is closed for one more."""

    async def main() -> None:
        async with listening() as server:
            silent = [
                await asyncio.open_connection(*server.address) for _ in range(MOST_CONNECTIONS)
            ]
            for _ in range(3):
                assert (await sent(server, GET)).startswith(b"HTTP/1.1 200 OK")
            assert await silent[0][0].read() == b""
            silent[-1][1].write(GET)
            assert (await silent[-1][0].read()).startswith(b"HTTP/1.1 200 OK")
            for _, writer in silent:
                writer.close()

    run_async(main())


def test_it_closes_while_somebody_is_connected() -> None:
    """A worker that ends waits for no stranger."""

    async def main() -> None:
        async with listening() as server:
            reader, writer = await asyncio.open_connection(*server.address)
            await sent(server, GET)
        assert await reader.read() == b""
        writer.close()

    run_async(main())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9808", Address("127.0.0.1", 9808)),
        (":80", Address("127.0.0.1", 80)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),  # noqa: S104 - asked for
        ("[::1]:9808", Address("::1", 9808)),
        ("pod.local:9808", Address("pod.local", 9808)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """Without a host it is the loopback."""
    assert address_from_text(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "here", "1.2.3.4", "::1:80", "a:70000", "http://a:80", "a:", "a..b:80", "a" * 64 + ":80"],
)
def test_what_is_no_address(text: str) -> None:
    """Said before anything is started."""
    with pytest.raises(UsageError, match="must look like 9808"):
        address_from_text(text)


def test_an_address_that_is_taken_is_named() -> None:
    """And what to do."""

    async def main() -> None:
        async with listening() as server:
            with pytest.raises(UsageError, match=f"{server.address.port}.*name another"):
                await HttpServer(str(server.address), echo).start()

    run_async(main())
