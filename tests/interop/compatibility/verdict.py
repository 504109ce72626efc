"""What a probe found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKS, PARTLY, FAILS = "✓", "partial", "✗"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A mark, and why it is not ``WORKS``."""

    mark: str
    note: str = ""


def verdicts_from_json(answers: Mapping[str, str]) -> dict[str, Verdict]:
    """Return what a peer's program printed: an empty text for what works, else what went wrong."""
    return {name: _verdict(note) for name, note in answers.items()}


def _verdict(note: str) -> Verdict:
    if note.startswith(PARTLY):
        return Verdict(PARTLY, note.removeprefix(f"{PARTLY}: "))
    return Verdict(FAILS, note) if note else Verdict(WORKS)
