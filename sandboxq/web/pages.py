"""The pages: each calls a read and renders its template with what the read returned."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.routing import Route

from sandboxq.web.answers import failed, page
from sandboxq.web.context import dashboard_of
from sandboxq.web.reads.overview import read_overview

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def page_routes() -> list[Route]:
    """Return the routes of the pages."""
    return [
        Route("/", overview, methods=["GET"]),
        Route("/{rest:path}", _nothing),
    ]


async def overview(request: Request) -> Response:
    """All queues."""
    return page(request, "overview.html", overview=await read_overview(dashboard_of(request)))


async def _nothing(request: Request) -> Response:
    return failed(request, HTTPStatus.NOT_FOUND, "NotHere", "there is no page at this address")
