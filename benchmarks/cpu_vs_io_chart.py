"""The chart of cpu_vs_io: throughput, cores used and longest heartbeat gap, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    # (jobs per second, cores used, longest gap in seconds) by (workload, way)
    Medians = dict[tuple[str, str], tuple[float, float, float]]

# Told apart also in grey and by eyes that mix up red and green.
COLOURS = ("#9a9a9a", "#e0a030", "#1f6fb4", "#7fb8d8")
TICK_MS = 50
BAR_ROOM = 0.8

mpl.rcParams.update({"font.size": 9, "axes.titlesize": 10})


def draw(medians: Medians, path: Path, *, caption: str) -> None:
    """Draw the medians into a PNG file."""
    workloads = list(dict.fromkeys(workload for workload, _ in medians))
    ways = list(dict.fromkeys(way for _, way in medians))
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    throughput, cores, gap = figure.subplots(1, 3)
    loop = {workload: medians[workload, ways[0]][0] for workload in workloads}
    _bars(
        throughput,
        {key: found[0] / loop[key[0]] for key, found in medians.items()},
        {key: f"{found[0]:.3g}" for key, found in medians.items()},
    )
    throughput.set_title("Jobs per second (height: times the loop)")
    _bars(
        cores,
        {key: found[1] for key, found in medians.items()},
        {key: f"{found[1]:.2f}" for key, found in medians.items()},
    )
    cores.set_title("Cores used")
    _bars(
        gap,
        {key: found[2] * 1000 for key, found in medians.items()},
        {key: _milliseconds(found[2]) for key, found in medians.items()},
    )
    gap.set_title("Longest heartbeat gap, ms (less is better)")
    gap.set_yscale("log")
    gap.axhline(TICK_MS, color="black", linewidth=0.8, linestyle=":")
    gap.set_ylim(bottom=TICK_MS * 0.6)
    handles, _ = throughput.get_legend_handles_labels()
    figure.legend(handles, ways, loc="outside upper center", ncols=len(ways), frameon=False)
    figure.supxlabel(caption, fontsize=7, color="#555555")
    figure.savefig(path, dpi=130)


def _bars(
    axes: Axes, heights: dict[tuple[str, str], float], labels: dict[tuple[str, str], str]
) -> None:
    workloads = list(dict.fromkeys(workload for workload, _ in heights))
    ways = list(dict.fromkeys(way for _, way in heights))
    width = BAR_ROOM / len(ways)
    for place, way in enumerate(ways):
        shift = (place - (len(ways) - 1) / 2) * width
        bars = axes.bar(
            [number + shift for number in range(len(workloads))],
            [heights.get((workload, way), 0.0) for workload in workloads],
            width * 0.92,
            color=COLOURS[place],
            label=way,
        )
        texts = [labels.get((workload, way), "–") for workload in workloads]
        axes.bar_label(bars, texts, fontsize=6.5, padding=1)
    axes.set_xticks(range(len(workloads)), [name.replace(" (", "\n(") for name in workloads])
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)


def _milliseconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f}"
