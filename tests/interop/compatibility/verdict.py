"""What a probe found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKS, FAILS = "✓", "✗"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A mark, and why it is not ``WORKS``."""

    mark: str
    note: str = ""


def verdicts_from_json(answers: Mapping[str, str]) -> dict[str, Verdict]:
    """Return what a peer's program printed: an empty text for what works, else what went wrong."""
    return {
        name: Verdict(FAILS, note) if note else Verdict(WORKS) for name, note in answers.items()
    }
