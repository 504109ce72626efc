"""Does a long queue slow a worker down, or make it grow."""

from __future__ import annotations

from functools import partial

from benchmarks import noop
from benchmarks.question import Case, Column, Found, Medians, Question, Target, answer, options_from

NAME = "backlog"
SHORT = 10_000

QUESTION = Question(
    NAME,
    "Drain rate by the length of the queue",
    (
        Column("per_second", "jobs/s", ",.0f"),
        Column("coordinator", "coordinator, µs a job"),
        Column("redis", "Redis, µs a job"),
        Column("memory_growth", "growth of the coordinator, MB"),
    ),
    (
        Target("rate with the long queue ÷ with the short one",
               lambda found: _last(found)["per_second"] / _first(found)["per_second"], 0.9),
        Target("growth of the coordinator with the long queue beyond that with the short one, MB",
               lambda found: _last(found)["memory_growth"] - _first(found)["memory_growth"],
               1, is_at_most=True),
    ),
    f"The first {SHORT:,} jobs of each queue are drained.",
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Compare a queue of 10,000 no-op jobs with one of a million."""
    options = options_from(NAME, arguments, repeats=5, waiting=1_000_000)
    cases = [
        Case(
            f"sandboxq, {waiting:,} waiting",
            partial(noop.run, jobs=SHORT, procs=2, waiting=waiting),
        )
        for waiting in (SHORT, options.waiting)
    ]
    answer(QUESTION, cases, options)


def _first(medians: Medians) -> Found:
    return next(iter(medians.values()))


def _last(medians: Medians) -> Found:
    return list(medians.values())[-1]
