"""Rulesets made ahead: each is for one child, and for the files as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.sandbox.mechanisms import landlock
from sandboxq.sandbox.mechanisms import landlock as grants
from sandboxq.sandbox.mechanisms.landlock import RulesetAhead

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")

_OPTIONS = {"network": False, "subprocess": False}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a file that lies in a folder on the path."""
    path = tmp_path / "helper.py"
    path.write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    grants.readable_by_default.cache_clear()
    yield path
    grants.readable_by_default.cache_clear()


def test_no_ruleset_is_given_twice() -> None:
    """What one child may write, the next may not: they must not share one."""
    ahead = RulesetAhead()
    ahead.prepare(_OPTIONS)
    first = ahead.take(_OPTIONS)
    second = ahead.take(_OPTIONS)
    assert first != second
    os.close(first)
    os.close(second)


def test_what_a_child_has_is_dropped() -> None:
    """After a fork the server keeps no descriptor of the child's ruleset."""
    before = _descriptors()
    ahead = RulesetAhead()
    ahead.prepare(_OPTIONS)
    assert len(_descriptors() - before) == 1
    ahead.drop()
    ahead.drop()
    assert _descriptors() == before


def test_a_source_that_was_replaced(source: Path) -> None:
    """A new version of a file has a new inode: the next child may read it too."""
    ahead = RulesetAhead()
    ahead.prepare(_OPTIONS)
    kept = ahead._seen
    ahead.prepare(_OPTIONS)
    assert ahead._seen is kept
    new = source.with_name("new")
    new.write_text("")
    new.rename(source)
    ahead.prepare(_OPTIONS)
    assert ahead._seen != kept
    ahead.drop()


def test_other_options() -> None:
    """A ruleset that leaves TCP alone is not for a child without network."""
    ahead = RulesetAhead()
    ahead.prepare({**_OPTIONS, "network": True})
    os.close(ahead.take(_OPTIONS))
    assert ahead._ruleset < 0


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}
