"""The application: guard, routes, files; and what happens at its end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from sandboxq.errors import SandboxqError
from sandboxq.web.access import Access
from sandboxq.web.answers import error_answer, failed
from sandboxq.web.api import api_routes, form_routes
from sandboxq.web.assets import Assets
from sandboxq.web.context import Dashboard
from sandboxq.web.guard import BodyRefused, Guard
from sandboxq.web.live import live_of
from sandboxq.web.live_routes import live_routes
from sandboxq.web.pages import page_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from sandboxq.web.settings import Settings


class DashboardApp:
    """An ASGI application; mount it, or have a server run it."""

    def __init__(self, settings: Settings) -> None:
        """Show what these settings say. Nothing is connected yet."""
        self.dashboard = Dashboard(settings)
        self.routes = Starlette(
            routes=[
                Mount("/static", Assets()),
                *api_routes(),
                *form_routes(),
                *live_routes(),
                *page_routes(),
            ],
            exception_handlers={
                HTTPException: _http_error,
                BodyRefused: _body_refused,
                SandboxqError: _our_error,
                Exception: _our_error,
            },
            lifespan=self._lifespan,
        )
        self.routes.state.dashboard = self.dashboard
        self._guard = Guard(self.routes, Access(settings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._guard(scope, receive, send)

    async def close(self) -> None:
        """End what is live, and close the connections to Redis; may be called twice."""
        await live_of(self.dashboard).close()
        await self.dashboard.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.close()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by what is registered
    return failed(request, error.status_code, "HTTPException", error.detail)


async def _body_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, BodyRefused)  # noqa: S101 - by what is registered
    return failed(request, error.refusal.status, "Refused", error.refusal.message)


async def _our_error(request: Request, error: Exception) -> Response:
    return error_answer(request, error)
