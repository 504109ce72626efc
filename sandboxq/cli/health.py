"""``python -m sandboxq health``: what a probe asks by HTTP, for images without curl."""

from __future__ import annotations

import socket
import time

import click

from sandboxq.cli.messages import echo
from sandboxq.cli.options import setting
from sandboxq.errors import QueueError
from sandboxq.model.validation import seconds_from
from sandboxq.worker.http_server import DEFAULT_PORT, Address, address_from_text

# Where a worker listens that listens everywhere.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - no place to bind to
_OK = b"200"
_MOST_BYTES = 1 << 20
_MOST_SECONDS = 3600.0


@click.command()
@setting(
    "--http",
    metavar="ADDRESS",
    default=str(DEFAULT_PORT),
    show_default=True,
    help="Where the worker listens: the same as its own --http.",
)
@click.option("--live", is_flag=True, help="Ask whether it is alive, not whether it takes jobs.")
@click.option(
    "--timeout",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds that the answer may take.",
)
def command(*, http: str, live: bool, timeout: float) -> None:
    """Say whether a worker that runs with --http takes jobs; exit code 0: it does, 1: it does not.

    The answer is that of /readyz, or with --live that of /livez.
    """
    seconds = seconds_from("--timeout", timeout, least=0.1, most=_MOST_SECONDS)
    host, port = address_from_text(http)
    address = Address(_EVERYWHERE.get(host, host), port)
    status, body = _asked(address, "/livez" if live else "/readyz", seconds)
    echo(body.decode("utf-8", "replace").rstrip("\n"))
    if status != _OK:
        raise SystemExit(1)


def _asked(address: Address, path: str, timeout: float) -> tuple[bytes, bytes]:
    """Return status and body. Raises: QueueError when nobody answers."""
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode()
    answer, deadline = b"", time.monotonic() + timeout
    try:
        with socket.create_connection(address, timeout) as connection:
            connection.sendall(request)
            while (piece := _piece(connection, deadline)) and len(answer) < _MOST_BYTES:
                answer += piece
    except OSError as error:
        message = f"no worker answers at {address}: {error}; is it run with --http?"
        raise QueueError(message) from error
    head, _, body = answer.partition(b"\r\n\r\n")
    return b"".join(head.split(b" ", 2)[1:2]), body


def _piece(connection: socket.socket, deadline: float) -> bytes:
    """Return what comes next. Raises: OSError; TimeoutError for a whole answer that only drips."""
    left = deadline - time.monotonic()
    if left <= 0:
        message = "timed out"
        raise TimeoutError(message)
    connection.settimeout(left)
    return connection.recv(65536)
