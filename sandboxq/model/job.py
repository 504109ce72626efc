"""A job, its options and its states, as data."""

from __future__ import annotations

import enum
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta  # noqa: TC003 - dataclass fields are read at run time
from html import escape
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Literal

from sandboxq.model.backoff import Backoff  # noqa: TC001 - dataclass fields are read at run time

# What a child's failure does to its parent.
OnFailure = Literal["wait", "fail", "continue", "ignore", "remove"]


class JobState(enum.StrEnum):
    """The state of a job. The values are BullMQ's words."""

    WAITING = "waiting"
    PRIORITIZED = "prioritized"
    DELAYED = "delayed"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    WAITING_CHILDREN = "waiting-children"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Keep:
    """How many finished jobs stay: the ``count`` newest, none older than ``age`` seconds.

    ``count`` 0 removes the job at once; None keeps any number. ``limit`` bounds how many old ones
    one finishing job removes.
    """

    count: int | None = None
    age: float | None = None
    limit: int | None = None


KEEP_ALL = Keep()
KEEP_NONE = Keep(count=0)


@dataclass(frozen=True, slots=True)
class Parent:
    """The job that waits for this one.

    ``queue`` is the name of its queue, under the same prefix. ``on_failure`` says what this job's
    failure does to the parent: it goes on waiting, fails too, continues at once, ignores the
    failure (and can read its reason), or forgets this job.
    """

    id: str
    queue: str
    on_failure: OnFailure = "wait"


@dataclass(frozen=True, slots=True)
class Deduplication:
    """Add nothing while another job with this deduplication id counts.

    Without ``ttl`` it counts until it finishes, with ``ttl`` for so many seconds. ``extend``
    restarts the ttl at each further add; ``replace`` swaps a still delayed job for the new one;
    ``keep_last_if_active`` runs the newest refused job once the active one has finished;
    ``reschedule`` gives a still delayed job the delay of the newest refused one.
    """

    id: str
    ttl: float | timedelta | None = None
    extend: bool = False
    replace: bool = False
    keep_last_if_active: bool = False
    reschedule: bool = False


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of a job. Durations are seconds.

    ``extra`` holds options that sandboxq does not know, by their wire names; they are passed on.
    """

    delay: float = 0.0
    priority: int = 0
    attempts: int = 0
    backoff: Backoff | None = None
    lifo: bool = False
    job_id: str | None = None
    timestamp_ms: int | None = None
    timeout: float | None = None
    remove_on_complete: Keep | None = None
    remove_on_fail: Keep | None = None
    keep_logs: int | None = None
    stack_trace_limit: int | None = None
    size_limit: int | None = None
    trace_context: str | None = None
    omit_trace_context: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt has used: seconds in all, seconds of CPU, and bytes of memory at the peak.

    ``cpu_user`` is spent in its own code, ``cpu_system`` in the kernel for it; programs that it
    started and waited for are in both. ``peak_rss`` is the most that its child had resident while
    it ran, with what the child held before; no part of it where several jobs share the child.
    """

    wall: float = 0.0
    cpu_user: float = 0.0
    cpu_system: float = 0.0
    peak_rss: int = 0


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What many attempts have used together; ``peak_rss`` is the highest. Seconds and bytes."""

    attempts: int = 0
    crashes: int = 0
    wall: float = 0.0
    cpu_user: float = 0.0
    cpu_system: float = 0.0
    peak_rss: int = 0

    def __add__(self, other: UsageTotals) -> UsageTotals:
        """Return both together."""
        return UsageTotals(
            self.attempts + other.attempts,
            self.crashes + other.crashes,
            self.wall + other.wall,
            self.cpu_user + other.cpu_user,
            self.cpu_system + other.cpu_system,
            max(self.peak_rss, other.peak_rss),
        )


def usage_from_measure(measure: tuple[int, int, int, int]) -> Usage:
    """Return what a child has measured: µs in all, µs of CPU twice, bytes."""
    wall, user, system, peak = measure
    return Usage(wall / 1e6, user / 1e6, system / 1e6, peak)


@dataclass(frozen=True, slots=True, repr=False)
class StoredJob:
    """One job as it stood in Redis when it was read. Times are milliseconds since the epoch."""

    id: str
    name: str
    data: Any
    opts: JobOptions
    queue_name: str
    timestamp_ms: int = 0
    delay_ms: int = 0
    priority: int = 0
    attempts_made: int = 0
    attempts_started: int = 0
    stalled_counter: int = 0
    processed_on_ms: int | None = None
    finished_on_ms: int | None = None
    processed_by: str | None = None
    progress: Any = 0
    returnvalue: Any = None
    failed_reason: str | None = None
    stacktrace: tuple[str, ...] = ()
    parent_key: str | None = None
    parent: dict[str, Any] | None = None
    deferred_failure: str | None = None
    deduplication_id: str | None = None
    scheduler_id: str | None = None
    cause: str | None = None
    data_reference: str | None = None  # where the arrays and bytes of data are
    value_reference: str | None = None  # where those of returnvalue are
    # How many children its attempts have taken along, and how the last of them ended.
    crashes: int = 0
    crash_history: tuple[str, ...] = ()
    usage: Usage | None = None  # of the last attempt that was measured
    extra: dict[str, str] = field(default_factory=dict)

    if not TYPE_CHECKING:  # else any name would pass

        def __getattr__(self, name: str) -> Any:
            """Give a field that whoever made this left out its default: see ``job_from_add``."""
            for each in fields(self):
                if each.name == name and each.default is not MISSING:
                    return each.default
                if each.name == name and each.default_factory is not MISSING:
                    object.__setattr__(self, name, each.default_factory())
                    return getattr(self, name)
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message)

    @property
    def options(self) -> JobOptions:
        """The same as ``opts``."""
        return self.opts

    def __repr__(self) -> str:
        """Return one line: which job, its state and most important facts."""
        told = "".join(f", {name}={_short(value)}" for name, value in self._told().items())
        return f"<{type(self).__name__} {self.id} of queue {self.queue_name!r}{told}>"

    def _repr_html_(self) -> str:
        """Return a table, for notebooks."""
        rows = {"id": self.id, "queue": self.queue_name, **self._told()}
        cells = "".join(
            f"<tr><th>{name}</th><td>{escape(_short(value))}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table>{cells}</table>"

    def _told(self) -> dict[str, Any]:
        told = {"name": self.name, "data": self.data, "attempts_made": self.attempts_made or None}
        told |= {"progress": self.progress or None, "returnvalue": self.returnvalue}
        told |= {"cause": self.cause, "failed_reason": self.failed_reason}
        return {name: value for name, value in told.items() if value is not None}


def _short(value: Any) -> str:
    text = " ".join(_SHORT.repr(value).split())
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


# Of one value, so that a job stays on a line whatever its data.
_MOST_SHOWN = 100
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 80, 80
