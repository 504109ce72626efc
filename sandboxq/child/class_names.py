"""The names of an exception's classes, whatever their metaclass makes of names."""

from __future__ import annotations

_mro_of = type.__dict__["__mro__"].__get__
_name_of = type.__dict__["__name__"].__get__


def class_name(error: BaseException) -> str:
    """Return the name of its class."""
    return str(_name_of(type(error)))


def class_names(error: BaseException) -> list[str]:
    """Return the names of its class and of those that it inherits from, nearest first."""
    return [str(_name_of(kind)) for kind in _mro_of(type(error))]
