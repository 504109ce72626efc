"""The thumbnails example, run as its README says: on the embedded server of a directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.conftest import wait_until
from tests.interop.node_install import NodeUnavailable, find_tools, installed_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "examples" / "thumbnails"
WORKER = ["-m", "sandboxq", "run", str(CHECKOUT / "processors" / "resize.py")]
END_SECONDS = 60


class Place:
    """A directory in which the commands of the README are given."""

    def __init__(self, directory: Path) -> None:
        """Work in ``directory``; the servers of the caller's environment are not for us."""
        self.directory = directory
        self.photos = directory / "photos"
        self.thumbnails = directory / "thumbnails"
        self.photos.mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"REDIS_URL", "SANDBOXQ_URL"}
        }

    @contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """Run Python with these arguments while the block runs; then Ctrl-C must end it."""
        with (self.directory / "output").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=output,
            )
        try:
            yield
            process.send_signal(signal.SIGINT)
            assert process.wait(END_SECONDS) == 0
        finally:
            process.kill()
            process.wait()
            print((self.directory / "output").read_text())  # noqa: T201 - shown when a test fails

    def size_of_thumbnail(self, name: str) -> tuple[int, int] | None:
        """Return a thumbnail's width and height once it is there."""
        path = self.thumbnails / name
        if not path.exists():
            return None
        with Image.open(path) as image:
            return image.size


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return an empty directory with a folder for photographs."""
    return Place(tmp_path)


def test_photographs_that_arrive_become_thumbnails(place: Place) -> None:
    """Watcher and worker find each other with nothing set up; photographs come later."""
    watcher = (str(EXAMPLE / "watch.py"), "photos", "thumbnails", "--every", "0.1")
    with place.running(*WORKER, "--queue", "thumbnails"), place.running(*watcher):
        Image.new("RGB", (800, 600), "red").save(place.photos / "first.jpg")
        assert wait_until(lambda: place.size_of_thumbnail("first.jpg")) == (320, 240)

        (place.photos / "trip").mkdir()
        Image.new("RGB", (600, 800), "blue").save(place.photos / "trip" / "second.png")
        assert wait_until(lambda: place.size_of_thumbnail("trip/second.png")) == (320, 427)


def test_looking_again_adds_nothing_and_a_new_version_does(place: Place) -> None:
    """The job id is what keeps several watchers, and restarted ones, from doing things twice."""
    watch_once = (str(EXAMPLE / "watch.py"), "photos", "thumbnails", "--every", "0.1", "--once")
    Image.new("RGB", (80, 60), "red").save(place.photos / "a.jpg")

    assert _output(place, *watch_once) == "1 photographs added\n"
    _output(place, *watch_once)
    assert '"waiting": 1' in _output(place, "-m", "sandboxq", "stats", "thumbnails", "--json")

    Image.new("RGB", (90, 60), "red").save(place.photos / "a.jpg")
    _output(place, *watch_once)
    assert '"waiting": 2' in _output(place, "-m", "sandboxq", "stats", "thumbnails", "--json")


@pytest.mark.interop
def test_a_node_application_gets_its_thumbnails(place: Place) -> None:
    """A Node producer sees the size of its thumbnail as the job's return value."""
    try:
        tools = find_tools()
        modules = installed_modules(tools)
    except NodeUnavailable as error:
        pytest.skip(str(error))
    shutil.copy(EXAMPLE / "add.mjs", place.directory)
    (place.directory / "node_modules").symlink_to(modules / "node_modules")
    Image.new("RGB", (800, 600), "red").save(place.photos / "n.jpg")

    with place.running(*WORKER, "--queue", "thumbnails"):
        socket = wait_until(lambda: next(place.directory.glob(".sandboxq/*.sock"), None))
        finished = subprocess.run(
            [tools.node, "add.mjs", "160", "thumbnails", "photos/n.jpg"],
            cwd=place.directory,
            env=place.environment | {"SANDBOXQ_URL": f"unix://{socket}"},
            capture_output=True,
            text=True,
            timeout=END_SECONDS,
            check=False,
        )

    assert finished.returncode == 0, finished.stderr
    assert "n.jpg: 160 x 120" in finished.stdout
    assert place.size_of_thumbnail("n.jpg") == (160, 120)


def _output(place: Place, *command: str) -> str:
    finished = subprocess.run(
        [sys.executable, *command],
        cwd=place.directory,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=END_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
