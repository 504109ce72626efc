"""Where the jobs of a flow stand in its drawing: the root left, those it waits for right of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 208, 44
_COLUMN, _ROW = WIDTH + 56, HEIGHT + 12
_EDGE = 12


class Spot(NamedTuple):
    """The upper left corner of a job, and of the job that waits for it."""

    x: int
    y: int
    parent: int | None

    def line_from(self, other: Spot) -> str:
        """Return the path of the line from the job that waits to this one."""
        start, end = other.x + WIDTH, self.x
        middle = (start + end) / 2
        one, two = other.y + HEIGHT / 2, self.y + HEIGHT / 2
        return f"M{start},{one:g} C{middle:g},{one:g} {middle:g},{two:g} {end},{two:g}"


class Layout(NamedTuple):
    """The spots of jobs, in the order in which these were given, and the size of the whole."""

    spots: list[Spot]
    width: int
    height: int


def layout(parents: Sequence[int | None]) -> Layout:
    """Return where jobs stand; each job comes behind its parent, whose place it names.

    A job without children has a row of its own; one with children is beside the middle of them.
    """
    children: list[list[int]] = [[] for _ in parents]
    depths: list[int] = []
    for place, parent in enumerate(parents):
        depths.append(0 if parent is None else depths[parent] + 1)
        if parent is not None:
            children[parent].append(place)
    heights = _heights(parents, children)
    spots = [
        Spot(_EDGE + _COLUMN * depth, round(_EDGE + _ROW * row), parent)
        for depth, row, parent in zip(depths, heights, parents, strict=True)
    ]
    width = max((each.x for each in spots), default=0) + WIDTH + _EDGE
    height = max((each.y for each in spots), default=0) + HEIGHT + _EDGE
    return Layout(spots, width, height)


def _heights(parents: Sequence[int | None], children: list[list[int]]) -> list[float]:
    """Return the row of each job, halves between rows included."""
    rows = [0.0] * len(parents)
    free = 0
    # From above, without recursion: a flow may be a chain of any length.
    waiting = [place for place, parent in enumerate(parents) if parent is None][::-1]
    order: list[int] = []
    while waiting:
        place = waiting.pop()
        order.append(place)
        if not children[place]:
            rows[place] = free
            free += 1
        waiting.extend(reversed(children[place]))
    for place in reversed(order):
        if children[place]:
            rows[place] = (rows[children[place][0]] + rows[children[place][-1]]) / 2
    return rows
