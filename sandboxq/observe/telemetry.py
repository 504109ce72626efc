"""Events of a worker, and passing them to listeners."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from sandboxq.model.job import Usage, UsageTotals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger("sandboxq.telemetry")

# What becomes of a job that is not tried again.
FOR_GOOD = "for good"
NOTHING_USED = UsageTotals()


@dataclass(slots=True)
class Event:
    """Something that happened; there is a subclass for each kind."""


@dataclass(slots=True)
class NamedEvent(Event):
    """Passed only to listeners that named its class; while there is none, it is not created."""


@dataclass(slots=True)
class JobEvent(NamedEvent):
    """Something that happened to one of perhaps 50,000 jobs a second."""

    job_id: str


@dataclass(slots=True)
class JobClaimed(JobEvent):
    """A job was claimed and is about to be run; Node's ``active``."""

    job_name: str


@dataclass(slots=True)
class JobCompleted(JobEvent):
    """A job's value, JSON text as its processor's, has reached Redis; it ran ``seconds``."""

    job_name: str
    value: bytes
    seconds: float
    usage: Usage | None = None


@dataclass(slots=True)
class JobMoved(JobEvent):
    """An attempt that ran ``seconds`` is over, and Redis has where its job went.

    ``state`` is completed, failed, retried, delayed, waiting or waiting-children.
    """

    job_name: str
    state: str
    seconds: float


@dataclass(slots=True)
class JobProgressed(JobEvent):
    """A running job said how far it is, in JSON text."""

    progress: bytes


@dataclass(slots=True)
class WorkerReady(Event):
    """The worker is connected and its children are up."""

    name: str


@dataclass(slots=True)
class QueueDrained(Event):
    """After jobs had come, a claim found none."""


@dataclass(slots=True)
class WorkerFailed(Event):
    """A part of the worker failed for good; the worker stops."""

    reason: str


@dataclass(slots=True)
class WorkerClosed(Event):
    """The worker has released everything."""


@dataclass(slots=True)
class JobsClaimed(Event):
    """A batch of jobs was claimed."""

    count: int


@dataclass(slots=True)
class AttemptFailed(Event):
    """One attempt failed after ``seconds``; ``next_step`` says what became of the job.

    ``cause`` is the name of the error's class, ``stack`` its trace without our frames; ``attempt``
    is the number of this attempt, of ``attempts`` that the job may have.
    """

    job_id: str
    job_name: str
    reason: str
    next_step: str
    seconds: float
    cause: str = ""
    usage: Usage | None = None
    queue: str = ""
    attempt: int = 0
    attempts: int = 0
    stack: str = ""
    trace: str = ""  # the trace context that belongs to it, as BullMQ stores it

    @property
    def is_final(self) -> bool:
        """Whether the job is not tried again."""
        return self.next_step == FOR_GOOD


@dataclass(slots=True)
class JobsSettled(Event):
    """A batch of outcomes reached Redis.

    ``moved`` counts jobs that went elsewhere because their processors asked for it, ``crashes``
    children that jobs took along; ``usage`` is what the attempts have used that were measured.
    """

    completed: int = 0
    failed: int = 0
    retried: int = 0
    handed_back: int = 0
    moved: int = 0
    crashes: int = 0
    usage: UsageTotals = NOTHING_USED


@dataclass(slots=True)
class AttemptsMeasured(NamedEvent):
    """How long attempts waited and ran, and what they used: those of one batch, or some of them.

    They stand for ``count`` attempts. ``waits`` are the milliseconds from when a job could be
    run to its first attempt, ``seconds`` how long each ran, ``usages`` µs in all, µs of CPU in its
    code and in the kernel, bytes at the peak, of those that were measured.
    """

    count: int
    waits: list[int]
    seconds: list[float]
    usages: list[tuple[int, int, int, int]]


@dataclass(slots=True)
class OutcomesDropped(Event):
    """Redis did not take these outcomes: the jobs are gone, or somebody else owns them."""

    job_ids: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(slots=True)
class JobsStalled(Event):
    """Jobs whose worker stopped renewing their locks went back to their queue."""

    job_ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class JobLine(Event):
    """A line that a child printed or logged; ``job_id`` is empty outside a job."""

    job_id: str
    child_pid: int
    stream: str
    line: str


