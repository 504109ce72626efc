"""Who may see the page: closed by default, by every route there is."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import UsageError
from sandboxq.web import dashboard
from tests.web.conftest import HERE, OWN, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AWAY = ("203.0.113.9", 40_000)
PROXY = ("10.1.2.3", 40_000)
SECRET = "correct horse"  # noqa: S105 - of the tests


def routes(client: Client) -> list[tuple[str, str]]:
    """Return each route of the application: method, and a path with names put in."""
    found = []
    for route in client.app.routes.routes:
        path = re.sub(r"\{\w+(:\w+)?\}", "x", getattr(route, "path", ""))
        path = f"{path}/app.css" if path == "/static" else path
        methods = sorted(getattr(route, "methods", None) or {"GET"})
        found += [(method, path) for method in methods if method != "HEAD"]
    assert len(found) > 30
    return found


@pytest.fixture
def clients(server_url: str, queue_name: str) -> Iterator[Callable[..., Client]]:
    """Return what makes clients of pages with other settings."""
    made: list[Client] = []

    def make(**options: Any) -> Client:
        made.append(Client(server_url, prefix=f"p{queue_name}", **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of a login."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


# ── by default this machine alone ───────────────────────────────────────────


def test_nobody_else_sees_any_route(client: Client) -> None:
    """Another host, a name that points here, a proxy of this machine: none is answered."""
    for method, path in routes(client):
        cases: list[tuple[tuple[str, int], dict[str, str]]] = [
            (AWAY, {}),
            (("127.0.0.1", 1), {"Host": "evil.example"}),
            (("127.0.0.1", 1), {"Host": "127.0.0.1.evil.example:8800"}),
            (("127.0.0.1", 1), {"Host": "evil.example@127.0.0.1"}),
            (("127.0.0.1", 1), {"X-Forwarded-For": "127.0.0.1"}),
            (("127.0.0.1", 1), {"Forwarded": "for=127.0.0.1"}),
        ]
        for address, headers in cases:
            answer = client.ask_from(address, method, path, headers=OWN | headers)
            assert answer.status_code == 403, (method, path, address, headers)
            assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8800", "[::1]:8800", "127.8.8.8"])
def test_this_machine_is_answered(client: Client, host: str) -> None:
    """By any of its own names."""
    assert client.get("/", headers={"Host": host}).status_code == 200


# ── credentials ─────────────────────────────────────────────────────────────


def test_with_credentials_each_route_asks_for_them(clients: Callable[..., Client]) -> None:
    """From this machine too."""
    client = clients(user="me", password=SECRET, token="t" * 20)
    wrong: list[dict[str, str]] = [
        {},
        basic("me", "wrong horse"),
        basic("", SECRET),
        basic("me", ""),
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {'t' * 19}"},
        {"Authorization": "Basic ///"},
        {"Authorization": "Basic w6TDtsO8"},
        {"X-Forwarded-User": "me"},
    ]
    for method, path in routes(client):
        for headers in wrong:
            answer = client.ask(method, path, headers=OWN | headers)
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
    for headers in (basic("me", SECRET), {"Authorization": f"Bearer {'t' * 20}"}):
        assert client.ask_from(AWAY, "GET", "/", headers=headers).status_code == 200


def test_credentials_come_from_the_environment(
    clients: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that they stand in no list of processes."""
    monkeypatch.setenv("SANDBOXQ_WEB_USER", "me")
    monkeypatch.setenv("SANDBOXQ_WEB_PASSWORD", SECRET)
    client = clients()
    assert client.get("/").status_code == 401
    assert client.get("/", headers=basic("me", SECRET)).status_code == 200


def test_authorize_decides_alone(clients: Callable[..., Client]) -> None:
    """What it returns that is no role, and what it raises, lets nobody in."""
    answers: dict[str, Any] = {"r": "read", "o": ("operate", "ann"), "n": "none", "x": "root"}

    async def authorize(request: Any) -> Any:
        return answers[request.headers["x-role"]]

    client = clients(authorize=authorize, user="me", password=SECRET)

    def code(method: str, path: str, role: str, **headers: str) -> int:
        return client.ask_from(
            AWAY, method, path, headers=OWN | headers | {"X-Role": role}
        ).status_code

    assert [code("GET", "/", role) for role in "ronx?"] == [200, 200, 403, 403, 403]
    assert client.get("/", headers=basic("me", SECRET)).status_code == 403
    client.add("q", ("x", {}))
    assert code("POST", "/api/v1/queues/q/pause", "r") == 403
    assert code("POST", "/api/v1/queues/q/pause", "o") == 200
    entries = client.ask_from(AWAY, "GET", "/api/v1/audit", headers={"X-Role": "r"}).json()
    assert [row["who"] for row in entries["entries"]] == ["ann"]


