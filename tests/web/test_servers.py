"""The page on a cluster, behind Sentinels, and while Redis is away."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from sandboxq.cli.web import _checked_base
from sandboxq.errors import UsageError
from sandboxq.web.operations import READS
from tests.cluster.servers import Cluster
from tests.conftest import running_server, wait_until
from tests.sentinel.servers import SentinelSet
from tests.web.conftest import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cluster_client(tmp_path: Path) -> Iterator[Client]:
    """Return a client of the page of a cluster of two masters."""
    with Cluster(tmp_path / "cluster", masters=2, replicas=0) as cluster:
        client = Client(cluster.url)
        yield client
        client.close()


@pytest.fixture
def sentinel_client(tmp_path: Path) -> Iterator[Client]:
    """Return a client of the page of a master that Sentinels watch."""
    with SentinelSet(tmp_path) as sentinels:
        client = Client(sentinels.url)
        yield client
        client.close()


def used(client: Client, names: list[str]) -> None:
    """Fill queues, read all there is of them, and act."""
    for name in names:
        client.add(name, ("x", {"n": 1}), ("later", {}, {"delay": 60}))
    wait_until(lambda: len(client.read("/overview")["queues"]) == len(names))
    for name in names:
        part = name.replace("{", "%7B").replace("}", "%7D")
        for operation in READS:
            path = operation.path.replace("{queue}", part).replace("{job_id}", "1")
            if "profile" not in path and "{" not in path:
                client.read(path)
        assert client.read(f"/queues/{part}/jobs?search=x")["total"] == 1
        client.act(f"/queues/{part}/pause")
        assert client.act(f"/queues/{part}/jobs/remove", ids=["1"])["count"] == 1
    assert len(client.read("/search?q=name:later")["jobs"]) == len(names)
    assert len(client.read("/audit")["entries"]) == 2 * len(names)


@pytest.mark.timeout(300)
def test_on_a_cluster(cluster_client: Client) -> None:
    """Queues with hash tags lie on all masters."""
    used(cluster_client, [f"{{spread-{number}}}" for number in range(5)])


@pytest.mark.timeout(300)
def test_behind_sentinels(sentinel_client: Client) -> None:
    """By the URL of all of them."""
    used(sentinel_client, ["one", "two"])


def test_while_redis_is_away(tmp_path: Path) -> None:
    """It is said, as JSON and as a page; nothing is raised."""
    with running_server(tmp_path) as url:
        client = Client(url)
        client.add("q", ("x", {}))
        assert client.get("/").status_code == 200
    try:
        for path in ("/", "/api/v1/overview", "/api/v1/queues/q/jobs"):
            answer = client.get(path)
            assert answer.status_code == 503, path
            assert "Redis" in answer.text
        assert client.post("/api/v1/queues/q/pause", json={}).status_code == 503
    finally:
        client.close()


def test_a_path_that_is_a_host() -> None:
    """Links under //name/ would lead there."""
    with pytest.raises(UsageError, match="must look like"):
        _checked_base("//name")


@pytest.mark.timeout(240)
def test_the_command(tmp_path: Path) -> None:
    """It says where it listens, serves under its path, and refuses to be open to others."""
    command = [sys.executable, "-m", "sandboxq", "web", "--port", "0", "--base-path", "/tools"]
    refused = subprocess.run(
        [*command, "--host", "0.0.0.0"],  # noqa: S104 - to be refused
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 2
    assert "SANDBOXQ_WEB_USER" in refused.stderr
    with running_server(tmp_path) as url:
        process = subprocess.Popen(
            [*command, "--url", url, "--read-only"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = line[line.index("http://") :].split()[0]
            page = httpx.get(address, timeout=60)
            assert page.status_code == 200
            assert "server" not in page.headers
            assert 'href="/tools/' in page.text
            assert httpx.get(f"{address}static/app.css", timeout=60).status_code == 200
            lost = httpx.get(f"{address}static/none.css", timeout=60)
            assert lost.status_code == 404
            assert 'data-root="/tools"' in lost.text
            with httpx.stream("GET", f"{address}live?topic=workers", timeout=60) as viewer:
                next(viewer.iter_lines())
                process.send_signal(signal.SIGINT)
                told, _ = process.communicate(timeout=60)
            assert (process.returncode, told) == (0, "")  # no Aborted!, no traceback
        finally:
            process.kill()
            process.communicate(timeout=60)
