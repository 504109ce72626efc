"""What a child did that no child does that runs our code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.errors import JobCrashed, SandboxViolation

if TYPE_CHECKING:
    from sandboxq.errors import ChildError


class Breach(Exception):
    """A child said what it may not say; the text goes on from "child 7 ". It is to be ended."""


class Flooded(Breach):
    """It sent a message above the limit of its kind."""

    def __init__(self, kind: int, limit: int) -> None:
        """Name the kind (child/frames.py) and its limit in bytes."""
        super().__init__(f"sent a message of kind {kind} with more than {limit} bytes")


class NotJson(Breach):
    """It sent bytes that are no JSON text in UTF-8, where other clients read JSON."""

    def __init__(self, why: str) -> None:
        """Say what is wrong with them."""
        super().__init__(f"sent what is no JSON: {why}")


def error_from_breach(breach: Breach, pid: int, *, is_strict: bool) -> ChildError:
    """Return for what a child is ended, and its job fails: under ``strict`` it is an attack."""
    kind = SandboxViolation if is_strict else JobCrashed
    return kind(f"child {pid} {breach}: no honest child does so, and it was ended")
