"""The app: its commands, its page in the admin."""

from __future__ import annotations

from django.apps import AppConfig


class SandboxqConfig(AppConfig):
    """``"sandboxq.integrations.django"`` in INSTALLED_APPS."""

    name = "sandboxq.integrations.django"
    label = "sandboxq"
    verbose_name = "sandboxq"
    default_auto_field = "django.db.models.BigAutoField"
