"""What the pages say of Celery and RQ is run by those: installed once a machine, so it is slow."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from benchmarks.peer_installs import python_packages
from tests.broker.servers import StoppableServer
from tests.docs.pages import DOCS, blocks
from tests.examples.runner import COMMAND_SECONDS, NODE_URL

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("peer", ["celery", "rq"])
def test_its_blocks_do_the_same_job(peer: str, tmp_path: Path) -> None:
    """Module, worker and caller, as the page has them, print what sandboxq's print: 3."""
    try:
        programs = python_packages(peer)
    except SystemExit as error:
        pytest.skip(f"{peer} cannot be installed here: {error}")
    module, worker, caller = [b for b in blocks(DOCS / f"how-to/from-{peer}.md") if b.why_not]
    assert (module.name, worker.language, caller.language) == ("words.py", "sh", "python")
    log = tmp_path / "worker.log"
    with StoppableServer(tmp_path) as server, log.open("wb") as output:
        for name, block in (("words.py", module), ("caller.py", caller)):
            (tmp_path / name).write_text(block.text.replace(NODE_URL, server.url))
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RQ_REDIS_URL": server.url,
        }
        running = subprocess.Popen(
            ["bash", "-c", f"exec {worker.text}"],
            cwd=tmp_path, env=environment, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            done = subprocess.run(
                [programs / "python", "caller.py"], cwd=tmp_path, env=environment, text=True,
                capture_output=True, check=False, timeout=COMMAND_SECONDS,
            )  # fmt: skip
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(COMMAND_SECONDS)

    assert done.stdout == "3\n", done.stderr + log.read_text()
    assert "print" in caller.text
    assert "# 3" in caller.text
