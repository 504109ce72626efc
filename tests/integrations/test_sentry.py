"""Sentry's own SDK, sending to a receiver of envelopes: one trace from the add to the job."""

from __future__ import annotations

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import JobFailed, Queue
from tests.conftest import run_async, wait_until_async
from tests.http_receiver import served
from tests.pool.caller import processor_file
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

sentry_sdk = pytest.importorskip("sentry_sdk")
pytestmark = pytest.mark.timeout(120)

PROCESSOR = """
import os
import sentry_sdk
from sandboxq.integrations.sentry import monitored

def setup():
    sentry_sdk.init({dsn!r}, traces_sample_rate=1.0, default_integrations=False)

@monitored
def process(job):
    if job.name == "raises":
        raise ValueError("no")
    if job.name == "dies":
        os._exit(3)

def teardown():
    sentry_sdk.flush(5)
"""


class Receiver(ThreadingHTTPServer):
    """Keeps the items of all envelopes."""

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.items: list[dict[str, Any]] = []

    @property
    def dsn(self) -> str:
        """Where the SDK is to send."""
        return f"http://key@127.0.0.1:{self.server_port}/1"

    def events(self) -> dict[str, dict[str, Any]]:
        """Return errors by their message, transactions by their name."""
        found = {}
        for item in self.items:
            if "spans" in item:
                found[item["transaction"]] = item
            elif "exception" in item:
                found[item["exception"]["values"][-1]["value"]] = item
            elif "message" in item:
                found[item["message"].partition(":")[0]] = item
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        """Take one."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        lines = [json.loads(line) for line in body.splitlines() if line.startswith(b"{")]
        self.server.items += lines[1:]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver, and an SDK of this process that sends to it."""
    server = Receiver()
    with served(server):
        sentry_sdk.init(server.dsn, traces_sample_rate=1.0, default_integrations=False)
        try:
            yield server
        finally:
            sentry_sdk.get_client().close(timeout=5)
            sentry_sdk.init()


def test_one_trace_from_the_add_to_the_job(
    receiver: Receiver, server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """An error of the job is in that trace; a death is told by the worker."""
    from sandboxq.integrations.sentry import SentryTracing, report_death

    path = processor_file(tmp_path, PROCESSOR.format(dsn=receiver.dsn))

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url, tracing=SentryTracing()) as queue,
            running(
                server_url,
                queue_name,
                processor=path,
                procs=1,
                policy="none",
                on_failed=report_death,
            ),
        ):
            for name in ("raises", "dies"):
                with sentry_sdk.start_transaction(op="test", name=name):
                    job = await queue.add(name, {})
                with pytest.raises(JobFailed):
                    await job.result(timeout=30)
            await wait_until_async(lambda: _has(receiver, "JobExited"))

    run_async(main())
    events = receiver.events()
    added, done = events["raises"], events[f"{queue_name}.raises"]
    trace = added["contexts"]["trace"]["trace_id"]
    (span,) = added["spans"]
    assert (span["op"], span["trace_id"]) == ("queue.publish", trace)
    assert span["data"]["messaging.destination.name"] == queue_name
    about = done["contexts"]["trace"]
    assert (about["op"], about["trace_id"]) == ("queue.process", trace)
    assert about["parent_span_id"] == span["span_id"]
    assert about["data"]["messaging.message.retry.count"] == 0
    assert about["data"]["messaging.message.id"] == span["data"]["messaging.message.id"]
    assert events["no"]["contexts"]["trace"]["trace_id"] == trace
    assert events["no"]["contexts"]["sandboxq"]["queue"] == queue_name
    assert events["JobExited"]["tags"]["sandboxq.cause"] == "JobExited"


async def _has(receiver: Receiver, name: str) -> bool:
    return name in receiver.events()
