"""A small HTTP/1.1 server on the worker's own loop: for probes and scrapers, not for people.

    connection ─► head, at most 8 KB, within seconds ─► answer(request) ─► written, and closed

It has no dependency and no idle cost: standard library streams, one request a connection. Clients
are not trusted, so everything is bounded: connections, bytes, seconds. Above that a connection is
closed, of too many the oldest, and the rest of the worker is not disturbed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from sandboxq.errors import UsageError
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger("sandboxq.worker")

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 9808  # where celery-exporter is looked for
# At once; one more closes the oldest: a scraper or a probe needs one for some milliseconds, who
# holds one for seconds is slow or wants to keep them out.
MOST_CONNECTIONS = 32
MOST_HEAD = 8192
# For the request to arrive, be answered and be read, all together.
MOST_SECONDS = 10.0
_ADDRESS = re.compile(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]/\s]*):)?([0-9]{1,5})", re.ASCII)
_REQUEST = re.compile(r"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.[01]", re.ASCII)
_METHODS = ("GET", "HEAD")
_MOST_PORT = 65535


class Address(NamedTuple):
    """Where the server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Request(NamedTuple):
    """What was asked for."""

    path: str
    query: dict[str, str]
    accept: str


class Response(NamedTuple):
    """What is answered."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"

    @classmethod
    def of_json(cls, value: Any, status: int = HTTPStatus.OK) -> Response:
        """Return a value as JSON."""
        return cls(status, json.dumps(value) + "\n", "application/json")


class HttpServer:
    """Answers GET and HEAD until it is closed."""

    def __init__(self, address: str, answer: Callable[[Request], Awaitable[Response]]) -> None:
        """Check the address; nothing listens yet. Raises: UsageError."""
        self.address = address_from_text(address)
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._seldom = Seldom()

    async def start(self) -> None:
        """Listen. Raises: UsageError when the address cannot be had."""
        host, port = self.address
        try:
            self._server = await asyncio.start_server(self._accept, host, port, limit=MOST_HEAD)
        except OSError as error:
            why = error.strerror or error
            message = f"cannot listen for HTTP on {self.address}: {why}; name another address"
            raise UsageError(message) from error
        self.address = Address(host, self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more and close what is open; twice is harmless."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._serve(reader, writer), name="sandboxq http")
        self._open[task] = None
        task.add_done_callback(lambda ended: self._open.pop(ended, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Nothing of an answer waits in this process once drain() has returned.
        writer.transport.set_write_buffer_limits(0)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                writer.write(await self._reply(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # slow or gone: its own affair
        except Exception as error:  # noqa: BLE001 - the boundary of one request
            self._seldom.warn("a request by HTTP could not be answered", error)
        finally:
            writer.transport.abort()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _bytes_of(_refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        first, *lines = head.decode("latin-1").split("\r\n")
        found = _REQUEST.fullmatch(first)
        if found is None:
            return _bytes_of(_refusal(HTTPStatus.BAD_REQUEST))
        method, target = found.groups()
        if method not in _METHODS:
            return _bytes_of(_refusal(HTTPStatus.METHOD_NOT_ALLOWED))
        response = await self._response(target, lines)
        return _bytes_of(response, has_body=method != "HEAD")

    async def _response(self, target: str, lines: list[str]) -> Response:
        path, _, query = target.partition("?")
        names = (line.partition(":") for line in lines)
        accept = [value.strip() for name, _, value in names if name.lower() == "accept"]
        try:
            return await self._answer(Request(path, dict(parse_qsl(query)), ",".join(accept)))
        except Exception as error:  # noqa: BLE001 - as above; the stranger hears nothing of us
            self._seldom.warn(f"{path[:80]} could not be answered", error)
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)


def address_from_text(text: str) -> Address:
    """Return what ``9808``, ``:9808``, ``0.0.0.0:9808`` or ``[::1]:9808`` means.

    Without a host it is this machine's own loopback. Raises: UsageError.
    """
    found = _ADDRESS.fullmatch(text.strip())
    if found is None or int(found[2]) > _MOST_PORT or not _may_be_host(found[1] or ""):
        message = (
            f"an HTTP address must look like 9808 or 0.0.0.0:9808, not {text!r}: without a host "
            f"it is {DEFAULT_HOST}"
        )
        raise UsageError(message)
    return Address((found[1] or DEFAULT_HOST).strip("[]"), int(found[2]))


def _may_be_host(text: str) -> bool:
    try:
        text.encode("idna")  # else looking it up raises what is no OSError
    except UnicodeError:
        return False
    return True


def _refusal(status: HTTPStatus) -> Response:
    return Response(status, f"{status.value} {status.phrase}\n")


def _bytes_of(response: Response, *, has_body: bool = True) -> bytes:
    body = response.body.encode("utf-8", "replace")
    status = HTTPStatus(response.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append(f"Allow: {', '.join(_METHODS)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    return head + body if has_body else head
