"""`run --webhook`: posted to a real HTTP server of the standard library."""

from __future__ import annotations

import json
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue, UsageError
from sandboxq.cli.webhook import Webhook
from tests.conftest import wait_until
from tests.http_receiver import served
from tests.lifecycle.test_run import RunningWorker, start, workers  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)


class Receiver(ThreadingHTTPServer):
    """Refuses the first POST, answers the second with nonsense, keeps the events of the others."""

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts = 0
        self.events: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Take one."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts += 1
        if self.server.posts == 2:
            self.wfile.write(b"what no server of HTTP says\r\n\r\n")
            self.close_connection = True
            return
        is_first = self.server.posts == 1
        if not is_first:
            self.server.events += json.loads(body)["events"]
        self.send_response(503 if is_first else 204)
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
    "url", ["ftp://h/", "http://", "http://[", "http://h:port/", "http://h/a b"]
)
def test_what_is_no_url(url: str) -> None:
    """Said before anything is started."""
    with pytest.raises(UsageError, match="--webhook must be a URL"):
        Webhook(url)
