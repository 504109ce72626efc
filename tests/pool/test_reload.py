"""New code in a running pool: child by child, and only if it can be run."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import ChildStartFailed, ProcessorNotLoaded, UsageError
from sandboxq.model.outcome import Completed
from sandboxq.observe.telemetry import ChildDied
from sandboxq.pool.kinds import Kind
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import Caller, lives, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)

CODE = """
import os, time
VALUE = {value!r}
def setup():
    {setup}
def process(job):
    while job.data == "long" and not os.path.exists({go!r}):
        time.sleep(0.01)
    return VALUE
"""


@pytest.fixture(autouse=True)
def _is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of one size in one second would else be one compiled file."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


def write(folder: Path, value: str, *, setup: str = "pass") -> Path:
    """Write a processor that returns this value; size and second are those of the one before."""
    return processor_file(folder, CODE.format(value=value, setup=setup, go=str(folder / "go")))


async def server_is_gone(caller: Caller, pid: int) -> bool:
    """Tell whether a former zygote has ended and is forgotten."""
    return len(caller.pool.supervisor.servers) == 1 and not lives(pid)


def test_each_child_is_replaced_and_finishes_what_it_runs(tmp_path: Path) -> None:
    """Never are fewer there; the former zygote leaves with the last of its children."""
    path = write(tmp_path, "old")

    async def main() -> None:
        async with open_pool(path, size=2, policy="limits") as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            long = caller.submit("long")
            await caller.until_begun(long)
            write(tmp_path, "new")
            await caller.pool.reload(60)
            assert [await caller.value() for _ in range(4)] == ["new"] * 4
            assert caller.pool.size == 2
            assert long.key not in caller.outcomes
            (tmp_path / "go").touch()
            assert await caller.outcome(long) == Completed(b'"old"')
            await wait_until_async(lambda: server_is_gone(caller, server.pid))

    run_async(main())


@pytest.mark.parametrize(
    ("setup", "text", "error"),
    [
        ("pass", "def process(job:\n", ProcessorNotLoaded),
        ("raise ValueError('no')", "", ChildStartFailed),
    ],
)
def test_code_that_cannot_run_changes_nothing(
    tmp_path: Path, setup: str, text: str, error: type[Exception]
) -> None:
    """Neither what does not load, nor what loads and has a setup() that fails."""
    path = write(tmp_path, "old")

    async def main() -> None:
        async with open_pool(path, size=2, policy="limits") as caller:
            pids = set(caller.pool.pids)
            write(tmp_path, "bad", setup=setup)
            if text:
                path.write_text(text)
            with pytest.raises(error):
                await caller.pool.reload(60)
            assert set(caller.pool.pids) == pids
            assert [await caller.value() for _ in range(4)] == ["old"] * 4
            write(tmp_path, "new")
            await caller.pool.reload(60)
            assert await caller.value() == "new"

    run_async(main())


def test_a_setup_that_hangs_is_given_up(tmp_path: Path) -> None:
    """Within the start timeout; the code before runs on meanwhile, and afterwards."""
    path = write(tmp_path, "old")

    async def main() -> None:
        async with open_pool(path, size=2, policy="limits") as caller:
            pids = set(caller.pool.pids)
            write(tmp_path, "bad", setup="time.sleep(3600)")
            reloading = asyncio.create_task(caller.pool.reload(5))
            while not reloading.done():
                assert await caller.value() == "old"
            with pytest.raises(
                ChildStartFailed, match=r"not ready within 5 s \(does setup\(\) hang"
            ):
                await reloading
            assert set(caller.pool.pids) == pids
            write(tmp_path, "new")
            await caller.pool.reload(60)
            assert await caller.value() == "new"

    run_async(main())


def test_a_former_zygote_that_dies_takes_its_own_children_alone(tmp_path: Path) -> None:
    """A job that it ran fails; those with the new code do not notice."""
    path = write(tmp_path, "old")

    async def main() -> None:
        async with open_pool(path, size=1, policy="limits") as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            long = caller.submit("long")
            await caller.until_begun(long)
            write(tmp_path, "new")
            await caller.pool.reload(60)
            pids = caller.pool.supervisor.ready[0].pid
            os.kill(server.pid, signal.SIGKILL)
            await caller.outcome(long)
            await wait_until_async(lambda: server_is_gone(caller, server.pid))
            assert await caller.value() == "new"
            assert caller.pool.supervisor.ready[0].pid == pids

    run_async(main())


def test_a_zygote_without_children_leaves_at_once(tmp_path: Path) -> None:
    """None can start with the code before: with the new code they do, by one zygote alone."""
    broken = tmp_path / "broken"
    path = write(tmp_path, "old", setup=f"assert not os.path.exists({str(broken)!r})")

    async def main() -> None:
        async with open_pool(path, size=1, policy="limits") as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            broken.touch()
            os.kill(caller.pool.pids[0], signal.SIGKILL)
            await wait_until_async(lambda: is_without_children(caller))
            write(tmp_path, "new")
            await caller.pool.reload(60)
            await wait_until_async(lambda: server_is_gone(caller, server.pid))
            assert await caller.value() == "new"

    run_async(main())


async def is_without_children(caller: Caller) -> bool:
    """Tell whether some starts have failed, and the next one is not tried for a while."""
    died = sum(isinstance(event, ChildDied) for event in caller.events)
    return died > 4 and not caller.pool.supervisor.children


def test_no_descriptors_for_another_zygote(tmp_path: Path) -> None:
    """An error of the system is an error of the reload: the code before runs on."""
    path = write(tmp_path, "old")

    async def main() -> None:
        async with open_pool(path, size=1, policy="limits") as caller:
            write(tmp_path, "new")
            free = os.dup(0)
            os.close(free)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                with pytest.raises(ChildStartFailed, match="no zygote can be started"):
                    await caller.pool.reload(60)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert await caller.value() == "old"
            await caller.pool.reload(60)
            assert await caller.value() == "new"

    run_async(main())


def test_threads_keep_their_code(tmp_path: Path) -> None:
    """What this process has imported cannot be unloaded: said, and nothing happens."""
    path = write(tmp_path, "old")

    async def main() -> None:
        async with open_pool(path, kind=Kind.THREAD) as caller:
            write(tmp_path, "new")
            with pytest.raises(UsageError, match="restart the worker"):
                await caller.pool.reload(60)
            assert await caller.value() == "old"

    run_async(main())
