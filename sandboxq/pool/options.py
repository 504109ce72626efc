"""What the children of one pool have in common: states, options, and the owner that hears them.

Control groups, where there are any, get limits above those of the watches: a watch can say what was
too much, the kernel cannot.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from sandboxq.errors import UsageError
from sandboxq.model.job_limits import DEFAULT_BUDGETS, Budgets
from sandboxq.payload.binary import MOST_BYTES
from sandboxq.pool.kinds import Kind

if TYPE_CHECKING:
    from sandboxq.pool.calls import Call
    from sandboxq.pool.transport.channel import Spent
    from sandboxq.sandbox.policy import Policy
    from sandboxq.sandbox.support import Part

# Of what this process may use; each child is limited to less, and has margins of its own.
_MOST_OF_MEMORY = 0.95
# Beside the grants, and as much again for what a child shares or caches: this is no child's limit.
_MEMORY_OF_SERVER = 1 << 30
_TASKS_OF_SERVER = 1024
_TASKS_OF_A_PROCESS = 4  # the kernel counts threads
_TASKS_OF_A_CHILD = 256
# Of one child: libraries, files that it reads and writes, what the kernel has for it.
_MEMORY_BESIDE = 256 << 20
Child_contra = TypeVar(
    "Child_contra", contravariant=True
)  # a child: its parts do not know the whole


class ChildState(enum.Enum):
    """The states of a child."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    DEAD = "dead"


TRANSITIONS: dict[ChildState, frozenset[ChildState]] = {
    ChildState.STARTING: frozenset({ChildState.READY, ChildState.LEAVING, ChildState.DEAD}),
    ChildState.READY: frozenset({ChildState.LEAVING, ChildState.DEAD}),
    ChildState.LEAVING: frozenset({ChildState.DEAD}),
    ChildState.DEAD: frozenset(),
}


class PoolOptions(NamedTuple):
    """What all children of one pool have in common."""

    processor: str
    queue_name: str
    concurrency: int
    policy: Policy
    machine: Part  # what the children may use together
    max_result: int = MOST_BYTES  # of a job's value, in bytes
    kind: Kind = Kind.PROCESS
    budgets: Budgets = DEFAULT_BUDGETS
    withholds_redis: bool = False  # from threads: processes never get its URL

    def check(self) -> None:
        """Raise UsageError for what does not go together."""
        if self.policy.cpu_seconds is not None and self.concurrency > 1:
            message = (
                "cpu_seconds is for one job at once: whose CPU time it is that a child of "
                f"concurrency {self.concurrency} uses, nobody can tell"
            )
            raise UsageError(message)

    @property
    def is_strict(self) -> bool:
        """Whether jobs may be hostile: nothing is sent ahead, and shared memory is not trusted."""
        return self.policy.name == "strict"


class ChildOwner(Protocol[Child_contra]):
    """Hears a child."""

    def on_message(
        self,
        child: Child_contra,
        kind: int,
        flags: int,
        detail: int,
        spent: Spent,
        seq: int,
        payload: bytes,
    ) -> None:
        """Take a message."""

    def on_answers(self, child: Child_contra, packet: bytes) -> None:
        """Take several answers."""

    def on_readable(self, child: Child_contra) -> None:
        """Read the child's channel."""

    def on_last_words(self, child: Child_contra) -> None:
        """Take what a dead child had sent and written."""

    def on_shut(self, child: Child_contra) -> None:
        """React to a child that reads nothing any more."""

    def on_lines(
        self, child: Child_contra, call: Call | None, stream: str, lines: list[str]
    ) -> None:
        """Take lines that the child wrote."""


def limits_of_all(terms: PoolOptions, *, children: int, usable: int) -> dict[str, int]:
    """Return the limits of so many children together, of ``usable`` bytes; empty: no limits."""
    if terms.policy.name == "none":
        return {}
    memory = int(usable * _MOST_OF_MEMORY)
    if terms.policy.memory is not None:
        memory = min(memory, _MEMORY_OF_SERVER + (children + 1) * 2 * terms.policy.memory)
    return {"memory": memory, "pids": _TASKS_OF_SERVER + (children + 1) * _tasks_granted(terms)}


def limits_of_one(terms: PoolOptions, memory: int | None) -> dict[str, int]:
    """Return the kernel's limits of a child with this grant, and of all that it starts."""
    if memory is None:
        return {}
    most = memory + _MEMORY_BESIDE + terms.max_result
    return {"memory": most, "pids": _TASKS_OF_A_CHILD + _tasks_granted(terms)}


def _tasks_granted(terms: PoolOptions) -> int:
    return terms.policy.processes * _TASKS_OF_A_PROCESS
