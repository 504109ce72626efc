"""The interfaces of what starts children: zygotes for processes, ``threads`` for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.zygote_client import ZygoteClient
    from sandboxq.pool.options import ChildOwner
    from sandboxq.pool.outcomes import Death
    from sandboxq.sandbox.plan import Plan


class Source(Protocol):
    """Where children come from; it tells a ServerOwner of starts and ends."""

    def spawn(self, number: int, plan: Plan, fds: list[int]) -> None:
        """Ask for a child that follows ``plan`` and gets copies of these descriptors.

        Raises: OSError, RuntimeError: there is nothing to make it of.
        """

    def scratch_of(self, number: int) -> str:
        """Return the path of a child's private directory."""


class SourceSupervisor(Protocol):
    """Keeps a source of children at work."""

    @property
    def is_preloaded(self) -> bool:
        """Whether children find the processor imported."""

    @property
    def server(self) -> Source | None:
        """Where children come from; None while there is nothing."""

    @property
    def notes(self) -> list[str]:
        """Lines for the banner: label and text."""

    async def start(self, size: int, timeout: float) -> None:
        """Import the processor, for ``size`` children.

        Raises:
            ProcessorNotLoaded: it cannot be imported.
            UsageError: it does not fit the concurrency.
        """

    def child(self, number: int, *, owner: ChildOwner[Child], memory: int | None) -> Child:
        """Return the coordinator's side of a child that is to be started."""

    def replace_lost(self, lost: ZygoteClient, size: int) -> None:
        """Start another server in place of one that died."""

    @property
    def servers(self) -> list[ZygoteClient]:
        """The zygotes; none of threads."""

    def limit(self, size: int) -> None:
        """Limit what ``size`` children may use together, where there are control groups."""

    async def renew(self, size: int, timeout: float) -> None:
        """Import the processor anew; the source before keeps the children that it has.

        Raises: as ``start``, UsageError where that cannot be; then nothing has changed.
        """

    async def go_back(self) -> None:
        """Undo ``renew``, whose source has no children any more."""

    def let_go(self, server: ZygoteClient | None, left: Collection[Child]) -> None:
        """End a server that is not the newest, if none of those that are left is its child."""

    def kill_stuck(self, server: ZygoteClient | None) -> None:
        """Kill a server that does not answer."""

    def wake_stopped(self) -> None:
        """Send SIGCONT to a server that was stopped."""

    async def close(self) -> None:
        """End all, and wait for that."""

    def kill(self) -> None:
        """End all now."""


class WithoutZygotes:
    """What a SourceSupervisor does about zygotes where there are none: nothing."""

    @property
    def servers(self) -> list[ZygoteClient]:
        """None."""
        return []

    def limit(self, size: int) -> None:
        """Do nothing."""

    def replace_lost(self, lost: ZygoteClient, size: int) -> None:
        """Do nothing."""

    async def go_back(self) -> None:
        """Do nothing."""

    def let_go(self, server: ZygoteClient | None, left: Collection[Child]) -> None:
        """Do nothing."""

    def kill_stuck(self, server: ZygoteClient | None) -> None:
        """Do nothing."""

    def wake_stopped(self) -> None:
        """Do nothing."""


class SupervisorOwner(Protocol):
    """Hears of starts and deaths."""

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


def refuse_concurrency(concurrency: int, *, is_async: bool) -> None:
    """Raise UsageError when one child is to run several jobs of a plain function."""
    if concurrency > 1 and not is_async:
        message = (
            f"concurrency {concurrency} needs an `async def` processor; "
            "for a plain `def`, use more children"
        )
        raise UsageError(message)
