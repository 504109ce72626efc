"""What the children of one pool have in common, and who hears them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from sandboxq.errors import UsageError
from sandboxq.model.budgets import DEFAULT_BUDGETS, Budgets
from sandboxq.payload.binary import MOST_BYTES
from sandboxq.pool.kinds import Kind

if TYPE_CHECKING:
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.death import Death
    from sandboxq.pool.transport.channel import Spent
    from sandboxq.sandbox.policy import Policy


class PoolOptions(NamedTuple):
    """What all children of a crew have in common."""

    processor: str
    queue_name: str
    concurrency: int
    policy: Policy
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
        """Whether jobs are perhaps hostile: nothing is sent ahead, and no memory believed."""
        return self.policy.name == "strict"


class SupervisorOwner(Protocol):
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


class ChildOwner(Protocol):
    """Who hears a child."""

    def on_message(
        self,
        child: Child,
        kind: int,
        flags: int,
        detail: int,
        spent: Spent,
        seq: int,
        payload: bytes,
    ) -> None:
        """Take a message."""

    def on_answers(self, child: Child, packet: bytes) -> None:
        """Take several answers."""

    def on_readable(self, child: Child) -> None:
        """Read the child's channel."""

    def on_last_words(self, child: Child) -> None:
        """Take what a child that is dead had sent and written."""

    def on_shut(self, child: Child) -> None:
        """Hear that the child takes nothing any more."""

    def on_lines(self, child: Child, call: Call | None, stream: str, lines: list[str]) -> None:
        """Take lines that the child wrote."""
