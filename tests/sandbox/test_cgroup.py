"""Control groups: limits of all children together, and nothing left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.outcome import Completed, Failed
from sandboxq.sandbox import cgroup
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async, wait_until
from tests.pool.desk import open_pool, processor_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOMES = cgroup.homes()
_LIMITED = {name for home in _HOMES for name in home.controllers}
pytestmark = pytest.mark.skipif(not _HOMES, reason="no cgroup is writable here")
needs_memory = pytest.mark.skipif("memory" not in _LIMITED, reason="no memory controller here")
needs_pids = pytest.mark.skipif("pids" not in _LIMITED, reason="no pids controller here")

_CHORES = """
import mmap, os, time

def process(job):
    if job.data == "eat":
        area = mmap.mmap(-1, 300 << 20)  # shared: no limit of private memory sees it
        for start in range(0, len(area), 4096):
            area[start] = 1
    elif job.data == "die":
        os.kill(os.getpid(), 9)
    elif job.data == "fork":
        pids = []
        try:
            for _ in range(300):
                pid = os.fork()
                if pid == 0: time.sleep(60)
                pids.append(pid)
        except BlockingIOError:
            return len(pids)
    return os.getpid()
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """See that no group stays."""
    before = cgroup.groups_of(os.getpid())
    yield
    wait_until(lambda: cgroup.groups_of(os.getpid()) == before)


def _squeeze(group: cgroup.Group, name: str, most: int) -> None:
    """Limit a running group to what a test can reach."""
    for folder in group.folders:
        for file in ("memory.max", "memory.limit_in_bytes", "pids.max"):
            path = Path(folder) / file
            if file.startswith(name) and path.exists():
                path.write_text(str(most))


def _members(group: cgroup.Group) -> list[set[int]]:
    procs = [Path(folder) / "cgroup.procs" for folder in group.folders]
    return [set(map(int, path.read_text().split())) for path in procs]


def test_children_are_born_in_it(tmp_path: Path) -> None:
    """Fork server, children and what they start, in each hierarchy; the coordinator in none."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), size=2) as desk:
            server = desk.pool.crew.server
            assert server is not None
            assert len(server.group.folders) == len(_HOMES)
            for members in _members(server.group):
                assert {server.pid, *desk.pool.pids} <= members
                assert os.getpid() not in members

    run_async(main())


@needs_memory
def test_the_kernel_ends_what_outruns_the_watch(tmp_path: Path) -> None:
    """The owner of the job reads that it was memory, and of how much; the others go on."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, policy=Policy(memory=2 << 30)) as desk:
            server = desk.pool.crew.server
            assert server is not None
            assert server.group.limits["memory"] > 4 << 30
            _squeeze(server.group, "memory", 150 << 20)
            outcome = await desk.run("eat")
            assert isinstance(outcome, Failed)
            assert (outcome.cause, outcome.is_crash) == ("JobMemoryExceeded", True), outcome
            assert "control group" in outcome.reason
            assert outcome.facts is not None
            assert int(outcome.facts["limit"]) == server.group.limits["memory"]
            assert int(outcome.facts["peak"]) > 50 << 20
            assert isinstance(await desk.run("honest"), Completed)

    run_async(main())


@needs_memory
def test_a_later_sigkill_is_no_lack_of_memory(tmp_path: Path) -> None:
    """Each end that the kernel counts explains one death."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, policy=Policy(memory=2 << 30)) as desk:
            server = desk.pool.crew.server
            assert server is not None
            _squeeze(server.group, "memory", 150 << 20)
            assert isinstance(await desk.run("eat"), Failed)
            assert (await desk.failure("die")).cause == "JobCrashed"

    run_async(main())


@needs_pids
def test_forks_end_at_the_groups_limit(tmp_path: Path) -> None:
    """A bomb between two looks of the watch fails in the kernel."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES)) as desk:
            server = desk.pool.crew.server
            assert server is not None
            _squeeze(server.group, "pids", 50)
            count = await desk.value("fork")
            assert 10 < count < 50

    run_async(main())


def test_policy_none_limits_nothing(tmp_path: Path) -> None:
    """Its group is for killing alone."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), policy="none") as desk:
            server = desk.pool.crew.server
            assert server is not None
            assert server.group.limits == {}

    run_async(main())


def test_a_killed_server_leaves_no_group(tmp_path: Path) -> None:
    """It cannot clean up; its successor has a group of its own."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES)) as desk:
            server = desk.pool.crew.server
            assert server is not None
            folders = server.group.folders
            os.kill(server.pid, signal.SIGKILL)
            crew = desk.pool.crew
            await asyncio.to_thread(wait_until, lambda: crew.server not in (None, server))
            successor = desk.pool.crew.server
            assert successor is not None
            assert successor.group.folders
            assert set(successor.group.folders).isdisjoint(folders)
            assert not any(map(os.path.exists, folders))
            assert isinstance(await desk.run("honest"), Completed)

    run_async(main())


def test_a_killed_coordinator_leaves_no_group(tmp_path: Path) -> None:
    """The fork server moves out and removes it, the last thing it does."""
    program = f"""
        import asyncio, os, sys
        from tests.pool.desk import open_pool
        async def main():
            async with open_pool({str(processor_file(tmp_path, _CHORES))!r}) as desk:
                print(*desk.pool.crew.server.group.folders, flush=True)
                await asyncio.sleep(60)
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folders = process.stdout.readline().split()
        assert folders
        assert all(map(os.path.exists, folders))
        process.kill()
    wait_until(lambda: not any(map(os.path.exists, folders)))


def test_groups_of_the_dead_are_swept() -> None:
    """When fork server and coordinator die at once, the next start removes what they left."""
    home = Path(_HOMES[0].path)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        pass
    left = home / f"sandboxq-{gone.pid}-1-1"
    left.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stray:
        (left / "cgroup.procs").write_text(str(stray.pid))
        group = cgroup.Group()
        assert stray.wait(10) == -signal.SIGKILL
        assert not left.exists()
        assert all(map(os.path.exists, group.folders))
        cgroup.Group().remove()  # of a worker that lives nothing is swept
        assert all(map(os.path.exists, group.folders))
        started = time.monotonic()
        group.remove()
        assert time.monotonic() - started < 1