def test_who_comes_through_a_listed_proxy(clients: Callable[..., Client]) -> None:
    """Its header names the user; anybody else's names nobody."""
    client = clients(trusted_proxies=["10.0.0.0/8"], user_header="X-Forwarded-User")
    headers = {"X-Forwarded-User": "ann", "X-Forwarded-Prefix": "/tools/queues"}
    answer = client.ask_from(PROXY, "GET", "/", headers=headers)
    assert answer.status_code == 200
    assert 'href="/tools/queues/' in answer.text
    assert client.ask_from(AWAY, "GET", "/", headers=headers).status_code == 401
    assert client.ask_from(PROXY, "GET", "/", headers={}).status_code == 401
    twice = [("X-Forwarded-User", "stranger"), ("X-Forwarded-User", "ann")]
    assert client.ask_from(PROXY, "GET", "/", headers=twice).status_code == 401
    for prefix in ("//evil.example", "/a/../b", "/<x>", "javascript:x", "/a?b", "/" + "a" * 500):
        bad = headers | {"X-Forwarded-Prefix": prefix}
        answer = client.ask_from(PROXY, "GET", "/", headers=bad)
        assert answer.status_code == 200
        assert prefix not in answer.text


@pytest.mark.parametrize(
    "options",
    [
        {"user": "me"},
        {"password": SECRET},
        {"user": "me", "password": "short"},
        {"user": "m:e", "password": SECRET},
        {"token": "short"},
        {"user_header": "X-User"},
        {"trusted_proxies": ["nonsense"]},
        {"user_header": "X User", "trusted_proxies": ["10.0.0.1"]},
        {"authorize": "me"},
        {"prefix": "a b"},
        {"queues": ["a:b"]},
        {"nonsense": 1},
    ],
)
def test_settings_that_cannot_be_right(options: dict[str, Any]) -> None:
    """They are refused when the page is made, and no secret is in the error."""
    with pytest.raises(UsageError) as error:
        dashboard(**options)
    assert SECRET not in str(error.value)


# ── changes ─────────────────────────────────────────────────────────────────


def test_no_route_changes_anything_read_only(clients: Callable[..., Client]) -> None:
    """Of all that is there now and will be."""
    client = clients(read_only=True)
    posts = [path for method, path in routes(client) if method == "POST"]
    assert len(posts) > 20
    for path in posts:
        bodies: list[dict[str, Any]] = [{"json": {}}, {"data": {"x": "1"}}]
        for extra in bodies:
            answer = client.ask("POST", path, headers=OWN, **extra)
            assert answer.status_code == 403, path


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8801"},
        {"Origin": "http://127.0.0.1:8800.evil.example"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
        [("Origin", HERE), ("Origin", "https://evil.example")],
    ],
)
def test_no_route_heeds_another_site(client: Client, headers: Any) -> None:
    """A page of another site sends a form, or a script of it a request."""
    for method, path in routes(client):
        if method == "POST":
            answer = client.ask("POST", path, content=b"{}", headers=headers)
            assert answer.status_code == 403, path


def test_the_page_and_programs_may(client: Client, queue_name: str) -> None:
    """By what browsers say of the page itself; a program says nothing of it."""
    client.add(queue_name, ("x", {}))
    path = f"/api/v1/queues/{queue_name}/pause"
    for headers in (OWN, {"Origin": "http://127.0.0.1:8800"}, {}):
        assert client.ask("POST", path, json={}, headers=headers).status_code == 200


def test_other_methods_are_refused(client: Client) -> None:
    """There are GET, HEAD and POST."""
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        for _, path in routes(client):
            assert client.ask(method, path, headers=OWN).status_code == 405


# ── what every answer carries ───────────────────────────────────────────────


def test_each_answer_has_the_headers(client: Client) -> None:
    """No inline script or style, no frame, nothing sniffed, nothing kept."""
    for method, path in [*routes(client), ("GET", "/nowhere"), ("GET", "/api/nowhere")]:
        if path.startswith("/live") or "/live" in path:
            continue  # a stream; its headers are looked at where it is tested
        answer = client.ask(method, path, headers=OWN)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy, path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in answer.headers
        if not path.startswith("/static"):
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_large_body_is_refused(client: Client, queue_name: str) -> None:
    """Whether it says its length or not."""
    client.add(queue_name, ("x", {}))
    path = f"/api/v1/queues/{queue_name}/jobs"
    body = b'{"name": "x", "data": "' + b"x" * (9 << 20) + b'"}'
    assert client.post(path, content=body).status_code == 413

    async def parts() -> Any:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    assert client.post(path, content=parts()).status_code == 413
    assert client.get(f"/{'x' * 9000}").status_code == 414
