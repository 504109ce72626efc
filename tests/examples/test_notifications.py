"""examples/notifications: Node adds one job, all are notified; an alert does not wait for it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sandboxq import Queue
from tests.conftest import wait_until
from tests.examples.programs import END_SECONDS, embedded_url, environment, program, python
from tests.interop.node_install import NodeUnavailable, find_tools, installed_modules

EXAMPLE = Path(__file__).parents[2] / "examples" / "notifications"
# So many subscribers at this pace are news for a minute and more.
NAMES = [f"name{number}" for number in range(400)]
A_SECOND = 5
ALERT = "name7: your card was used"


@pytest.mark.interop
@pytest.mark.timeout(180)
def test_an_alert_overtakes_news(tmp_path: Path) -> None:
    """News for all are added once, sent no faster than the limit, and overtaken."""
    notify = node_program(tmp_path)
    (tmp_path / "subscribers.txt").write_text("\n".join(NAMES))
    heard = tmp_path / "heard"
    worker = ("sandboxq", "run", str(EXAMPLE / "notices.py"), "--procs", "2")
    with python(tmp_path, EXAMPLE / "gateway.py", "0", output=heard):
        port = wait_until(lambda: heard.read_text().split())[1]
        began = time.monotonic()
        with (
            program(
                tmp_path, *worker, "--limiter", f"{A_SECOND}/1s",
                variables={"GATEWAY": f"http://127.0.0.1:{port}/"},
            ),
            Queue.sync("notifications", wait_for_server(tmp_path)) as queue,
        ):  # fmt: skip
            node(notify, "news", "sale today")
            wait_until(lambda: queue.counts()["prioritized"] > A_SECOND)
            node(notify, "alert", "name7", "your card was used")
            wait_until(lambda: ALERT in heard.read_text())
            counts = queue.counts()
            sent = heard.read_text().splitlines()[1:]
            seconds = time.monotonic() - began
            jobs = queue.get_jobs(["prioritized", "active", "completed"], 0, 2 * len(NAMES))
    assert counts["prioritized"] > 0
    assert len(sent) <= A_SECOND * (seconds + 1)
    assert len(set(sent)) == len(sent)
    assert {job.data["to"] for job in jobs if job.name == "push"} == set(NAMES)


def node_program(folder: Path) -> list[str]:
    """Lay the example's program beside the packages that it needs; return how it is run."""
    try:
        tools = find_tools()
        modules = installed_modules(tools)
    except NodeUnavailable as error:
        pytest.skip(str(error))
    (folder / "node_modules").symlink_to(modules / "node_modules")
    return [tools.node, str(shutil.copy(EXAMPLE / "notify.mjs", str(folder)))]


def wait_for_server(folder: Path) -> str:
    """Return the URL of the embedded server once the worker has started it."""
    wait_until((folder / ".sandboxq" / "valkey.sock").exists)
    return embedded_url(folder)


def node(program: list[str], *arguments: str) -> None:
    """Run the program."""
    folder = Path(program[1]).parent
    subprocess.run(
        [*program, *arguments], cwd=folder, check=True, timeout=END_SECONDS,
        env=environment({"SANDBOXQ_URL": embedded_url(folder)}),
    )  # fmt: skip
