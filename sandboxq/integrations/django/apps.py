"""The app: its commands, its page in the admin."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from django.apps import AppConfig


class SandboxqConfig(AppConfig):
    """``"sandboxq.integrations.django"`` in INSTALLED_APPS."""

    name = "sandboxq.integrations.django"
    label = "sandboxq"
    verbose_name = "sandboxq"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have ``manage.py check`` look at TASKS: Django does once its tasks are imported."""
        from sandboxq.integrations.django.results import package_of_tasks  # noqa: PLC0415 - models are loaded

        with suppress(ImportError):  # there are no tasks to check
            import_module(f"{package_of_tasks()}.checks")
