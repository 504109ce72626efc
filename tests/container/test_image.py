"""The image of docs/deploy/container/Dockerfile, built by buildah and run as a container.

No registry of images is asked: the image it begins with is Debian's Python, put together by
mmdebstrap. Takes some minutes. To see it: ``pytest -m slow tests/container/test_image.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue
from tests.conftest import wait_until
from tests.container import oci

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docs/deploy/container/Dockerfile"
TOOLS = ("buildah", "mmdebstrap")
PACKAGES = "python3,python3-venv,ca-certificates"
# What the processor is: it needs a package of the image's extras.
CODE = """
import os, time
import numpy

def process(job):
    if job.name == "slow":
        job.update_progress(1)
        time.sleep(3)
    return [os.getuid(), int(numpy.arange(job.data).sum())]
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(oci.missing()), reason=oci.missing()),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {' and '.join(TOOLS)}"),
]


class Builder:
    """buildah with a storage of its own, and without containers of its own (chroot)."""

    def __init__(self, folder: Path) -> None:
        """Keep images below ``folder``."""
        self._storage = [f"--root={folder}/storage", f"--runroot={folder}/run"]

    def __call__(self, *words: str) -> str:
        """Run a command of buildah; return what it prints."""
        done = subprocess.run(
            ["buildah", *self._storage, *words],
            cwd=ROOT,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Yield a builder that has built the image."""
    folder = tmp_path_factory.mktemp("images")
    build = Builder(folder)
    base = build("from", "scratch")
    build("add", "--quiet", base, str(base_files(folder)), "/")
    build("commit", "--quiet", base, "localhost/base")
    # How pip reaches its packages from here, if that needs settings.
    settings = [path for path in ("/etc/pip.conf", "/etc/ssl/certs") if Path(path).exists()]
    volumes = [f"--volume={path}:{path}:ro" for path in settings]
    arguments = ["--build-arg=BASE=localhost/base", "--format=docker", "--tag=localhost/sandboxq"]
    ignored = f"--ignorefile={DOCKERFILE}.dockerignore"
    build("build", f"--file={DOCKERFILE}", ignored, *volumes, *arguments, ".")
    yield build
    build("rm", "--all")


def base_files(folder: Path) -> Path:
    """Return the files of an image with Debian's Python: $BASE_FILES, or new ones."""
    if ready := os.environ.get("BASE_FILES"):
        return Path(ready)
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    sources = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    source = next(filter(Path.exists, sources))
    name, target = release["VERSION_CODENAME"], folder / "base"
    options = ["--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}"]
    subprocess.run(["mmdebstrap", *options, name, target, source], check=True)
    return target


@pytest.mark.parametrize("policy", ["limits", "strict"])
def test_the_image_serves_the_tables_of_its_project(
    builder: Builder, tmp_path: Path, server_url: str, queue_name: str, policy: str
) -> None:
    """As Docker starts it: its user, its entry point, its command; ready, healthy, drained."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "work.py").write_text(CODE)
    (app / "pyproject.toml").write_text(
        f"[tool.sandboxq]\npolicy = '{policy}'\nprocs = 2\n"
        f"[tool.sandboxq.workers.work]\nprocessor = 'work.py'\nqueue = '{queue_name}'\n"
    )
    server = Path(server_url.removeprefix("unix://"))
    server.chmod(0o777)  # the container has another user
    inspected = json.loads(builder("inspect", "--type=image", "localhost/sandboxq"))
    config = inspected["OCIv1"]["config"]
    assert config["User"] == f"{oci.USER}:{oci.USER}"
    oci.prepare(tmp_path, shown=[server], placed={app: "/app"}, cwd=config["WorkingDir"])
    container = builder("from", "localhost/sandboxq")
    (tmp_path / "rootfs").rmdir()
    (tmp_path / "rootfs").symlink_to(builder("mount", container))
    env = dict(each.split("=", 1) for each in config["Env"])
    env |= {"SANDBOXQ_URL": server_url, "SANDBOXQ_HTTP": "127.0.0.1:0"}
    command = [*config["Entrypoint"], *config["Cmd"]]
    with (
        Queue.sync(queue_name, server_url) as queue,
        oci.running(tmp_path, *command, env=env) as worker,
    ):
        worker.wait_for("locks")
        health = worker.exec(*config["Entrypoint"], "health", "--http", worker.address)
        assert json.loads(health.stdout)["ready"] is True
        assert queue.add("sum", 10).result(timeout=60) == [oci.USER, 45]
        slow = queue.add("slow", 3)
        wait_until(lambda: slow.refresh().progress == 1)
        assert worker.stop() == 0
        assert slow.result(timeout=60) == [oci.USER, 3]
        assert slow.refresh().attempts_started == 1
