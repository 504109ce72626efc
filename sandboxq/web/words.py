"""How the page writes numbers, times and states: filters of its templates."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import TYPE_CHECKING, Any

from sandboxq import __version__
from sandboxq.web import assets
from sandboxq.web.redact import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import jinja2

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_KB = 1024
_WHOLE = 100  # per cent
# What is not counted to the last digit: 12.3M fits where 12,345,678 does not.
_SHORTENED = 1_000_000

# A state has one tone everywhere, and a sign, so that colour never says it alone.
_TONES = {
    "completed": "ok",
    "failed": "bad",
    "active": "run",
    "waiting": "wait",
    "prioritized": "wait",
    "delayed": "late",
    "waiting-children": "tree",
    "paused": "warn",
    "unknown": "wait",
}


def tone(state: object) -> str:
    """Return the tone of a state."""
    return _TONES.get(str(state), "wait")


def sign(state: object) -> str:
    """Return the name of a state's icon, without ``s-``."""
    return str(state) if str(state) in _TONES else "unknown"


def duration(seconds: float | None) -> str:
    """Return seconds as people say them: ``420 ms``, ``4.2 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds is None:
        return "–"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < _MINUTE:
        return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < _HOUR:
        return _two(seconds, _MINUTE, 1, "min", "s")
    return _coarse(seconds)


def _two(seconds: float, large: int, small: int, first: str, second: str) -> str:
    rest = int(seconds % large // small)
    return f"{int(seconds // large)} {first}" + (f" {rest} {second}" if rest else "")


def ago(ms: float | None, now_ms: float) -> str:
    """Return how long ago, or in how long, a moment is."""
    if not ms:
        return "–"
    seconds = (now_ms - ms) / 1000
    if abs(seconds) < 1:
        return "now"
    said = _coarse(abs(seconds))
    return f"{said} ago" if seconds > 0 else f"in {said}"


def _coarse(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{int(seconds)} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min"
    if seconds < _DAY:
        return _two(seconds, _HOUR, _MINUTE, "h", "min")
    return _two(seconds, _DAY, _HOUR, "d", "h")


def clock(ms: float | None) -> str:
    """Return a moment, UTC, to the millisecond; what is no moment as it is."""
    if ms is None:
        return "–"
    try:
        moment = dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return str(ms)
    return moment.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def size(count_of_bytes: float | None) -> str:
    """Return bytes as people say them: ``512 B``, ``3.4 MB``."""
    if count_of_bytes is None:
        return "–"
    value, unit = float(count_of_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < _KB or unit == "TB":
            break
        value /= _KB
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"  # noqa: PLR2004 - three digits


def count(number: float | None) -> str:
    """Return a number with its thousands apart, millions shortened."""
    if number is None:
        return "–"
    if abs(number) >= _SHORTENED:
        return f"{number / _SHORTENED:,.2f}M"
    return f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Return a rate to three digits."""
    if number is None:
        return "–"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"  # noqa: PLR2004 - three digits


def percent(share: float | None) -> str:
    """Return a share, 0 to 1, as per cent."""
    return "–" if share is None else f"{share * 100:.0f} %"


def polyline(values: Sequence[float], width: float, height: float) -> str:
    """Return the points of a line through values, the highest of which touches the upper edge."""
    highest = max(values, default=0) or 1
    step = width / max(1, len(values) - 1)
    inner = height - 2
    return " ".join(
        f"{index * step:.0f},{height - 1 - inner * value / highest:.0f}"
        for index, value in enumerate(values)
    )


def share_of_progress(text: str) -> float | None:
    """Return the share that a progress in JSON text says, None when it is no per cent."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value / _WHOLE if 0 <= value <= _WHOLE else None


def minutes_chart(row: Mapping[str, Any], now_ms: float) -> str:
    """Return the chart of a queue's last hour, as static/charts.js draws it."""
    completed, failed = row["completed_minutes"][::-1], row["failed_minutes"][::-1]
    # The newest minute is not over: as a point it would always be a fall.
    completed, failed = completed[:-1], failed[:-1]
    last = int(now_ms // 60_000) * 60 - 60
    series = (
        {"label": "completed", "values": completed, "colour": "--ok"},
        {"label": "failed", "values": failed, "colour": "--bad", "dash": [5, 3]},
    )
    x = [last - 60 * at for at in range(len(completed))][::-1]
    return json.dumps({"x": x, "series": series})


def below_text(node: Mapping[str, Any]) -> str:
    """Return what is said of the jobs below one of a flow."""
    children = node["children"]
    total = sum(children.values())
    if not total:
        return str(node["queue"])
    ended = total - children["unprocessed"]
    said = f"{ended:,} of {total:,} ended"
    lost = children["failed"] + children["ignored"]
    return f"{said}, {lost:,} failed" if lost else said


def pretty(value: Any) -> str:
    """Return JSON to be edited."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def has_hidden(value: Any) -> bool:
    """Tell whether something in JSON is hidden: sent back, it would take the secret's place."""
    return HIDDEN in json.dumps(value, ensure_ascii=False)


FILTERS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        *(tone, sign, duration, ago, clock, size, count, rate, percent, polyline),
        *(share_of_progress, minutes_chart, below_text, pretty, has_hidden),
    )
}


# The side bar: a heading, and name, label, path and key of each page.
NAVIGATION = (
    (
        "",
        (
            ("overview", "Overview", "/", "o"),
            ("workers", "Workers", "/workers", "w"),
            ("stream", "Task stream", "/stream", "t"),
            ("search", "Search", "/search", "q"),
        ),
    ),
    (
        "What went wrong",
        (
            ("failures", "Failures", "/failures", "f"),
            ("deaths", "Deaths", "/deaths", "d"),
            ("latency", "Latency", "/latency", "l"),
        ),
    ),
    (
        "Operate",
        (
            ("schedulers", "Schedulers", "/schedulers", "s"),
            ("doctor", "Doctor", "/doctor", "c"),
            ("audit", "Audit log", "/audit", "a"),
        ),
    ),
)


def install(environment: jinja2.Environment) -> None:
    """Give the templates these filters, and what every page shows."""
    environment.filters.update(FILTERS)
    environment.globals.update(
        navigation=NAVIGATION,
        version=__version__,
        assets=assets.version(),
        now_ms=lambda: time.time() * 1000,
    )
