"""Starting: what is wrong with a processor is said once, with its reason; nothing is left."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import ChildStartFailed, ProcessorNotLoaded, UsageError
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool.pool import Pool
from sandboxq.sandbox.processes import descendants_of
from tests.conftest import SOON, run_async
from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path


async def _start(path: object, *, timeout: float = 20, **settings: object) -> None:
    """Start a pool that is expected to fail, and see that nothing of it is left."""
    known = set(descendants_of(os.getpid()))
    try:
        async with asyncio.timeout(60):
            caller = Caller()
            options = {"size": 2, "queue_name": "tests", "policy": "none", **settings}
            pool = Pool(str(path), listener=caller, telemetry=Telemetry(), **options)  # type: ignore[arg-type]
            await pool.start(timeout)
    finally:
        assert set(descendants_of(os.getpid())) <= known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1", "defines no 'process'"),
        ("process = 3", "int, not a function"),
        ("def process(:", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def f():\n    1/0\nf()", "ZeroDivisionError"),
        ("import sys; sys.exit(4)", "sys.exit(4)"),
        ("import os; os._exit(4)", "exited with 4"),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def process(): pass", "takes nothing"),
        ("def process(job, size, *, mode, x=1): pass", "needs more: size, mode"),
        ("def process(job): yield 1", "has a yield"),
        ("async def process(job): yield 1", "has a yield"),
        ("async def setup(): pass\ndef process(job): pass", "nobody would await it"),
    ],
)
def test_processor_that_cannot_be_loaded_is_refused_with_the_reason(
    tmp_path: Path, text: str, expected: str
) -> None:
    """Node restarts such children for ever; here the start fails, once."""
    path = processor_file(tmp_path, text)
    with pytest.raises(ProcessorNotLoaded) as caught:
        run_async(_start(path))
    assert expected in str(caught.value)
    assert "chores.py" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "def process(job, size=3, *, mode=None): return 'fine'",
        "def process(*jobs, **options): return 'fine'",
        "process = lambda job: 'fine'",
        "class P:\n    def __call__(self, job): return 'fine'\nprocess = P()",
        "import functools\ndef p(x, job): return 'fine'\nprocess = functools.partial(p, 1)",
        "async def setup(): pass\nasync def process(job): return 'fine'",
    ],
)
def test_whatever_can_be_called_with_a_job_is_a_processor(tmp_path: Path, text: str) -> None:
    """Only what fails for every job is refused."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, text)) as caller:
            assert await caller.value() == "fine"

    run_async(main())


def test_junk_among_the_messages_of_the_import_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An import that writes to every descriptor hits ours too: said in the log, and no more."""
    text = """
import os
for fd in map(int, os.listdir('/proc/self/fd')):
    if fd < 3: continue
    try: os.write(fd, b"junk")
    except OSError: pass
