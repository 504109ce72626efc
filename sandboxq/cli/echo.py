"""What commands print: text that is safe on a terminal, whatever names, data and reasons hold."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from sandboxq.printable import printable, printable_json


def echo(text: str) -> None:
    """Print text on stdout, with what a terminal would obey escaped."""
    click.echo(printable(text))


def echo_error(text: str) -> None:
    """Print text on stderr, in the same way; that it cannot be written changes nothing else."""
    with contextlib.suppress(OSError):
        click.echo(printable(text), err=True)


def echo_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(printable_json(json.dumps(value, ensure_ascii=False)))
