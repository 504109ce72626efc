"""A chart of one column: a bar for each case, with its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLOUR, OURS = "#9a9a9a", "#1f6fb4"

mpl.rcParams.update({"font.size": 9, "axes.titlesize": 10})


def draw(values: Mapping[str, float], path: Path, *, title: str, caption: str) -> None:
    """Draw horizontal bars into a PNG file; those of sandboxq stand out."""
    figure = Figure(figsize=(7, 1.2 + 0.34 * len(values)), layout="constrained")
    axes = figure.subplots()
    names = list(values)
    colours = [OURS if name.startswith("sandboxq") else COLOUR for name in names]
    bars = axes.barh(names, list(values.values()), color=colours)
    axes.bar_label(bars, [f"{value:,.4g}" for value in values.values()], fontsize=8, padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left")
    figure.supxlabel(caption, fontsize=6.5, color="#555555")
    figure.savefig(path, dpi=130)
