"""What the children of one pool have in common, and who hears of their births and deaths."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from sandboxq.binary import MOST_BYTES
from sandboxq.budgets import DEFAULT_BUDGETS, Budgets
from sandboxq.pool.kinds import Kind

if TYPE_CHECKING:
    from sandboxq.pool.death import Death
    from sandboxq.pool.process import Child
    from sandboxq.sandbox.policy import Policy


class Terms(NamedTuple):
    """What all children of a crew have in common."""

    processor: str
    queue_name: str
    concurrency: int
    policy: Policy
    max_result: int = MOST_BYTES  # of a job's value, in bytes
    kind: Kind = Kind.PROCESS
    budgets: Budgets = DEFAULT_BUDGETS
    withholds_redis: bool = False  # from threads: see Order

    @property
    def is_strict(self) -> bool:
        """Whether jobs are perhaps hostile: nothing is sent ahead, and no memory believed."""
        return self.policy.name == "strict"


class CrewOwner(Protocol):
    """Who hears of births and deaths."""

    def on_child_ready(self, child: Child) -> None:
        """Hear that a child can take calls."""

    def on_failed_start(self, reason: str) -> None:
        """Hear that a child could not start, and that none is there."""

    def on_child_dead(self, child: Child, death: Death) -> None:
        """Settle the calls of a dead child; afterwards its descriptors are closed."""

    def on_import_line(self, pid: int, stream: str, line: str) -> None:
        """Take a line that was printed while the processor was imported."""

    def on_child_leaving(self, child: Child) -> None:
        """Take back what a child has not read: it is about to be retired."""
