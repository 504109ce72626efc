"""The two packages that have Django's tasks: Django's own since 6.0, and the backport for 5.2."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

BUILT_IN = "django.tasks"
BACKPORT = "django_tasks"


def package_of_tasks() -> str:
    """Return the name of the package that this project has.

    Raises: ImportError when it has neither.
    """
    if find_spec(BUILT_IN) is not None:
        return BUILT_IN
    if find_spec(BACKPORT) is not None:
        return BACKPORT
    message = "Django before 6.0 has no tasks of its own: install the package django-tasks"
    raise ImportError(message)


def part(package: str, name: str) -> Any:
    """Return a module of the package, such as ``base`` or ``signals``."""
    return import_module(f"{package}.{name}")
