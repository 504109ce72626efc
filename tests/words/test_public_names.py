"""The names that the package offers at its root."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sandboxq
from sandboxq import errors

ROOT = Path(__file__).parents[2]
IMPORTS = re.compile(r"from sandboxq import (?:\(([^)]*)\)|([^\n(]+))")


def documented_names() -> set[str]:
    """Return what the pages import from the root."""
    names: set[str] = set()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for inside, line in IMPORTS.findall(page.read_text()):
            names |= set(re.findall(r"[A-Za-z_]\w*", re.sub(r"#.*", "", inside or line)))
    return names


@pytest.mark.parametrize("name", sandboxq.__all__)
def test_every_public_name_exists(name: str) -> None:
    """A name is loaded on first use: a wrong home would show to users only."""
    assert getattr(sandboxq, name) is not None


def test_what_the_pages_import_exists() -> None:
    """Nobody must copy an example that fails on its first line."""
    assert documented_names()
    assert documented_names() <= set(sandboxq.__all__)


def test_every_error_is_public() -> None:
    """Whoever catches an error must be able to name it."""
    of_users = {name for name, each in vars(errors).items() if isinstance(each, type)}
    named = {name for name in of_users if issubclass(getattr(errors, name), Exception)}
    assert named <= set(sandboxq.__all__)
