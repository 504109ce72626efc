"""What is read again only when it can have changed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from sandboxq.child import seen
from sandboxq.child.patches import names_there
from sandboxq.child.seen import Seen, changes_of


def _reader(names: dict[str, Any]) -> tuple[Seen, list[int]]:
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(names)

    return Seen(read, changes_of(names)), reads


@pytest.mark.parametrize(
    "change",
    [
        lambda names: names.update(a=2),
        lambda names: names.update(b=1),
        lambda names: names.pop("a"),
        lambda names: names.clear(),
        lambda names: names.popitem(),
        lambda names: exec("a = 3", names),  # noqa: S102 - as a module's code does
    ],
)
def test_every_change_of_a_dictionary_is_seen(change: Any) -> None:
    """A job must not get by with a change that is not looked at."""
    names = {"a": 1}
    read, _ = _reader(names)
    read()

    change(names)

    assert read() == len(names)


def test_a_module_whose_name_is_set_is_read_again() -> None:
    """Code sets a module's names by its attributes."""
    module = type(sys)("somewhere")
    read, reads = _reader(vars(module))
    read()
    before = len(reads)

    module.sleep = None  # type: ignore[attr-defined]  # as a job patches it

    read()
    assert len(reads) == before + 1


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="changes are not numbered any more")
def test_what_has_not_changed_is_not_touched() -> None:
    """Each object that is looked at is a page of memory of each child."""
    read, reads = _reader({"a": 1})

    assert [read() for _ in range(5)] == [1] * 5
    assert len(reads) == 1
    assert seen._ARE_NUMBERED


def test_names_of_a_module_that_is_imported_later_are_looked_at() -> None:
    """What setup() imports is there before the first job."""
    names_there()
    stored = sys.modules.pop("urllib.request", None)
    try:
        without = names_there().read()
        sys.modules["urllib.request"] = stored or __import__("urllib.request").request

        assert len(names_there().read()) == len(without) + 1
    finally:
        if stored is not None:
            sys.modules["urllib.request"] = stored
