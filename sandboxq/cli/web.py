"""``python -m sandboxq web``: the page, served by itself."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

import click

from sandboxq.cli import process
from sandboxq.cli.messages import echo
from sandboxq.cli.options import prefix_option, setting, url_option
from sandboxq.errors import UsageError
from sandboxq.web import missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.web.settings import Settings

DEFAULT_PORT = 8800
# Seconds that requests have to end when the command is told to.
_GRACE = 2
# Connections and waiting requests of all visitors together.
_MOST_CONNECTIONS = 512


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="The port to listen at; 0 takes a free one.",
)
@click.option("--read-only", is_flag=True, help="Nobody changes anything by the page.")
@click.option("--base-path", default="", help="The path it is served under, such as /queues.")
@setting("--queue", "queues", multiple=True, help="A queue to show; repeat it. Default: all.")
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    help="Address or network of a proxy whose X-Forwarded-Prefix and user header are true.",
)
@click.option("--user-header", help="The header in which trusted proxies name the user.")
@click.option("--redact", multiple=True, help="One more word: values whose key has it are hidden.")
@url_option
@prefix_option
def command(*, host: str, port: int, base_path: str, url: str | None, **options: Any) -> None:
    """Serve the page: queues, jobs, workers and what became of them, in a browser.

    Without credentials it listens at this machine's own addresses alone. With $SANDBOXQ_WEB_USER
    and $SANDBOXQ_WEB_PASSWORD, or $SANDBOXQ_WEB_TOKEN, --host may be any address; put a proxy with
    TLS in front of it.
    """
    try:
        from sandboxq.web.settings import settings_from_options  # noqa: PLC0415 - an extra

        settings = settings_from_options(url, _given(options))
        check_is_closed(host, settings)
        process.run(_serve(settings, host, port, _checked_base(base_path)))
    except ModuleNotFoundError as error:
        raise missing(error) from error


def _given(options: dict[str, Any]) -> dict[str, Any]:
    options["trusted_proxies"] = options.pop("proxies")
    return {name: value for name, value in options.items() if value}


def check_is_closed(host: str, settings: Settings) -> None:
    """Refuse to let anybody in who can reach the address. Raises: UsageError."""
    if settings.is_open and not _is_loopback(host):
        message = (
            f"--host {host} can be reached from elsewhere, and nobody is asked who they are: set "
            "SANDBOXQ_WEB_USER and SANDBOXQ_WEB_PASSWORD, or SANDBOXQ_WEB_TOKEN"
        )
        raise UsageError(message)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_base(path: str) -> str:
    base = path.rstrip("/")
    if base and not (
        base.startswith("/")
        and "//" not in base
        and base.replace("/", "").replace("-", "").isalnum()
    ):
        message = f"--base-path must look like /queues, not {path!r}"
        raise UsageError(message)
    return base


async def serve(
    url: str | None, *, port: int, prefix: str, on_ready: Callable[[str], object]
) -> None:
    """Serve the page of one prefix on the loopback until a signal ends it.

    ``on_ready`` is called with its address. Raises: SandboxqError, the page needs its extra.
    """
    try:
        from sandboxq.web.settings import settings_from_options  # noqa: PLC0415 - an extra

        settings = settings_from_options(url, {"prefix": prefix})
        await _serve(settings, "127.0.0.1", port, "", on_ready=on_ready)
    except ModuleNotFoundError as error:
        raise missing(error) from error


def _tell(address: str) -> None:
    echo(f"the page is at {address} (Ctrl-C ends it)")


async def _serve(
    settings: Settings,
    host: str,
    port: int,
    base: str,
    *,
    on_ready: Callable[[str], object] = _tell,
) -> None:
    import uvicorn  # noqa: PLC0415 - an extra
    from starlette.applications import Starlette  # noqa: PLC0415 - as above
    from starlette.routing import Mount  # noqa: PLC0415 - as above

    from sandboxq.cli.web_server import PageServer  # noqa: PLC0415 - as above
    from sandboxq.web.app import DashboardApp  # noqa: PLC0415 - as above

    app = DashboardApp(settings)
    config = uvicorn.Config(
        Starlette(routes=[Mount(base or "/", app)]),
        lifespan="off",
        log_level="warning",
        log_config=None,
        access_log=False,
        # The guard reads what proxies say, of those alone that are listed.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    try:
        await app.dashboard.connect()
        on_ready(f"http://{shown}:{listening.getsockname()[1]}{base}/")
        await PageServer(config, app).serve(sockets=[listening])
    finally:
        listening.close()
        await app.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        why = error.strerror or error
        message = f"cannot listen at {host}, port {port}: {why}; choose others by --host, --port"
        raise UsageError(message) from error
