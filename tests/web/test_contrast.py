"""Each pair of colours that the style sheet puts on each other can be read, in both themes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STYLES = Path(__file__).parents[2] / "sandboxq/web/static/app.css"
_PAIR = re.compile(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);")
TONES = ("ok", "run", "wait", "late", "bad", "warn", "tree")
GROUNDS = ("page", "surface", "sunken", "raised", "hover")
# WCAG 2.2, level AA: text, and what shows where a control is.
TEXT, CONTROL = 4.5, 3.0

READ = [
    *((text, ground) for text in ("text", "muted", "faint", "accent") for ground in GROUNDS),
    *((tone, ground) for tone in TONES for ground in (*GROUNDS, f"{tone}-soft")),
    *((text, "accent-soft") for text in ("text", "accent", "muted", "faint")),
    ("on-accent", "accent"),
]
SEEN = [(line, ground) for line in ("line-strong", "focus", "bad-fill") for ground in GROUNDS]


def _colours(theme: str) -> dict[str, str]:
    found = _PAIR.findall(STYLES.read_text())
    return {name: light if theme == "light" else dark for name, light, dark in found}


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    """Weak colours are found by arithmetic, not by whoever cannot read them."""
    colours = _colours(theme)

    weak = {
        f"--{front} on --{ground}": round(_contrast(colours[front], colours[ground]), 2)
        for pairs, least in ((READ, TEXT), (SEEN, CONTROL))
        for front, ground in pairs
        if _contrast(colours[front], colours[ground]) < least
    }

    assert not weak


def test_colours_have_one_place() -> None:
    """A colour that is written into a rule has no second theme and is not tested."""
    rules = STYLES.read_text().split("/* ── ground")[1]

    assert not re.findall(r"#[0-9a-f]{3,8}\b", rules)
    assert "data-theme" not in rules
