"""The demo is the first thing that anybody runs."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import redis as redis_client
from PIL import Image

from sandboxq.cli.demo import ready_made_processor
from sandboxq.errors import ProcessorNotLoaded
from tests.conftest import running_server, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def demo(directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a directory, on the embedded server, and return what it said."""
    environment = dict(os.environ)
    environment.pop("REDIS_URL", None)
    environment.pop("SANDBOXQ_URL", None)
    return subprocess.run(
        [sys.executable, "-m", "sandboxq", "demo", *flags],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_demo_says_what_a_user_wants_to_know(tmp_path: Path) -> None:
    """Jobs, seconds, rate, speed-up, heartbeats and where the thumbnails are; they are there."""
    finished = demo(tmp_path, "--pictures", "1", "--procs", "2")

    assert finished.returncode == 0, finished.stderr
    said = dict(re.findall(r"^(\S.*?) {2,}(\S.*)$", finished.stdout, re.MULTILINE))
    assert said["jobs"] == "18 in each of 3 rounds"
    assert float(said["jobs per second"]) > 0
    # One child and both in turn; on a machine with other work it may not be known.
    assert re.match(
        r"(\d\.\d\d with 2 children|not measured: something else slowed .*) "
        r"\(rounds: \d\.\d\d, \d\.\d\d, \d\.\d\d",
        said["speed-up over one core"],
    )
    turns = re.findall(r"jobs on (\d) child", finished.stdout)
    assert turns == ["1", "2"] * 3
    assert "1 picture of 4000 x 3000 pixels" in finished.stdout
    assert "photograph" not in finished.stdout
    assert said["longest gap between heartbeats"].endswith(" s")
    thumbnails = tmp_path / ".sandboxq" / "demo" / "thumbnails"
    assert said["thumbnails"] == str(thumbnails)
    with Image.open(thumbnails / "picture-001-320.jpg") as image:
        assert image.size == (320, 240)


def test_one_child_and_photographs_of_an_earlier_demo(tmp_path: Path) -> None:
    """A second run starts at once; with one child there is nothing to compare."""
    folder = tmp_path / "mine"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (800, 600), "red").save(folder / "pictures" / "picture-001.jpg")

    finished = demo(tmp_path, "--pictures", "1", "--procs", "1", "--keep", str(folder))

    assert finished.returncode == 0, finished.stderr
    assert "not measured: there is one child only" in finished.stdout
    with Image.open(folder / "thumbnails" / "picture-001-320.jpg") as image:
        assert image.getpixel((10, 10))[0] > 200  # type: ignore[index]


def test_a_picture_that_cannot_be_resized_ends_the_demo_with_the_reason(tmp_path: Path) -> None:
    """A summary over failed jobs would be a lie."""
    folder = tmp_path / "mine"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "picture-001.jpg").write_bytes(b"no picture")

    finished = demo(tmp_path, "--pictures", "1", "--procs", "1", "--keep", str(folder))

    assert finished.returncode == 1
    assert "9 of 9 jobs failed" in finished.stderr
    assert "is no picture that Pillow can read" in finished.stderr


def test_photographs_of_ones_own(tmp_path: Path) -> None:
    """They are read where they are; a folder without any is said to be one."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (800, 600), "red").save(tmp_path / "mine" / "Rome.JPG", "JPEG")

    finished = demo(tmp_path, "--from", "mine", "--procs", "1")
    none = demo(tmp_path, "--from", "empty")

    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / ".sandboxq" / "demo" / "thumbnails" / "Rome-320.jpg").exists()
    assert "generat" not in finished.stdout
    assert none.returncode == 2
    assert "there is no picture in" in none.stderr


def test_a_missing_ready_made_processor_is_named() -> None:
    """A wheel built without its data must say so instead of a stack trace."""
    assert ready_made_processor("resize").name == "resize.py"
    with pytest.raises(ProcessorNotLoaded, match="'nonsense' is not in this installation"):
        ready_made_processor("nonsense")


def test_the_page_with_something_alive_on_it(tmp_path: Path) -> None:
    """One command: pictures, a death, an album, a schedule; until Ctrl-C, which leaves nothing."""
    environment = {name: value for name, value in os.environ.items() if "REDIS" not in name}
    environment.pop("SANDBOXQ_URL", None)
    command = ["demo", "--web", "--port", "0", "--pictures", "1", "--procs", "2"]
    with running_server(tmp_path) as redis:
        shown = subprocess.Popen(
            [sys.executable, "-m", "sandboxq", *command, "--url", redis],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert shown.stdout is not None
        try:
            line = shown.stdout.readline().decode()
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line
            read = functools.partial(_read, found[0] + "api/v1")
            wait_until(lambda: read("/workers")["summary"]["workers"] == 2)
            wait_until(lambda: "JobMemoryExceeded" in str(read("/deaths")), timeout=120)
            wait_until(lambda: "clean up" in str(read("/schedulers")))
            wait_until(lambda: "album" in str(read("/stream")["bars"]), timeout=120)
            assert "in _watch" in read("/queues/pictures/jobs/1/live")["job"]["stack"]
            shown.send_signal(signal.SIGINT)
            assert shown.wait(60) == 0
        finally:
            shown.kill()
            shown.wait()
            shown.stdout.close()
        with redis_client.Redis.from_url(redis) as client:
            assert not [key for key in client.keys("sandboxq-demo-*") if b":audit" not in key]


def _read(api: str, path: str) -> Any:
    with urllib.request.urlopen(api + path, timeout=60) as answer:  # noqa: S310 - http, see above
        return json.load(answer)
