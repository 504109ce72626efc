"""Reads again only what can have changed: to look at an object copies its page in each child.

CPython, up to 3.13, numbers each change of a dictionary (PEP 509). Where it does not, all is read.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Mark = Callable[[], object]

# In a dictionary: behind what every object begins with, and behind how many entries it has.
_VERSION_AT = object.__basicsize__ + ctypes.sizeof(ctypes.c_ssize_t)
_NEVER = object()


class Seen:
    """Returns what ``read`` has returned, as long as ``mark`` returns the same."""

    __slots__ = ("_at", "_mark", "_read", "_value")

    def __init__(self, read: Callable[[], Any], mark: Mark) -> None:
        """Read nothing yet."""
        self._read, self._mark = read, mark
        self._at: object = _NEVER
        self._value: Any = None

    def __call__(self) -> Any:
        """Return what is there."""
        at = self._mark()
        if at != self._at:
            self._at, self._value = at, self._read()
        return self._value


class SeenList:
    """Returns a copy of a list, the same one as long as the list has the same in it."""

    __slots__ = ("_copy", "_find")

    def __init__(self, find: Callable[[], list[Any]]) -> None:
        """Copy nothing yet; ``find`` returns the list."""
        self._find = find
        self._copy: list[Any] = []

    def __call__(self) -> list[Any]:
        """Return what is in it: what is in both is compared by its address, and not touched."""
        now = self._find()
        if now != self._copy:
            self._copy = list(now)
        return self._copy


def changes_of(names: dict[Any, Any]) -> Mark:
    """Return a mark of a dictionary: the number of its last change, or always something new."""
    return _number_of(names) if _ARE_NUMBERED else object


def _number_of(names: dict[Any, Any]) -> Mark:
    """Return what reads the number, without a word to the object; the dictionary must live on."""
    return memoryview(ctypes.c_uint64.from_address(id(names) + _VERSION_AT)).tobytes


def _are_numbered() -> bool:
    """Find out whether this Python numbers each kind of change."""
    names = dict.fromkeys("ab")
    number = _number_of(names)
    found = [number()]
    changes: tuple[Callable[[], object], ...] = (
        lambda: names.update(a=1),
        lambda: names.update(c=1),
        lambda: names.pop("b"),
        lambda: names.__setitem__("a", 2),
        names.clear,
    )
    for change in changes:
        change()
        found.append(number())
    return len(found) == len(set(found))


_ARE_NUMBERED = _are_numbered()
