"""Hostile input by every route: what jobs carry, what addresses and bodies say."""

from __future__ import annotations

import json
import random
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

import pytest

from sandboxq.broker.connect.broker import Broker
from sandboxq.web.answers import url_of
from tests.web.conftest import OWN
from tests.web.test_access import routes

if TYPE_CHECKING:
    from tests.web.conftest import Client

EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>{{7*7}}</textarea>"


class _Elements(HTMLParser):
    """Collects what a browser would run or load."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.bad: list[str] = []
        self._is_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.bad += [name for name in given if name.startswith("on")]
        self.bad += ["style"] if tag == "style" or "style" in given else []
        self.bad += ["img"] if tag == "img" and given.get("src") == "x" else []
        self.bad += ["script"] if tag == "script" and "src" not in given else []
        links = [given.get(name) or "" for name in ("href", "src", "action", "formaction")]
        self.bad += [link for link in links if link.lower().startswith(("javascript:", "data:"))]
        self.bad += [link for link in links if link.startswith(("http:", "https:", "//"))]


def inert(text: str) -> None:
    """Assert that a page runs and loads nothing that is not its own."""
    found = _Elements()
    found.feed(text)
    assert found.bad == []


@pytest.fixture
def evil(client: Client) -> str:
    """Fill a queue of an evil name with evil jobs, in every state; return its name."""
    name = f"a/b?c#d%2F {EVIL}".replace(":", "")

    async def main() -> None:
        async with client.queue(name) as queue:
            jobs = [await queue.add(EVIL, {EVIL: [EVIL, {"x": EVIL}]}) for _ in range(4)]
            await queue.add(EVIL, {}, delay=600)
            await queue.add(EVIL, {}, priority=4)
            await queue.upsert_scheduler(EVIL.replace(":", ""), _every(), name=EVIL, data=EVIL)
            for job in jobs:
                await queue.add_job_log(job.id, EVIL)
                await queue.update_job_progress(job.id, {"step": EVIL})
        broker = await Broker.connect(client.url)
        base = queue.keys.base
        for number, state in enumerate(("failed", "completed")):
            job_id = jobs[number].id
            fields = {"failedReason": EVIL, "finishedOn": "1700000000000", "pb": EVIL}
            fields |= {"returnvalue": json.dumps(EVIL), "stacktrace": json.dumps([EVIL])}
            fields |= {"sq:cause": "JobCrashed", "sq:signal": EVIL, "sq:crashes": "1"}
            await broker.command("LREM", f"{base}wait", 0, job_id)
            await broker.command(
                "HSET", f"{base}{job_id}", *[x for it in fields.items() for x in it]
            )
            await broker.command("ZADD", f"{base}{state}", 1, job_id)
        await broker.close()

    client.run(main())
    return name


def _every() -> Any:
    from sandboxq.queue.schedulers import Repeat

    return Repeat(every=3600)


def pages(client: Client, queue: str, job_id: str) -> list[str]:
    """Return the addresses of all pages, with these names put in, and of their searches."""
    found = []
    for method, path in _templates(client):
        if method == "GET" and "/live" not in path:
            named = path.replace("{queue}", quote(queue, safe=""))
            found.append(named.replace("{job_id}", quote(job_id, safe="")))
    query = quote(EVIL)
    states = ("failed", "completed", "delayed", "prioritized", "waiting", "active")
    found += [f"/queues/{quote(queue, safe='')}?state={state}" for state in states]
    found += [f"/search?q={query}", f"/queues/{quote(queue, safe='')}?search={query}", f"/{query}"]
    return [path for path in found if "{" not in path or path == f"/{query}"]


def _templates(client: Client) -> list[tuple[str, str]]:
    return [
        (method, route.path.replace(":sandboxq}", "}"))
        for route in client.app.routes.routes
        for method in getattr(route, "methods", None) or ()
        if hasattr(route, "path")
    ]


def test_no_page_runs_what_a_job_says(client: Client, evil: str) -> None:
    """Names, data, results, logs, errors, queue names, searches, addresses."""
    seen = 0
    for number in ("1", "2", "3", "5"):
        for path in pages(client, evil, number):
            answer = client.get(path)
            assert answer.status_code in {200, 303, 307, 400, 404, 409}, (path, answer.text[:500])
            if answer.headers["content-type"].startswith("text/html"):
                inert(answer.text)
                assert "49" not in answer.text or "{{7*7}}" in answer.text
                seen += 1
    assert seen > 10


def test_a_queue_of_any_name_can_be_reached(client: Client, evil: str) -> None:
    """Slashes, question marks, percent signs: by the address that the page itself gives."""
    name = quote(evil, safe="")
    assert client.read(f"/queues/{name}")["queue"]["name"] == evil
    assert client.read(f"/queues/{name}/jobs/1")["job"]["name"] == EVIL
    assert f"/queues/{name}" in client.get("/").text


@pytest.mark.parametrize("name", [".", "..", "~..", "~~.", "~x", "..."])
def test_actions_on_names_of_dots_stay_with_them(client: Client, name: str) -> None:
    """A browser leaves dots out of addresses: "retry this job" must not be "retry this queue"."""

    async def main() -> None:
        async with client.queue("dots") as queue:
            await queue.add("it", {}, job_id=name)

    client.run(main())
    link = url_of("", "queues", "dots", "jobs", name)
    assert f'href="{link}"' in client.get("/queues/dots?state=waiting").text
    assert urlsplit(urljoin("http://x/", link)).path == link
    action = f"/api/v1{link}/priority"
    assert f'action="{action}"' in client.get(link).text
    assert client.post(action, json={"priority": 3}).status_code == 200
    assert client.read(link)["job"]["id"] == name
    assert client.read(link)["job"]["priority"] == 3


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/%2e%2e%2fapp.py",
        "/static//etc/passwd",
        "/static/..%5capp.py",
        "/static/%00",
        "/static/x%00.css",
        "/queues/../../etc/passwd",
        "/queues/%2e%2e%2f%2e%2e/jobs/..%2f",
        "/api/v1/queues/x/jobs/1/..%2f..%2fdata",
        "/api/v1/../../etc/passwd",
    ],
)
def test_no_path_leads_out(client: Client, path: str) -> None:
    """To files, or to anything at all."""
    answer = client.get(path)
    assert answer.status_code in {400, 404}, answer.text
    assert "import" not in answer.text


_WORDS = (
    *("", "x", "0", "-1", "1e999", "nan", "9" * 30, "null", "true", "[]", "{}", "\x00", "\ud800"),
    *(
        "é" * 50,
        "a" * 3000,
        "*",
        "(",
        "[",
        "%",
        "%zz",
        "..",
        "/",
        ":",
        "a:b",
        '"',
        "data.",
        "data.a.b:",
    ),
    *(
        "state:x",
        "state:failed",
        "+inf",
        "-inf",
        "$",
        "waiting",
        "failed",
        "1-1",
        "\r\nSet-Cookie: a",
    ),
)
_NAMES = (
    "state",
    "start",
    "count",
    "search",
    "q",
    "queue",
    "within",
    "before",
    "depth",
    "children",
)
_BODIES = (
    "name",
    "data",
    "ids",
    "search",
    "state",
    "delay",
    "priority",
    "cron",
    "every",
    "id",
    "tz",
)


def test_a_thousand_random_requests_are_no_500(client: Client, evil: str) -> None:
    """An error of ours is raised here, and a 500 is one."""
    chance = random.Random(14)
    templates = [it for it in _templates(client) if it[0] != "HEAD" and "/live" not in it[1]]

    def word() -> str:
        return chance.choice([*_WORDS, evil, "1", "2"]).encode(errors="replace").decode()

    for _ in range(1000):
        method, path = chance.choice(templates)
        for part in ("{queue}", "{job_id}", "{group}", "{scheduler_id}", "{rest:path}", "{field}"):
            value = evil if part == "{queue}" and chance.random() < 0.6 else word()
            path = path.replace(part, quote(value, safe="") or "x")
        extra: dict[str, Any] = {}
        if method == "GET":
            extra["params"] = {chance.choice(_NAMES): word() for _ in range(chance.randrange(3))}
        elif chance.random() < 0.8:
            values = [word(), chance.choice([None, 1, -1, 1e300, True, [], {}, ["1"], {"a": 1}])]
            body = {chance.choice(_BODIES): chance.choice(values) for _ in range(4)}
            extra["json" if path.startswith("/api") else "data"] = body
        else:
            extra["content"] = chance.choice([b"[", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 5000])
        headers = OWN if chance.random() < 0.9 else {}
        answer = client.ask(method, path, headers=headers, **extra)
        assert answer.status_code < 500, (method, path, extra, answer.text)


def test_fields_of_other_kinds_harm_no_page(client: Client, queue_name: str) -> None:
    """Digits that are no numbers, a failure without a reason, megabytes where words should be."""
    odd = dict.fromkeys(("atm", "ats", "stc", "priority", "delay", "timestamp", "finishedOn"), "²")
    odd |= {f"sq:{name}": "²" for name in ("limit", "peak", "crashes", "cpu_seconds", "usage")}
    large = {"name": "n" * 3_000_000, "failedReason": "r" * 3_000_000}
    client.add(queue_name, ("x", {}))

    async def main() -> None:
        broker = await Broker.connect(client.url)
        base = client.queue(queue_name).keys.base
        for job_id, fields in {"odd": odd | {"sq:cause": "JobCrashed"}, "large": large}.items():
            texts = [text for field in fields.items() for text in field]
            await broker.command("HSET", base + job_id, "name", "n", "data", "1", *texts)
            await broker.command("ZADD", f"{base}failed", 1, job_id)
        await broker.command("RPUSH", f"{base}large:logs", *["l" * 2_000_000] * 3)
        await broker.close()

    client.run(main())
    for path in ("/jobs/odd", "/jobs/large", "/jobs/large/live", ""):
        for root in (f"/queues/{queue_name}", f"/api/v1/queues/{queue_name}"):
            answer = client.get(root + path)
            assert answer.status_code in {200, 404}, (root + path, answer.text)
            assert len(answer.content) < 300_000, root + path
    for path in ("/failures", "/deaths", "/api/v1/failures", "/api/v1/deaths"):
        assert client.get(path).status_code == 200, path
    assert client.get(f"/api/v1/queues/{queue_name}/jobs/odd/returnvalue").status_code == 404


def test_keys_of_other_types_are_said(client: Client, queue_name: str) -> None:
    """Somebody wrote them; the page says so and shows the other queues."""
    client.add(queue_name, ("x", {}))
    base = client.queue("spoilt").keys.base

    async def main() -> None:
        broker = await Broker.connect(client.url)
        await broker.command("HSET", f"{base}meta", "version", "x")
        for suffix in ("wait", "active", "failed", "completed", "delayed", "repeat", "1", "1:logs"):
            await broker.command("SET", base + suffix, "x")

        swapped = {
            "LPUSH": ("failed", "completed", "delayed", "repeat"),
            "SADD": ("wait", "active"),
        }
        await broker.command("HSET", client.queue("swapped").keys["meta"], "version", "x")
        for command, suffixes in swapped.items():
            for suffix in suffixes:
                await broker.command(command, client.queue("swapped").keys[suffix], "1")
        await broker.close()

    client.run(main())
    names = {row["name"] for row in client.read("/overview")["queues"]}
    assert names == {queue_name, "spoilt", "swapped"}
    for path in ("", "/jobs", "/jobs?state=failed", "/jobs/1", "/jobs/1/logs", "/jobs?search=x"):
        assert client.get(f"/api/v1/queues/spoilt{path}").status_code in {200, 404, 409}
    for path in ("/failures", "/deaths", "/latency", "/schedulers", "/doctor", "/search?q=name:x"):
        assert client.get(f"/api/v1{path}").status_code == 200, path
    assert len(client.read("/search?q=name:x")["jobs"]) == 1
    assert routes(client)
