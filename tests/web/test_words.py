"""How the page writes numbers and times, and where it draws the jobs of a flow."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")

from sandboxq.web import words
from sandboxq.web.layout import layout


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0.0421, "42 ms"),
        (4.25, "4.2 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (90_000, "1 d 1 h"),
        (-5, "-5.0 s"),
    ],
)
def test_durations(seconds: float | None, said: str) -> None:
    """Two units at most: more is not read."""
    assert words.duration(seconds) == said


def test_sizes_and_counts() -> None:
    """Large numbers are short, small ones exact."""
    assert [words.size(each) for each in (0, 1023, 2048, 261 << 20, 5 << 30)] == [
        *("0 B", "1023 B", "2 kB", "261 MB", "5 GB")
    ]
    assert [words.count(each) for each in (0, 1234, 12_345_678)] == ["0", "1,234", "12.35M"]


def test_moments() -> None:
    """What is no time that a calendar has is shown as it is."""
    assert words.clock(0) == "1970-01-01 00:00:00.000Z"
    assert words.clock(10**18) == str(10**18)
    assert words.ago(0, 5000) == "–"
    assert words.ago(1000, 66_000) == "1 min ago"
    assert words.ago(66_000, 1000) == "in 1 min"


@pytest.mark.parametrize(
    ("progress", "share"),
    [("50", 0.5), ("100", 1.0), ("101", None), ("-1", None), ("nan", None), ('"x"', None)],
)
def test_progress(progress: str, share: float | None) -> None:
    """A job may say anything; a bar is drawn for per cents alone."""
    assert words.share_of_progress(progress) == share


def test_a_parent_stands_beside_the_middle_of_its_children() -> None:
    """A graph in which lines cross without need cannot be followed."""
    placed = layout([None, 0, 1, 1, 0])
    root, parent, first, second, leaf = placed.spots

    assert root.x < parent.x < first.x == second.x
    assert parent.x == leaf.x
    assert parent.y == (first.y + second.y) / 2
    assert first.y < second.y < leaf.y
    assert placed.width > first.x
    assert placed.height > leaf.y


def test_a_chain_of_any_length_is_drawn() -> None:
    """A flow may be deeper than Python's stack."""
    placed = layout([None, *range(5000)])

    assert len({spot.y for spot in placed.spots}) == 1
