"""``python -m sandboxq server``: the embedded server of this directory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.options import json_option
from sandboxq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.embedded.server import ServerStatus

_KIB = 1024


def size_text(size: int) -> str:
    """Return a number of bytes as people read it."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < _KIB:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _KIB
    return f"{amount:.1f} GiB"


def status_lines(status: ServerStatus) -> list[str]:
    """Return the status, a line for each fact."""
    state = "running" if status.running else "not running"
    lines = [f"{state}, data {size_text(status.data_bytes)} in {status.directory}"]
    if status.running:
        lines += [f"socket  {status.socket}", f"pid     {status.pid}", f"users   {_users(status)}"]
    if status.kept:
        lines.append("kept until `python -m sandboxq server stop`")
    return lines


def _users(status: ServerStatus) -> str:
    if status.users is None:
        return "unknown on this system"
    return ", ".join(f"pid {pid}" for pid in status.users) or "none"


def _of_this_directory(action: str) -> ServerStatus:
    try:
        # Late: Windows has no fcntl, and `--help` needs none of this.
        from sandboxq.broker.embedded import server  # noqa: PLC0415
    except ImportError as error:
        message = "the embedded server needs Linux or macOS"
        raise BrokerUnavailable(message) from error
    actions: dict[str, Callable[[Path], ServerStatus]] = {
        "start": server.start_server,
        "stop": server.stop_server,
        "status": server.server_status,
    }
    return actions[action](Path.cwd() / server.DIRECTORY)


@click.group()
def command() -> None:
    """Start, stop or show the embedded server of this directory.

    Commands without --url start it when they need it, and the last one stops it.
    If its users are killed, it ends after a minute without any.
    """


@command.command()
@json_option
def start(*, as_json: bool) -> None:
    """Start the server and keep it running until `server stop`."""
    status = _of_this_directory("start")
    if as_json:
        echo_json(dataclasses.asdict(status))
        return
    echo("\n".join(status_lines(status)))


@command.command()
@json_option
def stop(*, as_json: bool) -> None:
    """Stop the server; its data stays, and commands that use it wait for its return."""
    before = _of_this_directory("stop")
    if as_json:
        echo_json({"stopped": before.running, **dataclasses.asdict(before)})
        return
    if not before.running:
        echo("not running")
        return
    echo(f"stopped; {size_text(before.data_bytes)} of data stay in {before.directory}")
    if before.users:
        echo(f"still in use by {_users(before)}: they wait until it is started again")


@command.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show whether the server runs, its socket, process id, users and size of its data."""
    now = _of_this_directory("status")
    if as_json:
        echo_json(dataclasses.asdict(now))
        return
    echo("\n".join(status_lines(now)))
