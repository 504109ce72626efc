"""`run --webhook`: posted to a real HTTP server of the standard library."""

from __future__ import annotations

import json
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue, UsageError
from sandboxq.cli.webhook import Webhook
from sandboxq.observe.telemetry import WorkerFailed
from tests.conftest import wait_until
from tests.http_receiver import served
from tests.lifecycle.test_run import RunningWorker, start, workers  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)


REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"


class Receiver(ThreadingHTTPServer):
    """Answers ``first`` to the first POST, and keeps the events of those after it."""

    def __init__(self, first: bytes = REFUSAL) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.first = first
        self.posts = 0
        self.events: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Take one."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts += 1
        is_first = self.server.posts == 1
        if is_first:
            self.wfile.write(self.server.first)
            return
        self.server.events += json.loads(body)["events"]
        self.do_GET()

    def do_GET(self) -> None:
        """Answer that all is well."""
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    server = Receiver()
    with served(server):
        yield server


def test_final_failures_are_posted(
    server_url: str,
    queue_name: str,
    receiver: Receiver,
    workers: list[RunningWorker],  # noqa: F811 - the fixture
) -> None:
    """Each once, with the fields of its line; what is refused is sent again."""
    url = f"http://127.0.0.1:{receiver.server_port}/secret"
    worker = start(workers, server_url, queue_name, "--procs", "1", "--webhook", url)
    with Queue.sync(queue_name, server_url) as queue:
        job = queue.add("bad", {"do": "fail", "message": "no"}, attempts=2)
        wait_until(lambda: receiver.events)
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    (event,) = receiver.events
    names = ("event", "queue", "job_id", "attempt", "cause", "reason", "next_step")
    assert [event[name] for name in names] == [
        "attempt-failed", queue_name, job.id, 2, "ValueError", "no", "for good",
    ]  # fmt: skip
    assert "secret" not in worker.text


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_odd_answer_is_no_answer(first: bytes) -> None:
    """Events are posted again; a redirect is not followed, by a GET that leaves them out."""
    with served(receiver := Receiver(first)):
        webhook = Webhook(f"http://127.0.0.1:{receiver.server_port}/")
        webhook.teller("images")(WorkerFailed("no"))
        wait_until(lambda: receiver.events)
        webhook.close()
    assert [event["message"] for event in receiver.events] == ["no"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://host/", "http or https"),
        ("http://", "http or https"),
        ("http://host/a b", "http or https"),
        ("http://[::1", "Invalid IPv6"),
        ("http://host:99999/", "out of range"),
        ("http://host:port/", "no URL"),
        ("http://a..b/", "idna"),
        ("http://user:hidden@host/", "no user or password"),
    ],
)
def test_what_cannot_be_posted_to(url: str, why: str) -> None:
    """Said before anything is started, and without the password."""
    with pytest.raises(UsageError, match=why) as refused:
        Webhook(url)
    assert "hidden" not in str(refused.value)
