"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.integrations.plugin import passed, run_pytest

BASICS = """
import os, signal, threading
from datetime import timedelta

import pytest
from sandboxq import Queue, UsageError, ProcessorNotLoaded


def test_drain_runs_what_waits(sandboxq, sandboxq_queue):
    queue = sandboxq_queue("numbers")
    job = queue.add("double", {"n": 4})
    queue.add("double", {})
    later = queue.add("double", {"n": 1}, delay=3600)
    drained = sandboxq.drain("numbers", "doubling.py")
    assert drained == (1, 1, 0) and drained.failed == 1
    assert job.result(timeout=60)["twice"] == 8
    assert job.result(timeout=60)["pid"] != os.getpid()
    assert later.state() == "delayed"


def test_queues_are_empty_again(sandboxq, sandboxq_queue):
    assert sum(sandboxq_queue("numbers").counts().values()) == 0


def test_a_worker_beside_the_test(sandboxq_queue, sandboxq_worker):
    worker = sandboxq_worker("numbers", "doubling:process", procs=2)
    with worker:
        jobs = [sandboxq_queue("numbers").add("double", {"n": n}) for n in range(5)]
        assert [job.result(timeout=60)["twice"] for job in jobs] == [0, 2, 4, 6, 8]
        with pytest.raises(UsageError, match="runs already"):
            worker.drain()


def test_inline_runs_here(sandboxq_inline, sandboxq_queue, monkeypatch):
    import doubling

    sandboxq_inline("numbers", "doubling:process")
    job = sandboxq_queue("numbers").add("double", {"n": (1, 2)})
    assert doubling.seen == [{"n": [1, 2]}]  # a tuple is a list after its way through JSON
    assert job.result(timeout=60)["pid"] == os.getpid()
    assert job.refresh().progress == 50


def test_inline_of_code_that_opens_its_own_queue(sandboxq_inline):
    sandboxq_inline("numbers", "doubling")
    with Queue.sync("numbers") as queue:
        failed, completed = queue.add_bulk([("a", {}), ("b", {"n": 1})])
        assert failed.refresh().failed_reason == "no number"
        assert completed.state() == "completed"


def test_flows_inline(sandboxq_inline):
    from sandboxq import FlowProducer

    sandboxq_inline("numbers", "doubling")
    children = [{"name": "child", "queue": "numbers", "data": {"n": 1}}]
    with FlowProducer.sync() as flows:
        flow = flows.add(name="parent", queue="numbers", data={"n": 2}, children=children)
        assert flow.job.result(timeout=60)["twice"] == 4


def test_time(sandboxq, sandboxq_queue):
    queue = sandboxq_queue("numbers")
    job = queue.add("double", {"n": 1}, delay=timedelta(hours=2))
    sandboxq.advance(3600)
    assert sandboxq.drain("numbers", "doubling.py").completed == 0
    sandboxq.advance(timedelta(hours=1))
    assert sandboxq.drain("numbers", "doubling.py").completed == 1
    assert job.state() == "completed"


def test_time_goes_back(sandboxq, sandboxq_queue):
    import time

    assert abs(sandboxq_queue("a").add("b", {}).timestamp_ms / 1000 - time.time()) < 600


def test_time_wakes_a_worker(sandboxq, sandboxq_queue, sandboxq_worker):
    job = sandboxq_queue("numbers").add("double", {"n": 1}, delay=3600)
    with sandboxq_worker("numbers", "doubling.py"):
        sandboxq.advance(3600)
        assert job.result(timeout=60)["twice"] == 2


def test_time_and_inline_retries(sandboxq, sandboxq_queue, sandboxq_inline):
    sandboxq_inline("numbers", "doubling")
    job = sandboxq_queue("numbers").add("double", {}, attempts=3, backoff=60)
    for made in (1, 2, 3):
        assert job.refresh().attempts_made == made
        sandboxq.advance(61)
    assert job.state() == "failed"


def test_scheduler(sandboxq, sandboxq_queue):
    from sandboxq import Repeat

    queue = sandboxq_queue("numbers")
    queue.upsert_scheduler("hourly", Repeat(every=3600), name="double", data={"n": 1})
    sandboxq.drain("numbers", "doubling.py")
    before = queue.counts()["completed"]
    for _ in range(3):
        sandboxq.advance(3600)
        sandboxq.drain("numbers", "doubling.py")
    assert queue.counts()["completed"] == before + 3


def test_assert_enqueued(sandboxq, sandboxq_queue):
    queue = sandboxq_queue("mail")
    queue.add("welcome", {"to": "a@b.c", "tags": ["x", {"k": 1, "l": 2}]}, delay=5, priority=3)
    job = sandboxq.assert_enqueued("mail", "welcome", data={"to": "a@b.c"}, delay=5, priority=3)
    assert job.data["to"] == "a@b.c"
    sandboxq.assert_enqueued("mail", data={"tags": ["x", {"k": 1}]}, count=1)
    sandboxq.refute_enqueued("mail", "goodbye")
    sandboxq.refute_enqueued("other")
    with pytest.raises(AssertionError, match="no job in queue 'mail' fits.*'goodbye'"):
        sandboxq.assert_enqueued("mail", "goodbye")
    with pytest.raises(AssertionError, match="1 jobs, not 2"):
        sandboxq.assert_enqueued("mail", count=2)
    with pytest.raises(AssertionError, match="queue 'mail' has job 1 'welcome'"):
        sandboxq.refute_enqueued("mail", "welcome")
    with pytest.raises(AssertionError, match="the queue is empty"):
        sandboxq.assert_enqueued("other")
    with pytest.raises(UsageError, match="not by 'date'"):
        sandboxq.assert_enqueued("mail", date=1)


def test_a_processor_that_does_not_load(sandboxq):
    with pytest.raises(ProcessorNotLoaded, match="nowhere.py does not exist"):
        sandboxq.drain("numbers", "nowhere.py")
    with pytest.raises(ProcessorNotLoaded):
        sandboxq.worker("numbers", "nowhere.py").start()


def test_a_job_that_hangs(sandboxq, sandboxq_queue, tmp_path):
    (tmp_path / "hanging.py").write_text("import time\\ndef process(job): time.sleep(600)")
    sandboxq_queue("numbers").add("a", {})
    with pytest.raises(TimeoutError, match="still ran"):
        sandboxq.drain("numbers", tmp_path / "hanging.py", within=2)


def test_a_start_that_hangs(sandboxq, tmp_path):
    (tmp_path / "never.py").write_text("import time\\ntime.sleep(600)\\ndef process(job): ...")
    worker = sandboxq.worker("numbers", tmp_path / "never.py")

    class Alarm(BaseException): ...

    def ring(*_):
        raise Alarm

    signal.signal(signal.SIGALRM, ring)
    for begin in (worker.start, worker.drain):
        signal.setitimer(signal.ITIMER_REAL, 1)
        with pytest.raises(Alarm):
            begin()
    with pytest.raises(TimeoutError):
        worker.drain(within=1)
    assert "sandboxq test worker" not in [each.name for each in threading.enumerate()]
"""

