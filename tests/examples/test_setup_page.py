"""What docs/how-to/setup.md and docs/reference/job.md say, tried on real children."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxq import Job, Queue

DOCS = Path(__file__).parents[2] / "docs"

PROCESSOR = """
import json, os
from sandboxq import Job

def note(what):
    with open("notes.jsonl", "a") as notes:
        notes.write(json.dumps([what, os.getpid()]) + "\\n")

note("module")

def setup() -> None:
    note("setup")

def process(job: Job) -> bool:
    return isinstance(job, Job) and job.name == "look"

def teardown() -> None:
    note("teardown")
"""


@pytest.mark.parametrize("policy", ["none", "limits", "strict"])
def test_the_module_runs_once_and_the_hooks_once_in_each_child(
    tmp_path: Path, server_url: str, queue_name: str, policy: str
) -> None:
    """A model is loaded once where the page says so, and shared."""
    (tmp_path / "look.py").write_text(PROCESSOR)
    with Queue.sync(queue_name, server_url) as queue:
        jobs = [queue.add("look", {}) for _ in range(20)]

        command = ["run", "look.py", "--queue", queue_name, "--url", server_url, "--procs", "2"]
        sandbox = ["--policy", policy, *(["--write", "."] if policy == "strict" else [])]
        subprocess.run(
            [sys.executable, "-m", "sandboxq", *command, *sandbox, "--burst"],
            cwd=tmp_path,
            check=True,
            timeout=50,
        )

        assert all(job.result(timeout=60) for job in jobs)
    notes = [json.loads(line) for line in (tmp_path / "notes.jsonl").read_text().splitlines()]
    pids: dict[str, list[int]] = {"module": [], "setup": [], "teardown": []}
    for what, pid in notes:
        pids[what].append(pid)
    assert len(pids["module"]) == 1
    assert len(pids["setup"]) == len(set(pids["setup"])) == 2
    assert set(pids["teardown"]) == set(pids["setup"])
    assert not set(pids["module"]) & set(pids["setup"])


def test_the_page_names_every_member_and_no_other() -> None:
    """Who looks up what the job offers finds all of it."""
    text = (DOCS / "reference" / "job.md").read_text()
    rows = re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(?:queue\(name\))?\.?(\w+)", row)}
    members = {name for name in dir(Job) if not name.startswith("_")}
    others = {"add_bulk", "Job", "QueuedJob", "SyncJob", "HeldJob"}
    assert names - others == members - {"queue"}
