"""Options that several commands share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.config import ENV_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal


def setting(*flags: str, **attributes: Any) -> Callable[..., Any]:
    """Return a click option that is also read from ``SANDBOXQ_<NAME>`` and pyproject.toml."""
    name = next(flag for flag in flags if flag.startswith("--")).removeprefix("--")
    envvar = ENV_PREFIX + name.upper().replace("-", "_")
    return click.option(*flags, envvar=envvar, show_envvar=True, **attributes)


class Procs(click.ParamType[Any]):
    """``auto`` or a number of children."""

    name = "auto|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto"]:
        """Return the number, or ``auto``; anything else is a usage error."""
        if value == "auto":
            return "auto"
        try:
            procs = int(value)
        except (TypeError, ValueError):
            procs = 0
        if procs < 1:
            self.fail(f"must be 'auto' or a number of children from 1, not {value!r}", param, ctx)
        return procs


# $REDIS_URL and the embedded server follow where the connection is made (broker/endpoint.py).
url_option = setting(
    "--url", help="Where Redis is. Default: $SANDBOXQ_URL, $REDIS_URL, the embedded server."
)
prefix_option = setting(
    "--prefix", default=DEFAULT_PREFIX, show_default=True, help="What all keys start with."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def echo_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False))