@dataclass(slots=True)
class JobLines(JobEvent):
    """Lines that came at once, each a JobLine too: for listeners that take many.

    ``job_id`` is empty outside a job; ``attempt`` and ``trace`` are as in AttemptFailed.
    """

    child_pid: int
    stream: str
    lines: list[str]
    attempt: int = 0
    trace: str = ""


@dataclass(slots=True)
class ChildReady(Event):
    """A child can take calls."""

    pid: int


@dataclass(slots=True)
class ChildDied(Event):
    """A child ended unexpectedly."""

    pid: int
    reason: str


@dataclass(slots=True)
class LoopBlocked(Event):
    """The event loop of a child has not turned for ``seconds``, and ``waiting`` jobs are in it.

    ``job_id`` is the job whose code has it, empty where that is the code of none; ``stack`` is
    where that code is, if it could be read.
    """

    pid: int
    job_id: str
    seconds: float
    waiting: int
    stack: str = ""


@dataclass(slots=True)
class ChildRecycled(Event):
    """A child was replaced as planned, ``why``: its jobs, its memory or its age."""

    pid: int
    why: str


@dataclass(slots=True)
class CircuitOpened(Event):
    """Jobs or starts end one child after the other: nothing is claimed for ``seconds``."""

    reason: str
    seconds: float


@dataclass(slots=True)
class CircuitClosed(Event):
    """A job was answered again, ``seconds`` after the circuit opened."""

    seconds: float


@dataclass(slots=True)
class HeartbeatSent(Event):
    """All locks were renewed; ``gap`` is the seconds since the renewal before."""

    gap: float
    jobs: int


@dataclass(slots=True)
class LocksLost(Event):
    """Renewal was refused for these jobs."""

    job_ids: list[str] = field(default_factory=list)


@dataclass(slots=True)
class BrokerLost(Event):
    """Redis cannot be reached; said once for each absence."""

    reason: str


@dataclass(slots=True)
class BrokerBack(Event):
    """Redis answers again after ``seconds``."""

    seconds: float


E_contra = TypeVar("E_contra", bound=Event, contravariant=True)


class Hook(Protocol[E_contra]):
    """A function that is told of one kind of event; it may be `async def`."""

    def __call__(self, event: E_contra, /) -> Awaitable[object] | object:
        """Hear of the event."""


class Telemetry:
    """Passes events to listeners; one that raises is logged and never disturbs the worker."""

    def __init__(self, above: Telemetry | None = None) -> None:
        """Begin without listeners; events are passed on to those of ``above`` too."""
        self._above = above
        self._listeners: list[tuple[Callable[[Event], None], tuple[type[Event], ...]]] = []
        self._by_kind: dict[type[Event], list[Callable[[Event], None]]] = {}

    def subscribe(self, listener: Callable[[Event], None], *kinds: type[Event]) -> None:
        """Call ``listener`` with each event of these classes, in the order in which they happen.

        Without classes: with every event but the NamedEvents.
        """
        self._listeners.append((listener, kinds))
        self._by_kind.clear()

    def unsubscribe(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` no more; it is harmless where it was never called."""
        self._listeners = [each for each in self._listeners if each[0] != listener]
        self._by_kind.clear()

    def wants(self, kind: type[Event]) -> bool:
        """Tell whether anybody listens to events of this class."""
        return bool(self._listeners_of(kind)) or (
            self._above is not None and self._above.wants(kind)
        )

    def emit(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self._listeners_of(type(event)):
            try:
                listener(event)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - around a telemetry handler, which must end nothing
                _log.exception("a telemetry listener failed")
        if self._above is not None:
            self._above.emit(event)

    def _listeners_of(self, kind: type[Event]) -> list[Callable[[Event], None]]:
        found = self._by_kind.get(kind)
        if found is None:
            is_general = not issubclass(kind, NamedEvent)
            found = self._by_kind[kind] = [
                listener
                for listener, kinds in self._listeners
                if (issubclass(kind, kinds) if kinds else is_general)
            ]
        return found
