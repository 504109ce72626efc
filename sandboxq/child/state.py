"""One thing that outlives a job: how it is read, and how it is made again what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class CannotRestore(Exception):
    """What a job has changed stays changed: its child is to leave."""


class State:
    """One thing: how to read it, and how to make it again what it was."""

    __slots__ = ("_read", "_restore", "is_own", "kind", "was")

    def __init__(
        self,
        kind: int,
        read: Callable[[], Any],
        restore: Callable[[Any], object],
        *,
        is_own: bool = False,
    ) -> None:
        """Remember how it is now; ``restore`` may raise anything when it cannot.

        Where it ``is_own`` a fork, or what a child does before its jobs, changes it, or others do.
        """
        self.kind = kind
        self.is_own = is_own
        self._read = read
        self._restore = restore
        self.was = read()

    def note(self) -> None:
        """Remember how it is now."""
        self.was = self._read()

    def is_changed(self) -> bool:
        """Tell whether it is not what it was."""
        now = self._read()
        return now is not self.was and bool(now != self.was)

    def restore(self) -> None:
        """Put it back. Raises: CannotRestore."""
        try:
            self._restore(self.was)
        except Exception as error:
            raise CannotRestore from error
        if self.is_changed():
            raise CannotRestore


class SharedState(State):
    """One that libraries change too: what is theirs stays, and is what it was from then on."""

    __slots__ = ()

    def is_changed(self) -> bool:
        """Put back what is not a library's; tell whether there was any."""
        now = self._read()
        if now is self.was or now == self.was:
            return False
        self._restore(self.was)
        self.was = self._read()
        return bool(self.was != now)

    def restore(self) -> None:
        """Do nothing more."""


def cannot(was: Any) -> None:
    """Restore nothing: the child is to leave. Raises: CannotRestore."""
    del was
    raise CannotRestore
