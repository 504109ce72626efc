"""The constants of docs/how-to/capacity.md: what was measured, and what is planned with.

A plan is made with a round figure on the safe side, and the examples in the document reckon with
it; `tests/benchmarks/test_summary.py` fails when what was measured has outgrown it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import add, footprint, io, memory, noop, report
from benchmarks.bars import written
from benchmarks.results_files import provenance, read

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Constant:
    """A figure of a results file: a column of a case."""

    title: str
    symbol: str
    unit: str
    results: str
    case: str
    key: str
    planned: float


IN_LOOP = f"sandboxq, 1 × {io.AT_ONCE}"
MICROSECONDS, MEGABYTES, BYTES = "µs", "MB", "bytes"

CONSTANTS = (
    Constant("Redis, CPU a job added in bulk", "*a*", MICROSECONDS,
             "add", add.BULK, "redis", 10),
    Constant("… added one by one", "*a₁*", MICROSECONDS,
             "add", add.ONE, "redis", 80),
    Constant("Redis, CPU a job claimed, run and settled", "*r*", MICROSECONDS,
             "noop", noop.OURS, "redis", 35),
    Constant("Coordinator, CPU a job", "*c*", MICROSECONDS,
             "noop", noop.OURS, "coordinator", 35),
    Constant("Child, CPU a job beside the processor's own", "*k*", MICROSECONDS,
             "noop", noop.OURS, "children", 20),
    Constant(f"… in an event loop, {io.AT_ONCE} at once", "*k*", MICROSECONDS,
             "io", IN_LOOP, "children", 45),
    Constant("Memory of a coordinator", "", MEGABYTES,
             "memory", memory.OURS, "coordinator", 45),
    Constant("… of a child with numpy and Pillow, after a job", "", MEGABYTES,
             "memory", memory.OURS, "used", 8),
    *(
        constant
        for case, waiting, completed in footprint.PLANNED
        for constant in (
            Constant(f"Redis, memory of a waiting job, {case}", "*m₁*", BYTES,
                     "footprint", case, "waiting", waiting),
            Constant(f"… of a completed job, {case}", "*m₂*", BYTES,
                     "footprint", case, "completed", completed),
        )
    ),
    Constant("Network, bytes to Redis a job added, besides its data", "", BYTES,
             "footprint", footprint.EMPTY, "added_in", 60),
    Constant("… a job run, besides its value", "", BYTES,
             "footprint", footprint.EMPTY, "run_in", 130),
    Constant("Network, bytes from Redis a job added", "", BYTES,
             "footprint", footprint.EMPTY, "added_out", 15),
    Constant("… a job run, besides its data", "", BYTES,
             "footprint", footprint.EMPTY, "run_out", 160),
)  # fmt: skip


def block(folder: Path) -> str:
    """Return the table of constants."""
    rows = [
        (
            each.title,
            each.symbol,
            _measured_cell(folder, each),
            f"{each.planned:,g} {each.unit}",
            f"`{each.results}`",
        )
        for each in CONSTANTS
    ]
    header = ("", "symbol", "measured", "planned with", "`python -m benchmarks …`")
    answers = [read(folder, name) for name in dict.fromkeys(each.results for each in CONSTANTS)]
    origin = provenance([answer for answer in answers if answer is not None])
    return f"{report.table(header, rows)}\n\n{origin}"


def measured(folder: Path, constant: Constant) -> float | None:
    """Return what was measured, or nothing where it was not yet."""
    answer = read(folder, constant.results)
    return None if answer is None else answer.medians[constant.case][constant.key]


def _measured_cell(folder: Path, constant: Constant) -> str:
    figure = measured(folder, constant)
    return "not yet" if figure is None else f"{written(figure)} {constant.unit}"
