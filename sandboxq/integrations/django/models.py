"""What the admin needs to have a page and a permission: a model without a table."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Queue(models.Model):
    """A queue of a task backend; see admin.py."""

    class Meta:
        """There is nothing to store."""

        managed = False
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        app_label = "sandboxq"

    def __str__(self) -> str:
        """Say what it is."""
        return "queue"