OURS = {"sandboxq", "sandboxq.integrations", "sandboxq.integrations.pytest"}
FLAGS = re.MULTILINE | re.DOTALL

ON_ASYNCIO = """
import pytest
@pytest.fixture
def anyio_backend(): return 'asyncio'
"""

ASYNCIO = """
import pytest
from sandboxq import Queue

pytestmark = pytest.mark.{mark}


async def test_async(sandboxq):
    async with Queue("numbers") as queue:
        job = await queue.add("double", {{"n": 4}})
        assert (await sandboxq.adrain("numbers", "doubling.py")).completed == 1
        assert (await job.result(timeout=60))["twice"] == 8
        sandboxq.assert_enqueued("numbers", "double")


async def test_async_inline(sandboxq_inline):
    sandboxq_inline("numbers", "doubling")
    async with Queue("numbers") as queue:
        job = await queue.add("double", {{"n": 4}})
        assert await job.state() == "completed"
"""

SERVERS = """
import os, pathlib, pytest


@pytest.mark.parametrize("number", range(4))
def test_alone(sandboxq, sandboxq_queue, number):
    queue = sandboxq_queue("numbers")
    assert queue.add("a", {}).id == "1"
    pathlib.Path("urls", f"{number}").write_text(sandboxq.url + " " + os.environ["SANDBOXQ_URL"])
"""


