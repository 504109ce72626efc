"""Django: a backend for its tasks, ``manage.py sandboxq``, and the queues in the admin.

    INSTALLED_APPS = [..., "sandboxq.integrations.django"]
    TASKS = {"default": {"BACKEND": "sandboxq.integrations.django.Backend", "QUEUES": ["default"]}}

``Backend`` is one of ``django.tasks`` (Django 6), or of the package django-tasks where Django has
no tasks of its own; ``BackportBackend`` is always one of that package.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Backend", "BackportBackend"]


def __getattr__(name: str) -> Any:
    """Make the backend class that is asked for. Raises: ImportError without its package."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from sandboxq.integrations.django.backend import new_backend  # noqa: PLC0415 - needs Django's settings
    from sandboxq.integrations.django.results import BACKPORT, package_of_tasks  # noqa: PLC0415 - the same

    package = BACKPORT if name == "BackportBackend" else package_of_tasks()
    return globals().setdefault(name, new_backend(name, package))
