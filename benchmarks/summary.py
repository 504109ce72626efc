"""What was reached of all that was to be: README.md and docs, written from the results files.

    results/*.json ──► targets    ──► docs/explanation/performance.md
                   ──► peers      ──► docs/explanation/performance.md, results/summary.png
                   ──► headline   ──► README.md
                   ──► constants  ──► docs/how-to/capacity.md

Nobody copies a number by hand: `tests/benchmarks/test_summary.py` compares.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import constants, report
from benchmarks.bars import Panel, draw, written
from benchmarks.markers import write_block
from benchmarks.peer_list import OURS
from benchmarks.resize import BARE
from benchmarks.results_files import provenance, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.question import Found, Medians
    from benchmarks.results_files import Answer

CHECKOUT = Path(__file__).parents[1]
CHART = "summary.png"


@dataclass(frozen=True, slots=True)
class Work:
    """A row of the comparison: its results file, and the command that writes it."""

    number: str
    title: str
    results: str
    command: str


WORKS = (
    Work("W1", "no-op jobs in sandboxed children", "peers_noop", "peers --works W1"),
    Work("W2", "adding", "peers_add", "peers --works W2"),
    Work("W3", "resizing JPEGs", "resize", "resize"),
    Work("W4", "10 ms of waiting, 500 at once", "peers_io", "peers --works W4"),
    Work("W5", "latency of an idle worker", "latency", "latency"),
    Work("W6", "locks under load, the GIL held in C", "heartbeat", "heartbeat"),
    Work("W7", "memory with numpy and Pillow", "memory", "memory"),
    Work("W8", "a million jobs waiting", "backlog", "backlog"),
    Work("W9", "dispatch to a pool, no Redis", "dispatch", "dispatch"),
    Work("W10", "two coordinators on one queue", "coordinators", "coordinators"),
    Work("W11", "lines that jobs print, written by `run`", "lines", "lines"),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column of the table of peers, and a panel of the chart."""

    title: str
    results: str
    value: Callable[[Found, Medians], float]


NOOP, RESIZED = "no-op jobs/s", "JPEGs resized, % of a bare process pool"
COMPARISONS = (
    Comparison(NOOP, "peers_noop", lambda found, _: found["per_second"]),
    Comparison("Redis CPU, µs a no-op job", "peers_noop", lambda found, _: found["redis"]),
    Comparison("10 ms waits, jobs/s", "peers_io", lambda found, _: found["per_second"]),
    Comparison(
        RESIZED,
        "peers_resize",
        lambda found, all_: 100 * found["per_second"] / all_[BARE]["per_second"],
    ),
    Comparison("add → start p50, ms", "peers_latency", lambda found, _: found["start_p50"]),
    Comparison("add → result p50, ms", "peers_latency", lambda found, _: found["result_p50"]),
)
# What the chart shows: more is better in each.
CHARTED = (NOOP, "10 ms waits, jobs/s", RESIZED)
# Beside whom the headline puts it.
NAMED = ("BullMQ, in-process", "BullMQ, sandboxed", "Celery, prefork")


def main(arguments: list[str]) -> None:
    """Write the chart, and from the checkout's own results also the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks summary")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where the results are")
    folder = parser.parse_args(arguments).out
    print(targets(folder))
    _draw(folder)
    if folder == report.RESULTS:
        for path, name, block in blocks(folder):
            write_block(CHECKOUT / path, name, block)


def blocks(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Return what belongs where: a document, the name of its block, and the block."""
    yield "docs/explanation/performance.md", "targets", targets(folder)
    yield "docs/explanation/performance.md", "peers", peers(folder)
    yield "README.md", "headline", headline(folder)
    yield "docs/how-to/capacity.md", "constants", constants.block(folder)


def targets(folder: Path) -> str:
    """Return the table of all works and their targets."""
    found = {work: read(folder, work.results) for work in WORKS}
    rows = [row for work, answer in found.items() for row in _rows(work, answer)]
    header = ("", "work", "what", "needed", "measured", "", "`python -m benchmarks …`")
    answers = [answer for answer in found.values() if answer is not None]
    return f"{report.table(header, rows)}\n\n{provenance(answers)}"


