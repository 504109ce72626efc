"""The page: queues, jobs, workers and what became of them, in a browser; and the same as JSON.

    app = sandboxq.web.dashboard()               # an ASGI application: app.mount("/queues", app)
    app = sandboxq.web.wsgi_dashboard()          # the same as a WSGI application
    python -m sandboxq web                       # served by itself

Needs jinja2, starlette and uvicorn: the extra ``web``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from sandboxq.errors import SandboxqError

if TYPE_CHECKING:
    from sandboxq.web.app import DashboardApp
    from sandboxq.web.settings import DashboardOptions
    from sandboxq.web.wsgi import WsgiDashboard


def missing(error: ModuleNotFoundError) -> SandboxqError:
    """Return what to say where a package of the page is not installed."""
    packages = "jinja2 starlette uvicorn"
    return SandboxqError(f"the page needs the package {error.name}: pip install {packages}")


def dashboard(url: str | None = None, **options: Unpack[DashboardOptions]) -> DashboardApp:
    """Return the page of the Redis at ``url`` (see Broker.connect) as an ASGI application.

    Without credentials and without ``authorize`` it answers this machine alone. It connects at the
    first request, and closes with ``await app.close()``, or when its lifespan ends.
    Raises: UsageError for options that cannot be right; SandboxqError when a package is missing.
    """
    try:
        from sandboxq.web.app import DashboardApp  # noqa: PLC0415 - an extra
        from sandboxq.web.settings import settings_from_options  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise missing(error) from error
    return DashboardApp(settings_from_options(url, options))


def wsgi_dashboard(url: str | None = None, **options: Unpack[DashboardOptions]) -> WsgiDashboard:
    """Return the page as a WSGI application; see ``dashboard``.

    Pages fetch themselves again every few seconds in place of live streams, which need ASGI.
    Raises: UsageError, SandboxqError.
    """
    app = dashboard(url, **options)
    from sandboxq.web.wsgi import WsgiDashboard  # noqa: PLC0415 - an extra

    return WsgiDashboard(app)
