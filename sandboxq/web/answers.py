"""Answers: JSON, pages by template, and errors as either."""

from __future__ import annotations

import json
import math
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import jinja2
from starlette.responses import PlainTextResponse, Response

from sandboxq.errors import BrokerUnavailable, JobNotFound, QueueError, SandboxqError, UsageError
from sandboxq.web import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Scope

    from sandboxq.web.access import Refusal

API = "/api/v1"
# Where the page is mounted; "root_path" is of the innermost mount, such as that of the files.
ROOT = "sandboxq.root"
# Names that a URL cannot have, and those that look like what is written for them.
DOTS = re.compile(r"\A~*\.{1,2}\Z")


class NotHere(UsageError):
    """There is no such queue, group or page."""


class NotAllowed(SandboxqError):
    """The visitor may look, and change nothing."""


# The first that fits counts.
_STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (BrokerUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (NotHere, HTTPStatus.NOT_FOUND),
    (JobNotFound, HTTPStatus.NOT_FOUND),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (QueueError, HTTPStatus.CONFLICT),
)


class JsonResponse(Response):
    """JSON in ASCII: data may have text that UTF-8 has no bytes for."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes; numbers that JSON has no word for are texts."""
        try:
            text = json.dumps(content, allow_nan=False)
        except ValueError:
            text = json.dumps(_finite(content))
        return text.encode()


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case _:
            return value


# ── pages ───────────────────────────────────────────────────────────────────


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sandboxq.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["part"] = part
    words.install(environment)
    return environment


def part(name: str) -> str:
    """Return a name as one part of a URL's path; ``PartConvertor`` undoes it.

    Browsers leave out parts that are dots, encoded or not: another address would be asked.
    """
    return DOTS.sub("~\\g<0>", quote(name, safe="", errors="replace"))


def url_of(root: str, *parts: str, **query: Any) -> str:
    """Return the URL of a page: ``url("queues", name, "jobs", job_id, state="failed")``."""
    path = "/".join(map(part, parts))
    given = {name: value for name, value in query.items() if value not in {None, ""}}
    text = f"?{urlencode(given, errors='replace')}" if given else ""
    return f"{root}/{path}{text}"


environment = _environment()


def page(request: Request, template: str, status: int = HTTPStatus.OK, **context: Any) -> Response:
    """Render a template: it has ``url(…)``, ``visitor`` and ``request`` beside the context."""
    root: str = request.scope.get(ROOT, "")

    def url(*parts: str, **query: Any) -> str:
        return url_of(root, *parts, **query)

    text = environment.get_template(template).render(
        request=request,
        root=root,
        url=url,
        visitor=request.scope.get("sandboxq.visitor"),
        **context,
    )
    return Response(text.encode(errors="replace"), status, media_type="text/html; charset=utf-8")


# ── errors ──────────────────────────────────────────────────────────────────


def is_api(scope: Scope) -> bool:
    """Tell whether a program asks, and not a person."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).startswith("/api/")


def refused(scope: Scope, refusal: Refusal) -> Response:
    """Return the answer to a request that comes no further than the guard."""
    headers: Mapping[str, str] = {}
    if refusal.has_challenge:
        headers = {"WWW-Authenticate": 'Basic realm="sandboxq", charset="UTF-8"'}
    if is_api(scope):
        return JsonResponse(error_body("Refused", refusal.message), refusal.status, headers)
    return PlainTextResponse(f"{refusal.message}\n", refusal.status, headers)


def error_body(kind: str, message: str) -> dict[str, Any]:
    """Return what the API says of an error."""
    return {"error": {"type": kind, "message": message}}


def error_answer(request: Request, error: Exception) -> Response:
    """Return the answer to a request that failed."""
    status = next((code for kind, code in _STATUSES if isinstance(error, kind)), None)
    if status is None or not isinstance(error, SandboxqError):
        return failed(
            request, HTTPStatus.INTERNAL_SERVER_ERROR, "Error", "something went wrong here"
        )
    return failed(request, status, type(error).__name__, str(error))


def failed(request: Request, status: int, kind: str, message: str) -> Response:
    """Return an error for a program or a person."""
    if is_api(request.scope):
        return JsonResponse(error_body(kind, message), status)
    return page(request, "error.html", status, title=HTTPStatus(status).phrase, message=message)
