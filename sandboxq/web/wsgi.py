"""The page as a WSGI application, for Flask, Django and others that have no event loop.

    server's thread ── environ ──► one ASGI request on the background loop ──► status, headers, body

All requests of a process share one background thread and its connections. Live streams need ASGI:
they are refused here, and pages fetch themselves again instead.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from sandboxq.queue.blocking import portal
from sandboxq.web.guard import MOST_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.types import Message, Scope

    from sandboxq.web.app import DashboardApp

    Environ = Mapping[str, Any]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def line(self) -> str:
        """The status as WSGI has it."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"


class WsgiDashboard:
    """A WSGI application; ``answer`` is for views that have an environ."""

    def __init__(self, app: DashboardApp) -> None:
        """Answer by this page."""
        self.app = app

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        found = self.answer(environ)
        start_response(found.line, found.headers)
        return [found.body]

    def answer(self, environ: Environ, **extra: Any) -> Answer:
        """Answer a request; ``extra`` is what ``authorize`` finds in ``request.scope``."""
        scope = {**scope_from_environ(environ), **extra}
        return portal().run(_Exchange(self.app, scope, _body_of(environ)).run())

    def close(self) -> None:
        """Close the connections to Redis; may be called twice."""
        portal().run(self.app.close())


class _StreamRefused(Exception):
    """What would be answered has no end."""


class _Exchange:
    """One request."""

    def __init__(self, app: DashboardApp, scope: Scope, body: bytes) -> None:
        self._app, self._scope, self._body = app, scope, body
        self._status = int(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._headers: list[tuple[str, str]] = []
        self._parts: list[bytes] = []

    async def run(self) -> Answer:
        try:
            await self._app(self._scope, self._receive, self._send)
        except _StreamRefused:
            text = b"live streams need ASGI: this page is served by WSGI\n"
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
            return Answer(HTTPStatus.NOT_IMPLEMENTED, headers, text)
        return Answer(self._status, self._headers, b"".join(self._parts))

    async def _receive(self) -> Message:
        body, self._body = self._body, b""
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message["headers"]
            ]
            if dict(self._headers).get("content-type", "").startswith("text/event-stream"):
                raise _StreamRefused
        else:
            self._parts.append(message.get("body", b""))


def scope_from_environ(environ: Environ) -> Scope:
    """Return the request as ASGI has it (PEP 3333, and what servers add to it)."""
    root = _text(environ.get("SCRIPT_NAME", ""))
    scheme = environ.get("wsgi.url_scheme", "http")
    port = environ.get("SERVER_PORT") or _DEFAULT_PORTS.get(scheme, 80)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").partition("/")[2],
        "method": environ.get("REQUEST_METHOD", "GET").upper(),
        "scheme": scheme,
        "root_path": root,
        "path": root + _text(environ.get("PATH_INFO", "")),
        "raw_path": _raw_path(environ),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1", "replace"),
        "headers": _headers(environ),
        "client": (environ.get("REMOTE_ADDR", ""), 0),
        "server": (environ.get("SERVER_NAME", ""), int(port)),
    }


def _text(latin: str) -> str:
    """Return a part of a path: servers decode bytes as Latin-1."""
    return latin.encode("latin-1", "replace").decode(errors="replace")


def _raw_path(environ: Environ) -> bytes:
    """Return the path as it was sent, where the server tells: slashes in names are encoded."""
    raw = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "").partition("?")[0]
    if raw.startswith(("http://", "https://")):
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    root = _text(environ.get("SCRIPT_NAME", ""))
    path = _text(environ.get("PATH_INFO", ""))
    if unquote(raw) == path != root + path:
        raw = root + raw  # without the part that the server has taken off
    return raw.encode("latin-1", "replace")


def _headers(environ: Environ) -> list[tuple[bytes, bytes]]:
    found = [
        (name[5:].replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    others = ("CONTENT_TYPE", "CONTENT_LENGTH")
    found += [(it.replace("_", "-").lower(), environ[it]) for it in others if environ.get(it)]
    return [
        (name.encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in found
    ]


def _body_of(environ: Environ) -> bytes:
    """Return the body, one byte more than it may have at most."""
    text = str(environ.get("CONTENT_LENGTH") or "0")
    length = int(text) if text.isascii() and text.isdigit() else 0
    if not length or "wsgi.input" not in environ:
        return b""
    body: bytes = environ["wsgi.input"].read(min(length, MOST_BODY + 1))
    return body
