"""Options that several commands share."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.config import ENV_PREFIX, RateLimit
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

_LIMIT = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?(ms|s|m|h)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


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


class Size(click.ParamType[Any]):
    """So many bytes: ``500M``, ``2G``, ``65536``; K, M and G are powers of 1024."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes; anything that is no size is a usage error."""
        match = _SIZE.fullmatch(str(value).strip())
        size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
        if size < 1:
            self.fail(f"must be a size like 500M or 2G, not {value!r}", param, ctx)
        return size


class Limiter(click.ParamType[Any]):
    """So many jobs in so much time: ``10/1s``, ``600/1m``, ``1/250ms``."""

    name = "N/TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> RateLimit:
        """Return the limit; anything else is a usage error."""
        if isinstance(value, RateLimit):
            return value
        found = _LIMIT.fullmatch(str(value))
        if found is None:
            self.fail(f"must look like 10/1s, with ms, s, m or h, not {value!r}", param, ctx)
        jobs, amount, unit = found.groups()
        try:
            return RateLimit(int(jobs), float(amount or 1) * _SECONDS[unit])
        except UsageError as error:
            self.fail(str(error), param, ctx)


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
