"""The page of the queues in a Django project, for staff: ``path("queues/", include(page_urls()))``.

Django knows who asks. Live streams need the page beside the project, see
docs/how-to/dashboard-access.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt

from sandboxq.web import wsgi_dashboard

if TYPE_CHECKING:
    from django.urls import URLPattern

    from sandboxq.web.settings import DashboardOptions

_VISITOR = "sandboxq.django"


def page_urls(url: str | None = None, **options: Unpack[DashboardOptions]) -> list[URLPattern]:
    """Return the URLs of the page; options: those of ``sandboxq.web.dashboard``.

    ``authorize`` is called with Django's request, in its thread; left out, superusers may change
    things, and staff with the permission ``sandboxq.view_queue`` may look.
    Raises: UsageError, SandboxqError.
    """
    authorize = options.get("authorize", role_of_user)
    options["authorize"] = _told_by_django
    page = wsgi_dashboard(url, **options)

    # The page looks by itself where a request comes from, and Django's token is not in its forms.
    @csrf_exempt
    def view(request: HttpRequest, rest: str) -> HttpResponse:
        found = page.answer(_environ(request, rest), **{_VISITOR: authorize(request)})
        response = HttpResponse(found.body, status=found.status)
        for name, value in found.headers:
            response[name] = value
        return response

    return [re_path(r"^(?P<rest>.*)$", view, name="sandboxq-page")]


def _told_by_django(request: Any) -> Any:
    return request.scope[_VISITOR]


def role_of_user(request: HttpRequest) -> tuple[str, str]:
    """Return what Django's user may do, and the name."""
    user: Any = request.user
    name = user.get_username()
    if user.is_active and user.is_superuser:
        return "operate", name
    may_look = user.is_active and user.is_staff and user.has_perm("sandboxq.view_queue")
    return ("read" if may_look else "none"), name


def _environ(request: HttpRequest, rest: str) -> dict[str, Any]:
    """Return the environ with the part of the path before the page as SCRIPT_NAME."""
    path = request.path
    root = path.removesuffix(rest).rstrip("/")
    environ = {**request.META, "SCRIPT_NAME": _latin(root), "PATH_INFO": _latin(path[len(root) :])}
    environ["CONTENT_LENGTH"] = str(len(request.body))
    environ["wsgi.input"] = request
    environ.setdefault("SERVER_PROTOCOL", "HTTP/1.1")
    environ.setdefault("REQUEST_METHOD", request.method)
    environ.setdefault("wsgi.url_scheme", request.scheme)
    return environ


def _latin(text: str) -> str:
    """Return a part of a path as servers write it into an environ."""
    return text.encode(errors="replace").decode("latin-1")
