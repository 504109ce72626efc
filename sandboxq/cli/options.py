"""Options that several commands share."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.config import ENV_PREFIX, RateLimit, checked_keep
from sandboxq.errors import UsageError
from sandboxq.model.job import KEEP_ALL, KEEP_NONE, Keep
from sandboxq.model.validation import MAX_SAFE_INTEGER, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Literal

# No number here has more digits: what is longer is refused before it is read as one.
_LIMIT = re.compile(r"(\d{1,18})/(\d{1,18}(?:\.\d{1,18})?)?(ms|s|m|h)", re.ASCII)
_KEEP = re.compile(r"(?:(\d{1,18})(?:,(?=\d)|$))?(?:(\d{1,18}(?:\.\d{1,18})?)([smhd]))?", re.ASCII)
_KEEP_WORDS = {"all": KEEP_ALL, "false": KEEP_ALL, "none": KEEP_NONE, "true": KEEP_NONE}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([KMG]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def setting(*flags: str, **attributes: Any) -> Callable[..., Any]:
    """Return a click option that is also read from ``SANDBOXQ_<NAME>`` and pyproject.toml."""
    flag = next(flag for flag in flags if flag.startswith("--"))
    name = flag.partition("/")[0].removeprefix("--")  # of --network/--no-network the first
    envvar = ENV_PREFIX + name.upper().replace("-", "_")
    return click.option(*flags, cls=_Setting, envvar=envvar, show_envvar=True, **attributes)


class _Setting(click.Option):
    """An option for which pyproject.toml may have one text where several are possible."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value as its type; TOML has some that click would take for another."""
        if _is_of_other_type(self, value):
            self._refuse(ctx, value)
        try:
            return super().type_cast_value(ctx, [value] if _is_one(self, value) else value)
        except (TypeError, OverflowError):
            self._refuse(ctx, value)

    def _refuse(self, ctx: click.Context, value: object) -> NoReturn:
        message = f"must be a {self.type.name}, not {shown(value)}"
        raise click.BadParameter(message, ctx=ctx, param=self)


def _is_of_other_type(option: click.Option, value: Any) -> bool:
    if isinstance(value, bool):
        return not option.is_flag
    return isinstance(value, float) and isinstance(option.type, click.types.IntParamType)


def _is_one(option: click.Option, value: Any) -> bool:
    return option.multiple and isinstance(value, str)


def refuse_unknown_settings(context: click.Context) -> None:
    """Refuse settings in ``[tool.sandboxq]`` that no command knows.

    Raises:
        UsageError: a limit that is misspelt must not be ignored.
    """
    known = {parameter.name or "" for parameter in context.command.params}
    refuse_unknown(context.default_map or {}, known, "[tool.sandboxq]")


def refuse_unknown(given: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse settings in a table of pyproject.toml that are not known.

    Raises: UsageError.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            message = f"pyproject.toml: {where} has no setting {name!r}{hint}"
            raise UsageError(message)


class QueueName(click.ParamType[Any]):
    """The name of a queue; the environment names one."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's signature
        """Return it."""
        return str(value)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the one name."""
        return [rv]


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
            procs = 0 if isinstance(value, (bool, float)) else int(value)
        except (TypeError, ValueError):
            procs = 0
        if procs < 1:
            self.fail(
                f"must be 'auto' or a number of children from 1, not {shown(value)}", param, ctx
            )
        return procs


class Size(click.ParamType[Any]):
    """So many bytes: ``500M``, ``2G``, ``65536``; K, M and G are powers of 1024."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes; anything that is no size is a usage error."""
        match = _SIZE.fullmatch(str(value).strip())
        size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
        if not 1 <= size <= MAX_SAFE_INTEGER:
            self.fail(f"must be a size like 500M or 2G, not {shown(value)}", param, ctx)
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
            self.fail(f"must look like 10/1s, with ms, s, m or h, not {shown(value)}", param, ctx)
        jobs, amount, unit = found.groups()
        try:
            return RateLimit(int(jobs), float(amount or 1) * _SECONDS[unit])
        except UsageError as error:
            self.fail(str(error), param, ctx)


class KeepJobs(click.ParamType[Any]):
    """Which finished jobs stay: ``all``, ``none``, ``1000``, ``7d``, ``1000,7d``."""

    name = "KEEP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Keep:
        """Return what stays; anything else is a usage error."""
        if isinstance(value, Keep):
            return value
        text = str(value).lower()
        if text in _KEEP_WORDS:
            return _KEEP_WORDS[text]
        found = _KEEP.fullmatch(text)
        if found is None or not text:
            self.fail(
                f"must look like all, none, 1000, 7d or 1000,7d, not {shown(value)}", param, ctx
            )
        count, amount, unit = found.groups()
        age = float(amount) * _SECONDS[unit] if amount else None
        try:
            return checked_keep("KEEP", Keep(count=int(count) if count else None, age=age))
        except UsageError as error:
            self.fail(str(error), param, ctx)


# $REDIS_URL and the embedded server follow where the connection is made
# (broker/connect/endpoint.py).
url_option = setting(
    "--url", help="Where Redis is. Default: $SANDBOXQ_URL, $REDIS_URL, the embedded server."
)
prefix_option = setting(
    "--prefix", default=DEFAULT_PREFIX, show_default=True, help="What all keys start with."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
