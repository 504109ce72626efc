"""What a child did that no child does that runs our code."""

from __future__ import annotations


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
