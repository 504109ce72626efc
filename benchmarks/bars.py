"""Charts of bars: a panel for each question, a bar for each case, with its value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

COLOUR, OURS, LIMIT = "#b4b8bf", "#1f6fb4", "#c2410c"
TEXT, FAINT = "#24292f", "#6b7280"
PANEL_WIDTH, BAR_HEIGHT, FRAME_HEIGHT = 6.2, 0.32, 1.15

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": FAINT,
    "ytick.color": TEXT,
}


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars by name; those of sandboxq stand out, and a line marks what a bar must (not) reach."""

    title: str
    values: Mapping[str, float]
    limits: Mapping[str, float] = field(default_factory=dict)


def draw(panels: Sequence[Panel], path: Path, *, caption: str, across: int = 2) -> None:
    """Draw the panels into a PNG file, so many beside each other."""
    across = min(across, len(panels))
    down = -(-len(panels) // across)
    rows = [panels[first : first + across] for first in range(0, len(panels), across)]
    heights = [FRAME_HEIGHT + BAR_HEIGHT * max(len(each.values) for each in row) for row in rows]
    size = (PANEL_WIDTH * across, sum(heights))
    # Only here: it is a second of imports.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.rcParams.update(_STYLE)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    places = figure.subplots(down, across, squeeze=False, height_ratios=heights).flat
    for place, panel in zip(places, panels, strict=False):
        _bars(place, panel)
    for place in list(places)[len(panels) :]:
        place.set_axis_off()
    figure.supxlabel(caption, fontsize=6.5, color=FAINT)
    figure.savefig(path, dpi=130)


def _bars(axes: Axes, panel: Panel) -> None:
    names = list(panel.values)
    is_ours = [name.startswith("sandboxq") for name in names]
    # Where all or none are ours, there is nobody to stand out from.
    is_alone = len(set(is_ours)) == 1
    colours = [OURS if mine or is_alone else COLOUR for mine in is_ours]
    bars = axes.barh(names, list(panel.values.values()), color=colours, height=0.68)
    labels = [written(value) for value in panel.values.values()]
    axes.bar_label(bars, labels, fontsize=8, padding=4)
    for name, limit in panel.limits.items():
        place = names.index(name)
        axes.vlines(limit, place - 0.36, place + 0.36, color=LIMIT, linewidth=1.6)
        axes.text(limit, place - 0.36, f"limit {limit:g}", color=LIMIT, fontsize=6.5, va="bottom")
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.set_xlim(left=0)
    axes.tick_params(axis="x", labelsize=7, length=0)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: written(value))
    axes.xaxis.grid(visible=True, color="#e5e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("#d1d5db")
    axes.set_title(panel.title, loc="left")


def written(value: float) -> str:
    """Write a number with at most three digits that count, or all of a large one."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
