"""Run in a process of its own: the page under a Django project's own login.

python tests/web/sites/django_site.py URL PREFIX FOLDER
"""

from __future__ import annotations

import sys
from urllib.parse import quote

import django
from django.conf import settings
from django.urls import include, path

URL, PREFIX, FOLDER = sys.argv[1:]
NAME = "a/b"
urlpatterns = []

settings.configure(
    SECRET_KEY="of a test",  # noqa: S106 - of a test
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/site.sqlite3"}
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - after setup()
from django.core.management import call_command  # noqa: E402 - the same
from django.test import Client  # noqa: E402 - the same

from sandboxq.integrations.django.page import page_urls  # noqa: E402 - the same
from sandboxq.queue.queue import Queue  # noqa: E402 - the same

urlpatterns += [
    path("tools/queues/", include(page_urls(URL, prefix=PREFIX, queues=[NAME, "plain"])))
]


def main() -> None:
    """Ask as nobody, as staff, and as a superuser."""
    call_command("migrate", verbosity=0)
    with Queue.sync(NAME, URL, prefix=PREFIX) as queue:
        queue.add("x", {"password": "hunter22"})
    client = Client()
    assert client.get("/tools/queues/").status_code == 403
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get("/tools/queues/").status_code == 403
    client.force_login(User.objects.create_superuser("ann"))
    page = client.get("/tools/queues/")
    assert page.status_code == 200, page.content
    assert f'href="/tools/queues/queues/{quote(NAME, safe="")}'.encode() in page.content
    assert "default-src 'self'" in page["Content-Security-Policy"]
    overview = client.get("/tools/queues/api/v1/overview").json()
    assert [row["name"] for row in overview["queues"]] == [NAME]
    with Queue.sync("plain", URL, prefix=PREFIX) as queue:
        queue.add("x", {})
    path = "/tools/queues/api/v1/queues/plain/pause"
    kind = "application/json"
    refused = client.post(path, "{}", kind, headers={"Sec-Fetch-Site": "cross-site"})
    assert refused.status_code == 403
    done = client.post(path, "{}", kind, headers={"Sec-Fetch-Site": "same-origin"})
    assert done.status_code == 200, done.content
    (entry,) = client.get("/tools/queues/api/v1/audit").json()["entries"]
    assert (entry["who"], entry["action"]) == ("ann", "pause_queue")
    print("all checked with Django")  # noqa: T201 - for the test


if __name__ == "__main__":
    main()
