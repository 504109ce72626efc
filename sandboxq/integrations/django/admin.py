"""The queues in the admin: how many jobs are in which state, and the way to the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse

from sandboxq.errors import QueueError
from sandboxq.integrations.django.backend import backends_of_project
from sandboxq.integrations.django.models import Queue

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Queue]
else:
    _ModelAdmin = admin.ModelAdmin  # it takes no parameters when it runs

_STATES = ("waiting", "prioritized", "delayed", "active", "completed", "failed")


@admin.register(Queue)
class QueueAdmin(_ModelAdmin):
    """One page, for who may view queues; nothing is added, changed or deleted here."""

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Say no."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Say no."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Say no."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the queues."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Queues",
            "states": _STATES,
            "rows": [_row(backend, name) for backend, name in _queues()],
            "dashboard": getattr(settings, "SANDBOXQ_DASHBOARD", ""),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "sandboxq/queues.html", context)


def _queues() -> list[tuple[Any, str]]:
    return [(backend, name) for backend in backends_of_project() for name in sorted(backend.queues)]


def _row(backend: Any, name: str) -> dict[str, Any]:
    try:
        counts = backend.queue(name).counts(_STATES)
    except QueueError as error:
        return {"backend": backend.alias, "name": name, "problem": str(error)}
    numbers = [counts[state] for state in _STATES]
    return {"backend": backend.alias, "name": name, "numbers": numbers}