def test_the_fixtures(tmp_path: Path) -> None:
    """Each does what its page says, warnings being errors."""
    assert "failed" not in passed(tmp_path, BASICS)


def test_in_tests_with_event_loops(tmp_path: Path) -> None:
    """With pytest-asyncio and with anyio."""
    if find_spec("pytest_asyncio") is None:
        pytest.skip("pytest-asyncio is not installed")
    passed(tmp_path, ASYNCIO.format(mark="asyncio"))
    passed(tmp_path, ASYNCIO.format(mark="anyio") + ON_ASYNCIO, "-p", "no:asyncio")


def test_each_xdist_worker_has_its_server(tmp_path: Path) -> None:
    """Two of them never see each other's jobs; their servers end with them."""
    (tmp_path / "urls").mkdir()

    passed(tmp_path, SERVERS, "-n", "2")

    lines = [path.read_text().split() for path in (tmp_path / "urls").iterdir()]
    assert len(lines) == 4
    assert all(url == variable for url, variable in lines)
    assert len({url for url, _ in lines}) == 2
    assert not [url for url, _ in lines if Path(url.removeprefix("unix://")).exists()]


def test_the_server_ends_with_a_killed_run(tmp_path: Path) -> None:
    """A crash of the tests leaves no server behind."""
    (tmp_path / "urls").mkdir()
    last = "\n\ndef test_crash():\n    import os; os.kill(os.getpid(), 9)\n"

    done = run_pytest(tmp_path, SERVERS + last)

    assert done.returncode == -signal.SIGKILL
    url = (tmp_path / "urls" / "0").read_text().split()[0]
    path = Path(url.removeprefix("unix://"))
    wait_until(lambda: not _listens(path))


def _listens(path: Path) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_a_run_that_uses_none_of_it_loads_none_of_it(tmp_path: Path) -> None:
    """No module of ours but the plugin itself, and so no package that sandboxq depends on."""
    passed(
        tmp_path,
        "import sys\n"
        "def test_nothing():\n"
        "    ours = {each for each in sys.modules if each.startswith('sandboxq')}\n"
        f"    assert ours <= {OURS}\n",
    )


def test_fixtures_are_listed_with_what_they_do(tmp_path: Path) -> None:
    """``pytest --fixtures`` is where people look."""
    done = run_pytest(tmp_path, "", "--fixtures")

    for name in ("sandboxq", "sandboxq_queue", "sandboxq_worker", "sandboxq_inline"):
        assert f"\n{name} --" in done.stdout
    assert "no docstring" not in done.stdout.partition("sandboxq_server")[2]


def test_the_plugin_module_imports_pytest_alone() -> None:
    """It is imported by every pytest run where sandboxq is installed."""
    code = (
        "import sys, pytest; before = set(sys.modules); import sandboxq.integrations.pytest; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [
        "sandboxq",
        "sandboxq.integrations",
        "sandboxq.integrations.pytest",
    ]


def test_the_page(tmp_path: Path) -> None:
    """docs/how-to/testing.md: its application and its tests, as they stand."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "testing.md"
    files = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", page.read_text(), FLAGS))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "conftest.py").write_text(ON_ASYNCIO)

    printed = passed(tmp_path, "", "-p", "no:asyncio")

    assert "6 passed" in printed