def _rows(work: Work, answer: Answer | None) -> Iterator[tuple[str, ...]]:
    begin, command = (work.number, work.title), f"`{work.command}`"
    if answer is None:
        yield (*begin, "", "", "", "not measured yet", command)
        return
    for verdict in answer.verdicts:
        word = verdict.word()
        word = word if verdict.is_met else f"**{word}**"
        yield (*begin, verdict.text, verdict.target, verdict.measured, word, command)
        begin, command = ("", ""), ""


def peers(folder: Path) -> str:
    """Return the table of peers, quickest first."""
    columns = {each.title: _column(folder, each) for each in COMPARISONS}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    by_rate = columns[COMPARISONS[0].title]
    ranked = sorted(names, key=lambda name: -by_rate.get(name, 0.0))
    rows = [
        (f"**{name}**" if name == OURS else name, *(_cell(each, name) for each in columns.values()))
        for name in ranked
    ]
    answers = {each.results: read(folder, each.results) for each in COMPARISONS}
    measured = [answer for answer in answers.values() if answer is not None]
    if not measured:
        return "Not measured yet: `python -m benchmarks peers`."
    picture = f"![Jobs a second of sandboxq and its peers](../../benchmarks/results/{CHART})"
    return "\n\n".join([picture, report.table(("", *columns), rows), provenance(measured)])


def headline(folder: Path) -> str:
    """Return in two sentences how quick it is, beside three others."""
    noop, resized = (_column(folder, _comparison(title)) for title in (NOOP, RESIZED))
    if OURS not in noop or OURS not in resized:
        return "Not measured yet: `python -m benchmarks peers`."
    ratios = [f"{written(noop[OURS] / noop[name])} times {name}" for name in NAMED if name in noop]
    lines = (
        f"{written(noop[OURS])} no-op jobs a second on two cores, with Redis on the same two:",
        f"{', '.join(ratios)}. JPEGs are resized at {written(resized[OURS])} % of the speed",
        f"of a bare process pool. {_count_of_met(folder)} All peers, and the commands that measure",
        "them: [performance](docs/explanation/performance.md).",
    )
    return "\n".join(lines)


def _comparison(title: str) -> Comparison:
    return next(each for each in COMPARISONS if each.title == title)


def _column(folder: Path, comparison: Comparison) -> Mapping[str, float]:
    answer = read(folder, comparison.results)
    if answer is None:
        return {}
    return {
        name: comparison.value(found, answer.medians)
        for name, found in answer.medians.items()
        if _has(comparison, found)
    }


def _has(comparison: Comparison, found: Found) -> bool:
    """Say whether a case has this figure: a bare pool has no Redis."""
    return "Redis" not in comparison.title or "redis" in found


def _cell(column: Mapping[str, float], name: str) -> str:
    return written(column[name]) if name in column else "–"


def _count_of_met(folder: Path) -> str:
    answers = [read(folder, work.results) for work in WORKS]
    verdicts = [verdict for answer in answers if answer for verdict in answer.verdicts]
    met = sum(verdict.is_met for verdict in verdicts)
    return f"Of {len(verdicts)} targets {met} were met."


def _draw(folder: Path) -> None:
    charted = [each for each in COMPARISONS if each.title in CHARTED]
    answers = [answer for each in charted if (answer := read(folder, each.results)) is not None]
    columns = {each.title: _column(folder, each) for each in charted}
    panels = [Panel(title, _ranked(column)) for title, column in columns.items() if column]
    if not panels:
        return
    said = answers[0].surroundings
    caption = " · ".join(said[key] for key in ("machine", "python", "server", "date", "commit"))
    draw(panels, folder / CHART, caption=caption, across=len(panels))


def _ranked(column: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(column.items(), key=lambda item: -item[1]))
