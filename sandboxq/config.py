"""Every setting of a worker, its default, its limits, and where it may come from.

A setting is looked for in this order: command-line flag or argument, environment variable
``SANDBOXQ_<NAME>``, ``[tool.sandboxq]`` in ``pyproject.toml`` of the current directory, default.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from sandboxq.errors import UsageError
from sandboxq.model.backoff import BUILT_IN, BackoffStrategy
from sandboxq.model.job import KEEP_ALL, KEEP_NONE, Keep
from sandboxq.model.job_limits import DEFAULT_BUDGETS, Budgets
from sandboxq.model.outcome import MAX_CRASHES
from sandboxq.model.validation import (
    checked_client_part,
    checked_flag,
    checked_text,
    checked_whole,
    seconds_from,
    shown,
    waiting_seconds,
)
from sandboxq.observe.tracing import Tracing
from sandboxq.payload.binary import MOST_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.observe.telemetry import AttemptFailed, ChildDied, Hook, JobsStalled
    from sandboxq.sandbox.policy import Policy
    from sandboxq.schedule.cron import RepeatStrategy

# The prefix of environment variables.
ENV_PREFIX = "SANDBOXQ_"
# Where the root command leaves ``[tool.sandboxq.workers]``, among what all its contexts share.
WORKER_TABLES = "sandboxq.workers"
# The longest time between heartbeats in seconds, however long the lock lasts: they also show that
# the coordinator is alive.
HEARTBEAT_INTERVAL = 0.5
# How often a lock is renewed while it lasts: several renewals in a row may fail.
HEARTBEATS_PER_LOCK = 8

# More are refused as a typing error: each child is a process, each thread has a stack, each point
# of the metrics is a minute (two years of them).
MOST_CHILDREN = 10_000
MOST_THREADS = 100_000
MOST_METRICS_POINTS = 1_000_000
# Two weeks, as Node's MetricsTime.TWO_WEEKS: 60 KB of Redis a queue at most, and two commands for
# a batch of outcomes.
METRICS_POINTS = 20_160

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
        checked_whole("limiter max", self.max, least=1)
        waiting_seconds("limiter duration", self.duration, least=0.001)

    @property
    def duration_ms(self) -> int:
        """How long a window lasts, in milliseconds."""
        return round(seconds(self.duration) * 1000)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of a worker. Durations are seconds."""

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
    metrics_points: int = METRICS_POINTS
    limiter: RateLimit | None = None
    # Run in the coordinator, whose loop renews all locks: they may compute, and nothing else.
    backoff_strategies: Mapping[str, BackoffStrategy] = field(default_factory=dict)
    max_started_attempts: int | None = None
    # What may be claimed beyond the jobs that run: so many, and work for so long.
    claim_ahead_jobs: int = 2500
    claim_ahead_ms: int = 4
    # In place of cron, for all patterns; as the back-off strategies, it may only compute.
    repeat_strategy: RepeatStrategy | None = None
    max_crashes: int = MAX_CRASHES
    max_jobs_per_child: int | None = None
    max_rss_per_child: int | None = None  # bytes
    max_child_age: float | None = None
    max_result: int = MOST_BYTES  # of a job's value, JSON and arrays together, in bytes
    # What one job may say: see sandboxq.model.job_limits.
    max_reports: int = DEFAULT_BUDGETS.reports
    max_report_bytes: int = DEFAULT_BUDGETS.report_bytes
    max_lines: int = DEFAULT_BUDGETS.lines
    max_questions: int = DEFAULT_BUDGETS.questions
    max_failure_text: int = DEFAULT_BUDGETS.failure_text  # characters
    max_rate_limit: float = DEFAULT_BUDGETS.rate_limit
    tracing: Tracing | None = None
    # Called on the worker's loop (worker/hooks.py).
    on_failed: Hook[AttemptFailed] | None = None
    on_stalled: Hook[JobsStalled] | None = None
    on_died: Hook[ChildDied] | None = None
    # Of functions alone (sandboxq.payload.signing); None is $SANDBOXQ_SECRET. Never shown.
    secret: str | bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.procs != "auto":
            hint = "; 'auto' takes every core this process may use"
            checked_whole("procs", self.procs, least=1, limit=MOST_CHILDREN, hint=hint)
        checked_whole("concurrency", self.concurrency, least=1, limit=MOST_THREADS)
        self._check_texts()
        self._check_durations()
        self._check_counts()
        for name in ("skip_stalled_check", "skip_lock_renewal"):
            checked_flag(name, getattr(self, name))
        for name in ("remove_on_complete", "remove_on_fail"):
            checked_keep(name, getattr(self, name))
        if self.limiter is not None:
            _instance("limiter", self.limiter, RateLimit)
        for name in ("on_failed", "on_stalled", "on_died"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                message = f"{name} must be a function, not {shown(getattr(self, name))}"
                raise UsageError(message)
        if self.tracing is not None:
            _instance("tracing", self.tracing, Tracing)
        _check_strategies(self.backoff_strategies, self.repeat_strategy)

    def _check_texts(self) -> None:
        checked_text("isolation", self.isolation)
        checked_client_part("name", self.name)
        _check_secret(self.secret)

    def _check_durations(self) -> None:
        for name, least in _LEAST_SECONDS.items():
            waiting_seconds(name, getattr(self, name), least=least)
        for name, least in _LEAST_SECONDS_IF_ANY.items():
            if getattr(self, name) is not None:
                waiting_seconds(name, getattr(self, name), least=least)

    def _check_counts(self) -> None:
        checked_whole("max_stalled_count", self.max_stalled_count)
        checked_whole("metrics_points", self.metrics_points, limit=MOST_METRICS_POINTS)
        checked_whole("max_crashes", self.max_crashes, least=1)
        checked_whole("claim_ahead_jobs", self.claim_ahead_jobs)
        checked_whole("claim_ahead_ms", self.claim_ahead_ms, limit=60_000)
        checked_whole("max_result", self.max_result, least=1, limit=MOST_BYTES, hint=_IN_BYTES)
        for name, (least, limit) in _BUDGETS.items():
            checked_whole(name, getattr(self, name), least=least, limit=limit)
        for name, hint in _COUNTS_IF_ANY.items():
            if getattr(self, name) is not None:
                checked_whole(name, getattr(self, name), least=1, hint=hint)

    @property
    def budgets(self) -> Budgets:
        """How much one job may say."""
        return Budgets(
            self.max_reports,
            self.max_report_bytes,
            self.max_lines,
            self.max_questions,
            self.max_failure_text,
            self.max_rate_limit,
        )

    @property
    def lock_ms(self) -> int:
        """How long a lock lasts, in milliseconds."""
        return round(self.lock_duration * 1000)

    @property
    def heartbeat_interval(self) -> float:
        """Seconds from one renewal of all locks to the next."""
        return min(HEARTBEAT_INTERVAL, self.lock_duration / HEARTBEATS_PER_LOCK)


_IN_BYTES = "; it is in bytes"
_LEAST_SECONDS = {
    "lock_duration": 0.1,
    "stalled_interval": 0.1,
    "drain_delay": 0.01,
    "shutdown_timeout": 0,
    "timeout_grace": 0,
    "start_timeout": 0.1,
    "max_rate_limit": 0,
}
# Least and most of each. What the coordinator holds of one job is bounded, whatever is asked for.
_BUDGETS = {
    "max_reports": (1, 1 << 31),
    "max_report_bytes": (1024, 1 << 40),
    "max_lines": (1, 1 << 31),
    "max_questions": (1, 1000),
    "max_failure_text": (256, 1 << 20),
}
_LEAST_SECONDS_IF_ANY = {"timeout": 0.001, "max_block": 1, "max_child_age": 0.1}
_COUNTS_IF_ANY = {
    "max_started_attempts": "",
    "max_jobs_per_child": "",
    "max_rss_per_child": _IN_BYTES,
}


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
    claim_ahead_jobs: int
    claim_ahead_ms: int
    max_jobs_per_child: int | None
    max_rss_per_child: int | None
    max_child_age: float | dt.timedelta | None
    max_result: int
    max_reports: int
    max_report_bytes: int
    max_lines: int
    max_questions: int
    max_failure_text: int
    max_rate_limit: float | dt.timedelta
    tracing: Tracing | None
    on_failed: Hook[AttemptFailed] | None
    on_stalled: Hook[JobsStalled] | None
    on_died: Hook[ChildDied] | None
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
        UsageError: the file cannot be read, is not TOML, or that is no table.

    """
    path = directory / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        message = f"pyproject.toml cannot be read: {error}"
        raise UsageError(message) from error
    settings: Any = table
    for name, place in (("tool", "tool"), ("sandboxq", "tool.sandboxq")):
        settings = settings.get(name, {})
        if not isinstance(settings, dict):
            message = f"pyproject.toml: {place} must be a table"
            raise UsageError(message)
    return {str(name).replace("-", "_"): value for name, value in settings.items()}


def _plain(name: str, value: Any) -> Any:
    if name.startswith("remove_on_"):
        return checked_keep(name, keep_from_option(value))
    return seconds(value) if isinstance(value, dt.timedelta) else value


def checked_keep(name: str, keep: Keep) -> Keep:
    """Refuse limits with which no job could be settled."""
    _instance(name, keep, Keep)
    for part, value in (("count", keep.count), ("limit", keep.limit)):
        if value is not None:
            checked_whole(f"{name} {part}", value)
    return keep if keep.age is None else replace(keep, age=seconds_from(f"{name} age", keep.age))


def _instance(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        message = f"{name} must be a {kind.__name__}, not {shown(value)}"
        raise UsageError(message)


def _check_secret(secret: object) -> None:
    if secret is not None and not isinstance(secret, (str, bytes)):
        message = "secret must be text or bytes"
        raise UsageError(message)


def _check_strategies(backoff: object, repeat: object) -> None:
    if repeat is not None and not callable(repeat):
        message = f"repeat_strategy must be a function, not {repeat!r}"
        raise UsageError(message)
    if not isinstance(backoff, Mapping):
        message = f"backoff_strategies must have functions by name, not {shown(backoff)}"
        raise UsageError(message)
    for kind, strategy in backoff.items():
        checked_text("backoff_strategies: a name", kind)
        _check_strategy(kind, strategy)


def _check_strategy(kind: str, strategy: object) -> None:
    if kind in BUILT_IN:
        message = f"backoff_strategies: {kind!r} is built in and cannot be replaced"
        raise UsageError(message)
    if not callable(strategy):
        message = f"backoff_strategies: {kind!r} must be a function, not {strategy!r}"
        raise UsageError(message)
