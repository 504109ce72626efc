"""A worker in a container: read-only, without capabilities, system calls filtered as by Docker.

The files are this machine's, bound read-only, so that it takes seconds; ``test_image.py`` builds
the image.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq import JobFailed, JobMemoryExceeded, Queue
from sandboxq.sandbox.processes import children_of, living
from tests.conftest import wait_until
from tests.container import oci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.queue import SyncQueue

pytestmark = [
    pytest.mark.skipif(bool(oci.missing()), reason=oci.missing()),
    pytest.mark.timeout(300),
]

CODE = """
import os, subprocess, time
import numpy

def process(job):
    if job.name == "slow":
        job.update_progress(1)
        time.sleep(3)
        return "finished"
    if job.name == "eat":
        return len(bytearray(1 << 30))
    if job.name == "spin":
        while True:
            pass
    if job.name == "start":
        subprocess.Popen(["sh", "-c", "sleep 0.2 & sleep 0.1 &"])
    if job.name == "array":
        return numpy.arange(300_000)
    return os.getuid()
"""
HTTP = "127.0.0.1:0"
POLICIES = {
    "none": ["--policy=none"],
    "limits": ["--policy=limits", "--memory=200M"],
    "strict": ["--policy=strict", "--memory=200M"],
}


@pytest.fixture
def bundle(tmp_path: Path, server_url: str) -> Path:
    """Return a folder for the runtime: the processor, and what the worker needs of this machine."""
    root = Path(__file__).parents[2]
    here = [Path(path) for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/ssl")]
    python = [Path(sys.prefix), Path(sys.base_prefix).resolve(), root / "sandboxq"]
    python += [link.parent for link in links(Path(sys.executable)) if link.parent not in python]
    app = tmp_path / "app"
    app.mkdir()
    (app / "work.py").write_text(CODE)
    server = Path(server_url.removeprefix("unix://"))
    server.chmod(0o777)  # the container has another user
    oci.prepare(tmp_path, shown=[*filter(Path.exists, here), *python, app, server], cwd=str(app))
    return tmp_path


def links(path: Path) -> list[Path]:
    """Return the links that lead from a path to its file: an environment's Python may be many."""
    found = []
    while path.is_symlink():
        path = path.parent / path.readlink()
        found.append(path)
    return found


@contextmanager
def worker(
    bundle: Path, url: str, queue: str, *words: str, refused: frozenset[str] = frozenset()
) -> Iterator[oci.Container]:
    """Run a worker in a container."""
    root = Path(__file__).parents[2]
    env = {
        "HOME": "/tmp",
        "PATH": os.environ["PATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(root),
        "SANDBOXQ_URL": url,
    }
    command = [sys.executable, "-m", "sandboxq", "run", "work.py", "--queue", queue, "--procs=2"]
    with oci.running(
        bundle, *command, "--http", HTTP, *words, env=env, refused=refused
    ) as container:
        yield container


@pytest.mark.parametrize("policy", POLICIES)
def test_a_life_in_a_container(bundle: Path, server_url: str, queue_name: str, policy: str) -> None:
    """It gets ready, runs jobs, ends those that are too large or late, reaps orphans, drains."""
    with (
        Queue.sync(queue_name, server_url) as queue,
        worker(bundle, server_url, queue_name, *POLICIES[policy]) as container,
    ):
        container.wait_for("locks")
        health = container.exec(
            sys.executable, "-m", "sandboxq", "health", "--http", container.address
        )
        assert health.returncode == 0, health.stdout + health.stderr
        assert json.loads(health.stdout)["ready"] is True
        jobs_of_all_kinds(queue, policy)
        orphans_are_reaped(container)
        slow = queue.add("slow", {})
        wait_until(lambda: slow.refresh().progress == 1)
        assert container.stop() == 0
        assert slow.result(timeout=60) == "finished"


def jobs_of_all_kinds(queue: SyncQueue, policy: str) -> None:
    """Add a job of each kind and look at how it ends."""
    assert queue.add("who", {}).result(timeout=60) == oci.USER
    assert len(queue.add("array", {}).result(timeout=60)) == 300_000
    with pytest.raises(JobFailed, match="ran longer than its timeout"):
        queue.add("spin", {}, timeout=1).result(timeout=60)
    if policy != "none":
        with pytest.raises(JobMemoryExceeded):
            queue.add("eat", {}).result(timeout=60)
    start = queue.add("start", {})
    if policy == "strict":
        with pytest.raises(JobFailed, match="starts no processes"):
            start.result(timeout=60)
    else:
        assert start.result(timeout=60) == oci.USER


def orphans_are_reaped(container: oci.Container) -> None:
    """Leave processes without parents, as ``docker exec`` does: process 1 waits for them."""
    container.exec("sh", "-c", "(sleep 0.05; exit 3) & (sleep 0.1 & sleep 0.15 &) ; exit 0")

    def are_reaped() -> bool:
        children = children_of(container.first)
        return len(children) == 1 and living(children) == children

    wait_until(are_reaped)


def test_a_profile_without_landlock_is_told(bundle: Path, server_url: str, queue_name: str) -> None:
    """Engines before 2022 have one: `strict` is refused whole, and what is missing is said."""
    with worker(
        bundle, server_url, queue_name, "--policy=strict", refused=oci.LANDLOCK
    ) as container:
        assert container.process.wait(60) == 6
        assert "a seccomp profile that allows landlock_create_ruleset" in container.said


def test_doctor_tells_what_a_container_is_missing(bundle: Path) -> None:
    """Nothing is writable: no temporary files, no embedded server."""
    env = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "sandboxq", "doctor"]
    with oci.running(bundle, *command, env=env, has_tmp=False) as container:
        assert container.process.wait(60) == 0
        assert re.search("missing scratch +No usable temporary directory", container.said)
        assert "missing policy limits  scratch" in container.said
        assert "ok      policy none    can be enforced" in container.said
        assert re.search(
            f"missing redis .* user {oci.USER} may not: set SANDBOXQ_URL", container.said
        )