def process(job): return "fine"
"""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, text)) as caller:
            assert await caller.value() == "fine"

    run_async(main())
    assert "sent data that is no message" in caplog.text


def test_trace_of_a_failed_import_shows_the_users_frames_only(tmp_path: Path) -> None:
    """The line that failed is what the user can mend."""
    path = processor_file(tmp_path, "def f():\n    1/0\nf()\ndef process(job): pass\n")
    with pytest.raises(ProcessorNotLoaded) as caught:
        run_async(_start(path))
    text = str(caught.value)
    assert "line 2, in f" in text
    assert "importlib" not in text
    assert "loader.py" not in text


def test_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    """A typing error in a path is the commonest mistake of all."""
    with pytest.raises(ProcessorNotLoaded, match="does not exist"):
        run_async(_start(tmp_path / "nowhere.py"))


def test_import_that_hangs_is_ended_and_says_where(tmp_path: Path) -> None:
    """A deployment that waits for ever tells nobody what for."""
    text = "import subprocess, time\nsubprocess.Popen(['sleep', '300'])\ntime.sleep(300)\n"
    path = processor_file(tmp_path, text)
    started = time.monotonic()
    with pytest.raises(ProcessorNotLoaded) as caught:
        run_async(_start(path, timeout=1))
    assert time.monotonic() - started < SOON  # of 300
    assert "did not end within 1 s" in str(caught.value)
    assert "chores.py" in str(caught.value)
    assert "line 3" in str(caught.value)


def test_setup_that_fails_is_a_failed_start(tmp_path: Path) -> None:
    """No job may be blamed for a model file that is missing."""
    text = "def setup():\n    raise OSError('no model')\ndef process(job): pass\n"
    with pytest.raises(ChildStartFailed) as caught:
        run_async(_start(processor_file(tmp_path, text)))
    assert "setup() failed: OSError: no model" in str(caught.value)
    assert "line 2, in setup" in str(caught.value)


def test_setup_that_hangs_is_a_failed_start(tmp_path: Path) -> None:
    """The time given to start() holds for setup() too."""
    text = "import time\ndef setup():\n    time.sleep(300)\ndef process(job): pass\n"
    with pytest.raises(ChildStartFailed, match="setup"):
        run_async(_start(processor_file(tmp_path, text), timeout=2))


def test_concurrency_needs_an_async_processor(tmp_path: Path) -> None:
    """A plain function runs one job at once; silently doing so would halve the throughput."""
    path = processor_file(tmp_path, "def process(job): pass\n")
    with pytest.raises(UsageError, match="async def"):
        run_async(_start(path, concurrency=4))


def test_unknown_policies_are_refused_when_the_pool_is_made() -> None:
    """A sandbox is never silently weaker than its name."""
    settings = {"size": 1, "queue_name": "q", "listener": Caller(), "telemetry": Telemetry()}
    with pytest.raises(UsageError, match="unknown policy"):
        Pool("x.py", policy="safe", **settings)  # type: ignore[arg-type]


def test_processor_of_a_module_and_of_a_named_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applications name functions of their packages; files may hold several."""
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "work.py").write_text("def shrink(job): return 'shrunk'\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main(spec: str) -> None:
        async with open_pool(spec) as caller:
            assert await caller.value({}) == "shrunk"

    run_async(main("some_package.work:shrink"))
    run_async(main(f"{tmp_path}/some_package/work.py:shrink"))


def test_file_is_loaded_like_a_script(tmp_path: Path) -> None:
    """Its neighbours can be imported, and pickle finds its classes under the file's name."""
    (tmp_path / "neighbour.py").write_text("COLOUR = 'green'\n")
    text = "import neighbour, sys\ndef process(job):\n    return [neighbour.COLOUR, __name__, "
    text += "sys.modules[__name__].process is process]\n"
    path = processor_file(tmp_path, text, "my_work.py")

    async def main() -> None:
        async with open_pool(path) as caller:
            assert await caller.value({}) == ["green", "my_work", True]

    run_async(main())


def test_name_of_a_standard_module_does_no_harm(tmp_path: Path) -> None:
    """People call files json.py; the zygote must still find the real one."""
    text = "def process(job): return job.data\n"
    path = processor_file(tmp_path, text, "json.py")

    async def main() -> None:
        async with open_pool(path) as caller:
            assert await caller.value({"a": 1}) == {"a": 1}

    run_async(main())


def test_processor_that_starts_threads_is_imported_by_each_child(tmp_path: Path) -> None:
    """A fork copies one thread and the locks of all: sooner or later a child hangs."""
    text = (
        "import threading, time, os\n"
        "threading.Thread(target=time.sleep, args=(300,), daemon=True).start()\n"
        "def process(job): return threading.active_count()\n"
    )
    path = processor_file(tmp_path, text)

    async def main() -> None:
        async with open_pool(path, size=2) as caller:
            assert not caller.pool.is_preloaded
            assert any("each child" in note for note in caller.pool.notes)
            assert await caller.value({}) == 2

    run_async(main())


def test_setup_runs_once_per_child_and_teardown_at_its_end(tmp_path: Path) -> None:
    """Models are loaded once, and connections closed."""
    log = tmp_path / "log"
    text = (
        f"import os\nlog = {str(log)!r}\n"
        "def note(what):\n    open(log, 'a').write(what + ' ')\n"
        "def setup(): note('setup')\n"
        "def teardown(): note('teardown')\n"
        "def process(job): note('job')\n"
    )
    path = processor_file(tmp_path, text)

    async def main() -> None:
        async with open_pool(path) as caller:
            await caller.run({})
            await caller.run({})

    run_async(main())
    assert log.read_text() == "setup job job teardown "


def test_random_numbers_differ_between_children(tmp_path: Path) -> None:
    """All children are forks of one process: numpy would give them the same numbers."""
    pytest.importorskip("numpy")
    text = (
        "import numpy, random, os\n"
        "def process(job): return [os.getpid(), random.random(), numpy.random.rand()]\n"
    )
    path = processor_file(tmp_path, text)

    async def main() -> None:
        async with open_pool(path, size=2) as caller:
            calls = [caller.submit({}) for _ in range(2)]
            for call in calls:
                await caller.outcome(call)
            await caller.pool.resize(4)
            seen = [await caller.value({}) for _ in range(8)]
            assert len({value for _, value, _ in seen}) == 8
            assert len({value for _, _, value in seen}) == 8

    run_async(main())


def test_imports_print_to_the_worker(tmp_path: Path) -> None:
    """What a module says when it is imported explains many a failure."""
    path = processor_file(tmp_path, "print('hello')\ndef process(job): pass\n")

    async def main() -> None:
        async with open_pool(path) as caller:
            assert caller.lines == [(None, "stdout", "hello")]
            await caller.run({})
            assert len(caller.lines) == 1  # not printed again by each fork

    run_async(main())


def test_stop_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    """Whoever gives up on a slow import must not leave a process that imports on."""
    path = processor_file(tmp_path, "import time\ntime.sleep(30)\ndef process(job): pass\n")

    async def main() -> None:
        known = set(descendants_of(os.getpid()))
        pool = Pool(str(path), size=1, listener=Caller(), queue_name="tests", telemetry=Telemetry())
        starting = asyncio.ensure_future(pool.start())
        await asyncio.sleep(0.3)
        assert set(descendants_of(os.getpid())) - known
        await pool.stop(timeout=1)
        assert set(descendants_of(os.getpid())) <= known
        with pytest.raises((ProcessorNotLoaded, ChildStartFailed)):
            await starting
        assert set(descendants_of(os.getpid())) <= known

    run_async(main())


def test_children_never_take_the_core_of_who_wakes_them(tmp_path: Path) -> None:
    """With short jobs an ordinary process would take it for every second job, and give it back."""

    async def policies() -> set[int]:
        path = processor_file(tmp_path, "def process(job): pass\n")
        async with open_pool(path, size=2) as caller:
            return {os.sched_getscheduler(pid) for pid in caller.pool.pids}

    assert run_async(policies()) == {os.SCHED_BATCH}


def test_import_that_ends_just_as_it_is_asked_where_it_is(tmp_path: Path) -> None:
    """It came in time, or too late; both are said, and nothing else happens."""
    path = processor_file(
        tmp_path,
        """
import os, sys, time

while not os.fstat(int(sys.argv[2])).st_size: time.sleep(0.001)
time.sleep(0.005)

def process(job): return "fine"
""",
    )

    async def main() -> None:
        for _ in range(3):
            listener, telemetry = Caller(), Telemetry()
            pool = Pool(str(path), size=1, listener=listener, queue_name="t", telemetry=telemetry)
            with suppress(ProcessorNotLoaded):
                await pool.start(0.5)
            await pool.stop(timeout=5)

    run_async(main())
