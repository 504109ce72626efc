"""The transcripts of the page about HTTP: each command is run again, and answers what is there."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue
from tests.conftest import wait_until
from tests.docs.pages import DOCS
from tests.lifecycle.test_run import RunningWorker, workers  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (DOCS / "reference/http.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
CODE = """
import os, time
def process(job):
    while job.name == "long" and not os.path.exists({go!r}):
        time.sleep(0.01)
"""

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def answers(block: str) -> list[tuple[str, str]]:
    """Return each command of a block, and what is printed below it."""
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)


def without_seconds(text: str) -> str:
    """Return a text in which what was measured is the same each time."""
    return re.sub(r"\d+\.\d+(e-\d+)?", "N", text).strip()


def check(block: str, address: str) -> None:
    """Run the commands of a block."""
    for command, wanted in answers(block):
        done = subprocess.run(
            ["sh", "-c", command.replace("127.0.0.1:9808", address)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert without_seconds(done.stdout) == without_seconds(wanted), command


def test_each_command_answers_what_the_page_says(
    server_url: str,
    tmp_path: Path,
    workers: list[RunningWorker],  # noqa: F811 - the fixture
) -> None:
    """Of a busy worker, and of one that ends."""
    go = tmp_path / "go"
    processor = tmp_path / "images.py"
    processor.write_text(CODE.format(go=str(go)))
    arguments = ("--procs", "2", "--http", "0", "--claim-ahead-ms", "0")
    worker = RunningWorker(server_url, "images", *arguments, processor=str(processor))
    workers.append(worker)
    worker.wait_until_ready()
    found = re.search(r"http://(127\.0\.0\.1:\d+)", worker.text)
    assert found
    with Queue.sync("images", server_url) as queue:
        queue.add("short", {}).result(timeout=60)
        queue.add_bulk([("long", {})] * 6)
        wait_until(lambda: queue.counts()["active"] == 2)
        wait_until(lambda: is_seen(found[1]))
        busy, ending = BLOCKS
        check(busy, found[1])
        worker.send(signal.SIGTERM)
        wait_until(lambda: "SIGTERM" in worker.text)
        check(ending, found[1])
        go.touch()
        assert worker.wait(60) == 0
        queue.obliterate(force=True)


def is_seen(address: str) -> bool:
    """Tell whether the worker tells of what it asked Redis after all had been added."""
    command = ["curl", "-s", f"http://{address}/v1/load"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return '"active": 2, "waiting": 4' in text
