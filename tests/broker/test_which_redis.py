"""Which Redis is meant when it is spelled in another client's words, or not at all."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue, Worker
from sandboxq.broker.connect.endpoint import Endpoint
from sandboxq.broker.connect.resolve import any_endpoint_from_url, resolve_endpoint
from sandboxq.errors import JobFailed, UsageError
from tests.conftest import run_async

if TYPE_CHECKING:
    from pathlib import Path

SPELLINGS = [
    ("redis://h?family=0", "redis://h"),
    ("redis://h:1/2?family=6&db=3", "redis://h:1/2?db=3"),
    ("redis://h?connectTimeout=1500&commandTimeout=20000&maxRetriesPerRequest=null",
     "redis://h?socket_connect_timeout=1.5&socket_timeout=20"),
    ("redis://h?enableReadyCheck=false&lazyConnect=true&allowUsernameInURI=true", "redis://h"),
    ("redis://h?decode_responses=True&max_connections=9", "redis://h"),
    ("rediss://h?ssl_cert_reqs=CERT_NONE", "rediss://h?ssl_cert_reqs=none"),
    ("redis+socket:///run/r.sock", "unix:///run/r.sock"),
    ('"redis://h"', "redis://h"),
    ("'redis://:p%40ss@h/1'\n", "redis://:p%40ss@h/1"),
    ("redis://h?", "redis://h"),
]  # fmt: skip


@pytest.mark.parametrize(("spelled", "meant"), SPELLINGS)
def test_the_spellings_of_other_clients_are_taken(spelled: str, meant: str) -> None:
    """A URL that a host hands out works with ioredis, and must work here unchanged."""
    assert any_endpoint_from_url(spelled) == Endpoint(meant)


def test_a_key_prefix_is_refused_in_words() -> None:
    """Ioredis would put it before every key; no queue would be found."""
    with pytest.raises(UsageError, match="--prefix"):
        any_endpoint_from_url("redis://h?keyPrefix=app")


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_variable_is_told(
    value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A secret that was not filled in must not lead to another Redis in silence."""
    monkeypatch.setenv("SANDBOXQ_URL", value)
    monkeypatch.setenv("REDIS_URL", "redis://h")
    assert run_async(resolve_endpoint(None)) == (Endpoint("redis://h"), None)
    assert "$SANDBOXQ_URL is set, but empty" in caplog.text


def test_a_second_embedded_server_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker in the project's folder never sees what is added in a folder below it."""
    for name in ("SANDBOXQ_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.INFO, "sandboxq")
    monkeypatch.chdir(tmp_path)
    _, first = run_async(resolve_endpoint(None))
    assert first is not None
    assert f"started the embedded server in {tmp_path}/.sandboxq" in caplog.text
    assert "another" not in caplog.text
    below = tmp_path / "scripts"
    below.mkdir()
    monkeypatch.chdir(below)
    _, second = run_async(resolve_endpoint(None))
    assert second is not None
    assert f"another embedded server runs in {tmp_path}/.sandboxq" in caplog.text
    caplog.clear()
    _, third = run_async(resolve_endpoint(None))
    assert third is not None
    assert not caplog.text  # it was running: nothing is new
    for use in (first, second, third):
        use.release()


def test_add_says_which_server_it_started(tmp_path: Path) -> None:
    """It has no banner; the line goes to stderr, so that the id can be used by a script."""
    environment = {k: v for k, v in os.environ.items() if k not in ("SANDBOXQ_URL", "REDIS_URL")}
    command = [sys.executable, "-m", "sandboxq", "add", "q", "n"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    assert f"started the embedded server in {tmp_path}/.sandboxq" in done.stderr


PRODUCER = """
from sandboxq import Queue

def process(job):
    with Queue.sync("next") as queue:
        return queue.add("n", {}).id
"""


def test_a_job_without_a_url_is_told_what_to_write(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """The embedded server of its directory would be another Redis, where nobody looks."""
    (tmp_path / "producer.py").write_text(PRODUCER)

    async def main() -> str:
        async with (
            Queue(queue_name, server_url) as queue,
            Worker(queue_name, tmp_path / "producer.py", url=server_url, procs=1) as worker,
        ):
            job = await queue.add("n", {})
            await worker.run(burst=True)
            with pytest.raises(JobFailed) as caught:
                await job.result(timeout=60)
            return str(caught.value)

    reason = run_async(main())
    for way in (
        "job.queue(name).add",
        "url=",
        "--environment",
        "docs/how-to/jobs-that-add-jobs.md",
    ):
        assert way in reason
    assert not (tmp_path / ".sandboxq").exists()
