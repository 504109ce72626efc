"""Asks one question: runs its cases in turn, again and again, and tells medians and targets.

    cases ──► round 1: a b c ─► round 2: a b c ─► …  ──► medians ──► table, targets, chart, files

Cases alternate, so that a noisy minute hits all of them; a target is a ratio of two of them, or a
limit, looked at in the same run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import report
from benchmarks.bars import Panel, draw, written
from benchmarks.server import server_version

Found = Mapping[str, float]
# The median of each number of each case.
Medians = Mapping[str, Found]


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do the work; ``run`` does it once and returns its numbers by column key."""

    name: str
    run: Callable[[], Found]


@dataclass(frozen=True, slots=True)
class Column:
    """A number of every case, and how it is written."""

    key: str
    title: str
    form: str = ",.1f"


class Verdict(NamedTuple):
    """A target and what became of it, as it is written into the results."""

    text: str
    target: str
    measured: str
    is_met: bool

    def word(self) -> str:
        """Return how it is told."""
        return "met" if self.is_met else "MISSED"

    def line(self) -> str:
        """Return a line of a Markdown list."""
        return f"- {self.word()}: {self.text}: {self.measured} (target {self.target})"


@dataclass(frozen=True, slots=True)
class Target:
    """What must be reached: ``value`` of the medians at least, or at most, ``limit``."""

    text: str
    value: Callable[[Medians], float]
    limit: float
    is_at_most: bool = False
    # The column whose bar in the chart gets a mark at the limit.
    key: str = ""
    # Left out where not all of these were measured.
    cases: tuple[str, ...] = ()

    def verdict(self, medians: Medians) -> Verdict:
        """Say whether it was met, and by what."""
        found = self.value(medians)
        is_met = found <= self.limit if self.is_at_most else found >= self.limit
        sign = "≤" if self.is_at_most else "≥"
        return Verdict(self.text, f"{sign} {written(self.limit)}", written(found), is_met)


@dataclass(frozen=True, slots=True)
class Question:
    """A benchmark; its chart shows the ``charted`` columns, or else the first."""

    name: str
    title: str
    columns: Sequence[Column]
    targets: Sequence[Target] = ()
    note: str = ""
    charted: Sequence[str] = ()


def at_most(case: str, key: str, text: str, limit: float) -> Target:
    """Return the target that a column of a case is no higher than this."""
    return Target(text, lambda found: found[case][key], limit, is_at_most=True, key=key)


def options_from(
    name: str, arguments: list[str], *, repeats: int, **numbers: float
) -> argparse.Namespace:
    """Return what the command line says: repeats, the folder of results, and these numbers."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"default: {repeats}")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where results go")
    for number, default in numbers.items():
        option = f"--{number.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help=f"{default:,}")
    return parser.parse_args(arguments)


def answer(
    question: Question,
    cases: Sequence[Case],
    options: argparse.Namespace,
    facts: Mapping[str, str] | None = None,
) -> Medians:
    """Run the cases, print what was found with the ``facts``, and write it beside a chart."""
    neighbours = report.Neighbours()
    runs = _runs(cases, options.repeats)
    medians = {
        name: {key: report.middle([found[key] for found in each]) for key in each[0]}
        for name, each in runs.items()
    }
    surroundings = report.surroundings() | {
        "server": server_version(),
        "repeats": f"{options.repeats}, alternating; medians",
        "other programs": f"kept {neighbours.cores():.2f} cores busy meanwhile",
        **(facts or {}),
    }
    text = _text(question, runs, medians, surroundings)
    print(text)
    measured = {
        "surroundings": surroundings,
        "medians": medians,
        "targets": [verdict._asdict() for verdict in _verdicts(question, medians)],
        "runs": runs,
    }
    report.write(question.name, text=text, measured=measured, directory=options.out)
    caption = " · ".join(surroundings[key] for key in ("machine", "python", "date", "commit"))
    draw(_panels(question, medians), options.out / f"{question.name}.png", caption=caption)
    return medians


def _panels(question: Question, medians: Medians) -> list[Panel]:
    """Return a panel for each charted column; of a single case, one with a bar for each."""
    charted = [column for column in question.columns if column.key in question.charted]
    charted = charted or [question.columns[0]]
    if len(medians) == 1:
        (found,) = medians.values()
        values = {column.title: found[column.key] for column in charted}
        titles = {column.key: column.title for column in charted}
        limits = {titles[each.key]: each.limit for each in question.targets if each.key in titles}
        return [Panel(question.title, values, limits)]
    return [
        Panel(
            f"{question.title}: {column.title}" if column is charted[0] else column.title,
            {name: found[column.key] for name, found in medians.items() if column.key in found},
        )
        for column in charted
    ]


def _runs(cases: Sequence[Case], repeats: int) -> dict[str, list[Found]]:
    runs: dict[str, list[Found]] = {case.name: [] for case in cases}
    for repeat in range(1, repeats + 1):
        for case in cases:
            print(f"{repeat}/{repeats}  {case.name} …", file=sys.stderr)
            runs[case.name].append(case.run())
    return runs


def _verdicts(question: Question, medians: Medians) -> list[Verdict]:
    return [target.verdict(medians) for target in question.targets]


def _text(
    question: Question,
    runs: Mapping[str, Sequence[Found]],
    medians: Medians,
    surroundings: Mapping[str, str],
) -> str:
    header = ["", *(column.title for column in question.columns), "spread of the first"]
    rows = []
    for name, found in medians.items():
        cells = [
            format(found[column.key], column.form) if column.key in found else "–"
            for column in question.columns
        ]
        first = [each.get(question.columns[0].key, 0.0) for each in runs[name]]
        rows.append([name, *cells, report.spread(first)])
    facts = "\n".join(f"- {name}: {value}" for name, value in surroundings.items())
    parts = [
        f"# {question.title}",
        f"![{question.title}]({question.name}.png)",
        report.table(header, rows),
        question.note,
        "\n".join(verdict.line() for verdict in _verdicts(question, medians)),
        facts,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
