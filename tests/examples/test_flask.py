"""examples/flask: ordered by the application's test client, written by `flask sandboxq run`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandboxq import Queue, SyncQueue, UsageError
from tests.conftest import wait_until
from tests.examples.programs import environment, program

pytest.importorskip("flask")

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask"


def example_app() -> Any:
    """Import the example's module, under a name of its own."""
    spec = importlib.util.spec_from_file_location("example_flask_app", EXAMPLE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.create_app()


def test_a_letter(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """The job has the application's context, and the worker the application's Redis."""
    app = example_app()
    app.config.update(SANDBOXQ_URL=server_url, SANDBOXQ_PREFIX=queue_name)
    client = app.test_client()
    job = client.post("/letters", data={"to": "Ann"}).get_json()["job"]
    variables = {
        "FLASK_APP": str(EXAMPLE / "app.py"),
        "FLASK_SANDBOXQ_URL": server_url,
        "FLASK_SANDBOXQ_PREFIX": queue_name,
        "FLASK_SIGNATURE": "The baker",
    }

    arguments = ("sandboxq", "run", str(EXAMPLE / "letters.py"), "--procs", "1")
    with program(tmp_path, "flask", *arguments, variables=variables):
        wait_until(lambda: client.get(f"/letters/{job}").get_json()["state"] == "completed")

    assert client.get(f"/letters/{job}").get_json()["text"] == "Dear Ann,\nyours, The baker"
    assert client.get("/letters/999").status_code == 404
    stats = run_flask(tmp_path, "stats", "letters", "--json", **variables)
    assert '"completed": 1' in stats.stdout, stats.stderr


def test_threads_that_come_at_once_share_a_queue() -> None:
    """A queue that one of them got alone would have connections that nobody closes."""
    from sandboxq.integrations.flask import Sandboxq

    app, together = example_app(), threading.Barrier(8)

    def queue() -> SyncQueue:
        with app.app_context():
            together.wait()
            return sandboxq.queue("letters")

    sandboxq = Sandboxq(app)
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            app.extensions["sandboxq"].clear()
            with ThreadPoolExecutor(8) as threads:
                queues = {id(each.result()) for each in [threads.submit(queue) for _ in range(8)]}
            assert len(queues) == 1
    finally:
        sys.setswitchinterval(switching)


TASKS = """
from flask import current_app
from sandboxq import task

@task(queue="first")
def one() -> str:
    return current_app.name

@task(queue="second")
def two() -> str:
    return current_app.name
"""


def test_tasks_of_a_module(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """The queue is that of the tasks; of several, those of the one that is named are run."""
    (tmp_path / "jobs.py").write_text(TASKS)
    (tmp_path / "single.py").write_text(TASKS.partition('@task(queue="second")')[0])
    variables = {
        "FLASK_APP": str(EXAMPLE / "app.py"),
        "FLASK_SANDBOXQ_URL": server_url,
        "FLASK_SANDBOXQ_PREFIX": queue_name,
    }
    runs = (("first", "one", ["single.py"]), ("second", "two", ["jobs.py", "--queue", "second"]))
    for queue, name, arguments in runs:
        with Queue.sync(queue, server_url, prefix=queue_name) as opened:
            job = opened.add(name, {})
            done = run_flask(tmp_path, "run", *arguments, "--procs", "1", "--burst", **variables)
            assert done.returncode == 0, done.stderr
            assert job.result(60) == "app"


def test_what_is_missing(tmp_path: Path) -> None:
    """A command without a processor says what to write."""
    done = run_flask(tmp_path, "run", "--procs", "1", FLASK_APP=str(EXAMPLE / "app.py"))

    assert done.returncode == 2
    assert "name the processor first" in done.stderr


def test_fastapi_outside_of_its_lifespan() -> None:
    """A queue that is asked for too early says what to write."""
    pytest.importorskip("fastapi")
    from sandboxq.integrations.fastapi import Sandboxq

    with pytest.raises(UsageError, match=r"FastAPI\(lifespan=sandboxq.lifespan\)"):
        Sandboxq().open_queue("mail")


def run_flask(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``flask sandboxq …``."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "sandboxq", *arguments],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
