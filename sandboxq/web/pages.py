"""The pages: each calls a read and renders its template with what the read returned."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from sandboxq.web.answers import failed, page, url_of
from sandboxq.web.context import dashboard_of
from sandboxq.web.reads.overview import Overview, read_overview

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
    it = await read_overview(dashboard_of(request))
    return _page(request, "overview", "Overview", it={**it, "totals": totals(it)})


def totals(overview: Overview) -> dict[str, Any]:
    """Return the sums over all queues."""
    rows = overview["queues"]
    counts = [row["counts"] for row in rows]
    oldest = [row["oldest"] for row in rows if row["oldest"] is not None]
    workers = [row["workers"] for row in rows if row["workers"] is not None]
    return {
        "waiting": sum(each["waiting"] + each["prioritized"] for each in counts),
        "active": sum(each["active"] for each in counts),
        "delayed": sum(each["delayed"] for each in counts),
        "failed": sum(each["failed"] for each in counts),
        "completed_minute": sum(sum(row["completed_minutes"][1:2]) for row in rows),
        "completed_hour": sum(sum(row["completed_minutes"]) for row in rows),
        "failed_hour": sum(sum(row["failed_minutes"]) for row in rows),
        "oldest": max(oldest, default=None),
        "workers": sum(workers) if workers else None,
        "is_unserved": any(row["workers"] == 0 and row["counts"]["waiting"] for row in rows),
    }


def _page(
    request: Request, section: str, title: str, *trail: tuple[str, str], **context: Any
) -> Response:
    """Render ``section``'s template; the trail leads to it from the overview."""
    root = request.scope.get("root_path", "")
    start = [] if section == "overview" else [("Overview", url_of(root, ""))]
    crumbs = [*start, *trail, (title, None)]
    return page(request, f"{section}.html", title=title, section=section, crumbs=crumbs, **context)


async def _nothing(request: Request) -> Response:
    return failed(request, HTTPStatus.NOT_FOUND, "NotHere", "there is no page at this address")
