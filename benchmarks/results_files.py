"""Reads what benchmarks wrote into their results files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.question import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.question import Medians


@dataclass(frozen=True, slots=True)
class Answer:
    """One results file."""

    name: str
    surroundings: Mapping[str, str]
    medians: Medians
    verdicts: Sequence[Verdict]


def read(folder: Path, name: str) -> Answer | None:
    """Return the results of a benchmark, or nothing where it was not run yet."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    verdicts = [Verdict(**each) for each in found["targets"]]
    return Answer(name, found["surroundings"], found["medians"], verdicts)


def provenance(answers: Sequence[Answer]) -> str:
    """Say when, where and from which commits these are."""
    groups: dict[str, list[str]] = {}
    for answer in answers:
        said = answer.surroundings
        origin = f"{said['date']}, commit {said['commit']}, {said['machine']}, {said['server']}"
        groups.setdefault(origin, []).append(f"`{answer.name}`")
    return "\n".join(f"- {', '.join(names)}: {origin}" for origin, names in groups.items())
