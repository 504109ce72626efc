"""Which backends of sandboxq a project's ``TASKS`` has."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.apps import apps

from sandboxq.integrations.django.backend import QueueBackend
from sandboxq.integrations.django.packages import BACKPORT, BUILT_IN, package_of_tasks


def backends_of_project() -> list[Any]:
    """Return them, one for each alias."""
    try:
        handler = import_module(_package()).task_backends
    except ImportError:
        return []  # no tasks, only processors of its own
    return [backend for backend in handler.all() if isinstance(backend, QueueBackend)]


def _package() -> str:
    if find_spec(BUILT_IN) is not None and not apps.is_installed(BACKPORT):
        return BUILT_IN
    return BACKPORT if find_spec(BACKPORT) is not None else package_of_tasks()
