"""What stands before every route: who asks, how much and how long, and what each answer carries.

request ──► where is it mounted? ──► who asks? ──► change? ──► body, seconds ──► routes
answer  ◄── headers of safety ◄──────────────────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders

from sandboxq.web.access import SAFE_METHODS, Access, Refusal
from sandboxq.web.answers import DOTS, ROOT, part, refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Of a request: bytes of its body, of its path and query; seconds until its body has come, and until
# its answer begins. A job of 5 MB can be added.
MOST_BODY = 8 << 20
MOST_PATH = 8192
BODY_SECONDS = 20.0
MOST_SECONDS = 30.0
VISITOR = "sandboxq.visitor"
_METHODS = frozenset({*SAFE_METHODS, "POST"})
_POLICY = (
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A form that sends no origin at all could not be told from one of another site.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Wraps the routes."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        """Let through to ``app`` what ``access`` allows."""
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._http(located(scope, self._access), receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refused(scope, refusal)(scope, receive, send)
            return
        limit = asyncio.timeout(MOST_SECONDS)
        try:
            async with limit:
                await self._app(scope, _Body(receive).receive, _without_limit(send, limit))
        except TimeoutError:
            if not limit.expired():
                raise
            why = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"no answer in {MOST_SECONDS:.0f} s")
            await refused(scope, why)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Refusal | None:
        if len(scope["path"]) + len(scope["query_string"]) > MOST_PATH:
            return Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "the address is too long")
        if scope["method"] not in _METHODS:
            return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "there are GET, HEAD and POST")
        visitor = await self._access.visitor(scope)
        if isinstance(visitor, Refusal):
            return visitor
        scope[VISITOR] = visitor
        if scope["method"] in SAFE_METHODS:
            return None
        if _length(scope) > MOST_BODY:
            return _TOO_LARGE
        return self._access.refusal_of_change(scope, visitor)


def _without_limit(send: Send, limit: asyncio.Timeout) -> Send:
    """Take the limit away when the answer begins: what streams goes on as long as it is heard."""

    async def send_in_time(message: Message) -> None:
        limit.reschedule(None)
        await send(message)

    return send_in_time


class BodyRefused(Exception):
    """The body of a request is too large, or does not come."""

    def __init__(self, refusal: Refusal) -> None:
        """Say why."""
        super().__init__(refusal.message)
        self.refusal = refusal


class _Body:
    """Hands on the parts of a body, up to a bound."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MOST_BODY
        self._is_whole = False

    async def receive(self) -> Message:
        """Return the next part, and then what tells of the connection's end."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await self._receive()
        except TimeoutError:
            why = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the body of the request does not come")
            raise BodyRefused(why) from None
        self._left -= len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._left < 0:
            raise BodyRefused(_TOO_LARGE)
        return message


_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {MOST_BODY >> 20} MB"
)


def _length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            # Files of our own say for themselves how long they are good.
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return send_with_headers


def located(scope: Scope, access: Access) -> Scope:
    """Return the request with the path by which it is routed.

    Names in it may have slashes: they stay encoded, see ``PartConvertor``. A listed proxy that
    has taken a prefix off says so.
    """
    path = _path_of_parts(scope)
    root = scope.get("root_path", "")
    prefix = access.prefix_of(scope)
    if prefix:
        path, root = prefix + path, prefix + root
    return {**scope, "path": path, "root_path": root, ROOT: root}


def _path_of_parts(scope: Scope) -> str:
    path: str = scope["path"]
    raw = (scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
    if unquote(raw) != path:
        return path.replace("%", "%25")  # a server that tells nothing of it
    kept = raw.replace("%25", "%2525").replace("%2F", "%252F").replace("%2f", "%252F")
    return unquote(kept)


class PartConvertor(Convertor[str]):
    """One part of a path: any characters, slashes too where they came encoded."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Return the name."""
        if DOTS.match(value):
            return value.removeprefix("~")
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        """Return the name as it stands in a URL."""
        return part(value)


register_url_convertor("sandboxq", PartConvertor())
