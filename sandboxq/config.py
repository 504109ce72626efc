"""Every setting of a worker, its default, its limits, and where it may come from.

A setting is looked for in this order: command-line flag or argument, environment variable
``SANDBOXQ_<NAME>``, ``[tool.sandboxq]`` in ``pyproject.toml`` of the current directory, default.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from sandboxq.backoff import BUILT_IN, BackoffStrategy
from sandboxq.binary import MOST_BYTES
from sandboxq.errors import UsageError
from sandboxq.job import KEEP_ALL, KEEP_NONE, Keep
from sandboxq.outcome import MAX_CRASHES
from sandboxq.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sandboxq.cron import RepeatStrategy
    from sandboxq.sandbox.policy import Policy

# The environment's names all start with this.
ENV_PREFIX = "SANDBOXQ_"
# Set in every child: where no URL is named there, it was withheld on purpose.
REDIS_WITHHELD = "SANDBOXQ_REDIS_WITHHELD"
# A heartbeat every so many seconds at the latest, however long the lock lasts: it also shows that
# the coordinator is alive, and a second is what people wait before they worry.
HEARTBEAT_INTERVAL = 0.5
# A lock is renewed this often while it lasts, so that several renewals may fail in a row.
HEARTBEATS_PER_LOCK = 8

KeepOption = bool | int | Keep


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``max`` jobs in each window of ``duration`` seconds (or a timedelta).

    Counted when jobs are claimed, by all workers of the queue together; the first claim opens a
    window. A ``max`` that the queue itself has goes first.
    Raises: UsageError.
    """

    max: int
    duration: float | dt.timedelta = 1.0

    def __post_init__(self) -> None:
        """Refuse what Redis would refuse later."""
        _instance("limiter max", self.max, int)
        _at_least("limiter max", self.max, 1)
        _at_least("limiter duration", seconds(self.duration), 0.001)

    @property
    def duration_ms(self) -> int:
        """How long a window lasts, in milliseconds."""
        return round(seconds(self.duration) * 1000)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker may be told. Durations are seconds."""

    procs: int | Literal["auto"] = "auto"
    concurrency: int = 1
    policy: str | Policy = "limits"
    isolation: str = "auto"  # process, thread or interpreter
    lock_duration: float = 30.0
    stalled_interval: float = 30.0
    max_stalled_count: int = 1
    # Others see to it: another worker of the queue, or whoever extends the locks.
    skip_stalled_check: bool = False
    skip_lock_renewal: bool = False
    drain_delay: float = 5.0
    shutdown_timeout: float = 25.0
    # For jobs that have no timeout of their own: first told, then killed after the grace.
    timeout: float | None = None
    timeout_grace: float = 0.15
    max_block: float | None = None  # of an event loop by one job of several in a child
    start_timeout: float = 60.0
    name: str = ""
    remove_on_complete: Keep = KEEP_ALL
    remove_on_fail: Keep = KEEP_ALL
    metrics_points: int = 0
    limiter: RateLimit | None = None
    # Run in the coordinator, whose loop renews all locks: they may compute, and nothing else.
    backoff_strategies: Mapping[str, BackoffStrategy] = field(default_factory=dict)
    max_started_attempts: int | None = None
    # In place of cron, for all patterns; as the back-off strategies, it may only compute.
    repeat_strategy: RepeatStrategy | None = None
    max_crashes: int = MAX_CRASHES
    max_jobs_per_child: int | None = None
    max_rss_per_child: int | None = None  # bytes
    max_child_age: float | None = None
    max_result: int = MOST_BYTES  # of a job's value, JSON and arrays together, in bytes
    tracing: Tracing | None = None
    # Of functions alone (sandboxq.signing); None is $SANDBOXQ_SECRET. Never shown.
    secret: str | bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        if self.procs != "auto":
            _at_least("procs", self.procs, 1, hint="; 'auto' takes every core this process may use")
        _instance("concurrency", self.concurrency, int)
        _at_least("concurrency", self.concurrency, 1)
        _at_least("lock_duration", self.lock_duration, 0.1)
        _at_least("stalled_interval", self.stalled_interval, 0.1)
        _at_least("max_stalled_count", self.max_stalled_count, 0)
        _at_least("drain_delay", self.drain_delay, 0.01)
        _at_least("shutdown_timeout", self.shutdown_timeout, 0)
        self._check_timeout()
        _at_least("start_timeout", self.start_timeout, 0.1)
        _at_least("metrics_points", self.metrics_points, 0)
        if self.limiter is not None:
            _instance("limiter", self.limiter, RateLimit)
        if self.max_started_attempts is not None:
            _at_least("max_started_attempts", self.max_started_attempts, 1)
        _at_least("max_crashes", self.max_crashes, 1)
        if self.max_jobs_per_child is not None:
            _at_least("max_jobs_per_child", self.max_jobs_per_child, 1)
        if self.max_rss_per_child is not None:
            _at_least("max_rss_per_child", self.max_rss_per_child, 1, hint="; it is in bytes")
        if self.max_child_age is not None:
            _at_least("max_child_age", self.max_child_age, 0.1)
        _check_max_result(self.max_result)
        if self.tracing is not None:
            _instance("tracing", self.tracing, Tracing)
        _check_strategies(self.backoff_strategies, self.repeat_strategy)
        if any(character.isspace() for character in self.name):
            message = (
                f"name {self.name!r} must not contain spaces: Redis refuses them in client names"
            )
            raise UsageError(message)

    def _check_timeout(self) -> None:
        if self.timeout is not None:
            _at_least("timeout", self.timeout, 0.001)
        _at_least("timeout_grace", self.timeout_grace, 0)
        if self.max_block is not None:
            _at_least("max_block", self.max_block, 1)

    @property
    def lock_ms(self) -> int:
        """How long a lock lasts, in milliseconds."""
        return round(self.lock_duration * 1000)

    @property
    def heartbeat_interval(self) -> float:
        """Seconds from one renewal of all locks to the next."""
        return min(HEARTBEAT_INTERVAL, self.lock_duration / HEARTBEATS_PER_LOCK)


class WorkerOptions(TypedDict, total=False):
    """The keyword arguments of ``Worker``: the fields of WorkerSettings, as callers write them."""

    procs: int | Literal["auto"]
    concurrency: int
    policy: str | Policy
    isolation: str
    lock_duration: float | dt.timedelta
    stalled_interval: float | dt.timedelta
    max_stalled_count: int
    skip_stalled_check: bool
    skip_lock_renewal: bool
    drain_delay: float | dt.timedelta
    shutdown_timeout: float | dt.timedelta
    timeout: float | dt.timedelta | None
    timeout_grace: float | dt.timedelta
    max_block: float | dt.timedelta | None
    start_timeout: float | dt.timedelta
    name: str
    remove_on_complete: KeepOption
    remove_on_fail: KeepOption
    metrics_points: int
    limiter: RateLimit | None
    backoff_strategies: Mapping[str, BackoffStrategy]
    max_started_attempts: int | None
    repeat_strategy: RepeatStrategy | None
    max_crashes: int
    max_jobs_per_child: int | None
    max_rss_per_child: int | None
    max_child_age: float | dt.timedelta | None
    max_result: int
    tracing: Tracing | None
    secret: str | bytes | None


def settings_from_options(options: WorkerOptions) -> WorkerSettings:
    """Return checked settings.

    Raises:
        UsageError: an option does not exist or has a value that cannot work.

    """
    known = {setting.name for setting in fields(WorkerSettings)}
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            message = f"a worker has no setting {name!r}; it has {', '.join(sorted(known))}"
            raise UsageError(message)
        values[name] = _plain(name, value)
    return WorkerSettings(**values)


def seconds(value: float | dt.timedelta) -> float:
    """Return a duration in seconds."""
    return value.total_seconds() if isinstance(value, dt.timedelta) else value


def keep_from_option(value: KeepOption) -> Keep:
    """Return what True (keep none), False (keep all), a count or a Keep means."""
    if isinstance(value, bool):
        return KEEP_NONE if value else KEEP_ALL
    return value if isinstance(value, Keep) else Keep(count=value)


def project_settings(directory: Path) -> dict[str, Any]:
    """Return ``[tool.sandboxq]`` of the directory's pyproject.toml, with ``_`` for ``-`` in names.

    Raises:
        UsageError: the file is not TOML, or that is no table.

    """
    path = directory / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"pyproject.toml cannot be read: {error}"
        raise UsageError(message) from error
    settings = table.get("tool", {}).get("sandboxq", {})
    if not isinstance(settings, dict):
        message = "pyproject.toml: tool.sandboxq must be a table"
        raise UsageError(message)
    return {str(name).replace("-", "_"): value for name, value in settings.items()}


def _plain(name: str, value: Any) -> Any:
    if name.startswith("remove_on_"):
        return _checked_keep(name, keep_from_option(value))
    return seconds(value) if isinstance(value, dt.timedelta) else value


def _checked_keep(name: str, keep: Keep) -> Keep:
    """Refuse what no job could be settled with."""
    for part, value in (("count", keep.count), ("limit", keep.limit)):
        if value is not None:
            _instance(f"{name} {part}", value, int)
            _at_least(f"{name} {part}", value, 0)
    if keep.age is None:
        return keep
    age = seconds(keep.age)
    _at_least(f"{name} age", age, 0)
    return replace(keep, age=age)


def _instance(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        message = f"{name} must be a {kind.__name__}, not {value!r}"
        raise UsageError(message)


def _check_max_result(value: int) -> None:
    _at_least("max_result", value, 1, hint="; it is in bytes")
    if value > MOST_BYTES:
        message = f"max_result must be {MOST_BYTES} bytes or less: Redis holds no larger values"
        raise UsageError(message)


def _check_strategies(backoff: Mapping[str, object], repeat: object) -> None:
    if repeat is not None and not callable(repeat):
        message = f"repeat_strategy must be a function, not {repeat!r}"
        raise UsageError(message)
    for kind, strategy in backoff.items():
        _check_strategy(kind, strategy)


def _check_strategy(kind: str, strategy: object) -> None:
    if kind in BUILT_IN:
        message = f"backoff_strategies: {kind!r} is built in and cannot be replaced"
        raise UsageError(message)
    if not callable(strategy):
        message = f"backoff_strategies: {kind!r} must be a function, not {strategy!r}"
        raise UsageError(message)


def _at_least(name: str, value: object, lowest: float, *, hint: str = "") -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and lowest <= value < float("inf")):  # type: ignore[operator]  # a number by now
        message = f"{name} must be {lowest} or more, not {value!r}{hint}"
        raise UsageError(message)
