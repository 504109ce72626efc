"""The table of campaigns, and what was found in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.verdict import Verdict

_TITLES = (
    *("campaign", "faults injected", "jobs", "unknown", "lost", "stuck", "reruns"),
    *("without cause", "failed", "excused", "drained (s)", "longest gap (s)", ""),
)
_EXAMPLES = 3
_LONGEST = 700


def rendered(verdicts: Sequence[Verdict]) -> str:
    """Return the table in Markdown; below it, what was found, with examples."""
    rows = [_TITLES, ("---",) * len(_TITLES), *map(_row, verdicts)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    for verdict in verdicts:
        for what, examples in verdict.violations.items():
            lines.append(f"\n{verdict.name}: {what}, {len(examples)} times")
            lines += [f"    {example[:_LONGEST]}" for example in examples[:_EXAMPLES]]
    return "\n".join(lines)


def _row(verdict: Verdict) -> tuple[str, ...]:
    faults = ", ".join(f"{number} {name}" for name, number in sorted(verdict.faults.items()))
    numbers = (verdict.jobs, verdict.unknown, verdict.lost, verdict.stuck, verdict.reruns)
    drained = "never" if verdict.drained is None else f"{verdict.drained:.1f}"
    return (
        verdict.name,
        faults or "none",
        *map(str, numbers),
        str(verdict.without_cause),
        str(verdict.failed),
        str(verdict.excused),
        drained,
        f"{verdict.gap:.2f}",
        "ok" if verdict.is_good else ", ".join(verdict.violations),
    )
