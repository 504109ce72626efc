"""What the shop stores."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Sale(models.Model):
    """One sale."""

    product: models.CharField[str, str] = models.CharField(max_length=100)
    cents: models.IntegerField[int, int] = models.IntegerField()

    def __str__(self) -> str:
        """Name it."""
        return self.product


class Report(models.Model):
    """The sum of all sales of a product, and the task that reckons it."""

    product: models.CharField[str, str] = models.CharField(max_length=100)
    cents: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    task_id: models.CharField[str, str] = models.CharField(max_length=100, default="")

    class Meta:
        """Newest first."""

        ordering: ClassVar[list[str]] = ["-id"]

    def __str__(self) -> str:
        """Name it."""
        return f"report on {self.product}"
