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

from sandboxq.model.outcome import Completed, Failed
from sandboxq.sandbox.mechanisms import cgroup
from sandboxq.sandbox.policy import Policy
from tests.conftest import SOON, run_async, wait_until, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.pool.children.zygote_client import ZygoteClient

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
    before = cgroup.own_groups()
    yield
    wait_until(lambda: cgroup.own_groups() == before)


def _squeeze(folders: list[str], name: str, most: int) -> None:
    """Limit a running group to what a test can reach."""
    for folder in folders:
        for file in ("memory.max", "memory.limit_in_bytes", "pids.max"):
            path = Path(folder) / file
            if file.startswith(name) and path.exists():
                path.write_text(str(most))


def _folders_of(server: ZygoteClient, pid: int) -> list[str]:
    """Return where a child is, in each hierarchy."""
    found = server.group_of(pid)
    assert found is not None
    return [f"{folder}/{found.name}" for folder in server.group.folders]


def _members(folders: list[str]) -> list[set[int]]:
    return [set(cgroup.members(folder)) for folder in folders]


def test_children_are_born_in_it(tmp_path: Path) -> None:
    """The zygote in one, each child in one of its own, the coordinator in none."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), size=2) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            assert len(server.group.folders) == len(_HOMES)
            for members in _members([f"{each}/server" for each in server.group.folders]):
                assert server.pid in members
                assert not members & {os.getpid(), *caller.pool.pids}
            for pid in caller.pool.pids:
                assert all(each == {pid} for each in _members(_folders_of(server, pid)))

    run_async(main())


@needs_memory
def test_the_kernel_ends_what_outruns_the_watch(tmp_path: Path) -> None:
    """The owner of the job reads that it was memory, and of how much; the others go on."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, policy=Policy(memory=2 << 30)) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            assert server.group.limits["memory"] > 4 << 30
            _squeeze(server.group.folders, "memory", 150 << 20)
            outcome = await caller.run("eat")
            assert isinstance(outcome, Failed)
            assert (outcome.cause, outcome.is_crash) == ("JobMemoryExceeded", True), outcome
            assert "control group" in outcome.reason
            assert outcome.facts is not None
            assert int(outcome.facts["limit"]) == server.group.limits["memory"]
            assert int(outcome.facts["peak"]) > 50 << 20
            assert isinstance(await caller.run("honest"), Completed)

    run_async(main())


@needs_memory
def test_a_later_sigkill_is_no_lack_of_memory(tmp_path: Path) -> None:
    """Each end that the kernel counts explains one death."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, policy=Policy(memory=2 << 30)) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            _squeeze(server.group.folders, "memory", 150 << 20)
            assert isinstance(await caller.run("eat"), Failed)
            assert (await caller.failure("die")).cause == "JobCrashed"

    run_async(main())


@needs_pids
def test_forks_end_at_the_groups_limit(tmp_path: Path) -> None:
    """A bomb between two looks of the watch fails in the kernel."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES)) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            _squeeze(server.group.folders, "pids", 50)
            count = await caller.value("fork")
            assert 10 < count < 50

    run_async(main())


@needs_pids
def test_more_children_while_another_zygote_starts(tmp_path: Path) -> None:
    """Its limits are for as many as there are to be, not for those before."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), policy="limits") as caller:
            supervisor = caller.pool.supervisor
            server = supervisor.server
            assert server is not None
            before = server.group.limits["pids"]

            async def is_lost() -> bool:
                return supervisor.server is not server

            os.kill(server.pid, signal.SIGKILL)
            await wait_until_async(is_lost)
            await caller.pool.resize(3)
            assert supervisor.server is not None
            assert supervisor.server.group.limits["pids"] > before

    run_async(main())


def test_policy_none_limits_nothing(tmp_path: Path) -> None:
    """Its group is for killing alone."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES), policy="none") as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            assert server.group.limits == {}

    run_async(main())


def test_a_killed_server_leaves_no_group(tmp_path: Path) -> None:
    """It cannot clean up; its successor has a group of its own."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES)) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            folders = server.group.folders
            os.kill(server.pid, signal.SIGKILL)
            supervisor = caller.pool.supervisor
            await asyncio.to_thread(wait_until, lambda: supervisor.server not in (None, server))
            successor = caller.pool.supervisor.server
            assert successor is not None
            assert successor.group.folders
            assert set(successor.group.folders).isdisjoint(folders)
            assert not any(map(os.path.exists, folders))
            assert isinstance(await caller.run("honest"), Completed)

    run_async(main())


def test_a_killed_coordinator_leaves_no_group(tmp_path: Path) -> None:
    """The zygote moves out and removes it, the last thing it does."""
    program = f"""
        import asyncio, os, sys
        from tests.pool.caller import open_pool
        async def main():
            async with open_pool({str(processor_file(tmp_path, _CHORES))!r}) as caller:
                print(*caller.pool.supervisor.server.group.folders, flush=True)
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
    """When zygote and coordinator die at once, the next start removes what they left."""
    home = Path(_HOMES[0].path)
    left = home / f"sandboxq-pool-left-{os.getpid()}"
    (left / "c-1").mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stray:
        (left / "c-1" / "cgroup.procs").write_text(str(stray.pid))
        group = cgroup.Group()

        def is_swept() -> bool:
            """By us, or by another worker that has started just now."""
            cgroup.Group().remove()
            return stray.poll() is not None and not left.exists()

        wait_until(is_swept)
        assert stray.returncode == -signal.SIGKILL
        assert all(map(os.path.exists, group.folders))
        cgroup.Group().remove()  # of a worker that lives nothing is swept
        assert all(map(os.path.exists, group.folders))
        started = time.monotonic()
        group.remove()
        assert time.monotonic() - started < SOON


_IN_A_NAMESPACE = """
import asyncio, os, sys
from tests.pool.caller import open_pool
async def main(path):
    async with open_pool(path) as caller:
        print(os.getpid(), caller.pool.pids, flush=True)
        sys.stdin.readline()
        print(await caller.value(), flush=True)
asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a PID namespace")
def test_a_worker_in_another_pid_namespace_is_left_alone(tmp_path: Path) -> None:
    """Its processes have other numbers here, or none; what it owns says so itself."""
    path = str(processor_file(tmp_path, _CHORES))
    mounts = 'mount -t proc proc /proc; exec "$@"'
    inside = ["unshare", "--pid", "--fork", "--mount", "--kill-child", "sh", "-c", mounts, "sh"]
    command = [*inside, sys.executable, "-c", _IN_A_NAMESPACE, path]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first:
            pytest.skip("no PID namespaces here")
        for _ in range(3):
            cgroup.Group().remove()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() in first


_UNSEEN = """
import os, socket, time
def process(job):
    kept = []
    match job.data:
        case "memfd":
            for _ in range(30):
                fd = os.memfd_create("hidden")
                os.close(os.dup(fd))
                for _ in range(10): os.write(fd, bytes(1 << 20))
                kept.append(fd)
        case "sockets":
            for _ in range(1500):
                near, far = socket.socketpair()
                near.setblocking(False)
                try:
                    while True: near.send(bytes(1 << 16))
                except BlockingIOError: pass
                kept += [near, far]
        case _: return "ran"
    time.sleep(30)
"""


@needs_memory
@pytest.mark.parametrize("where", ["memfd", "sockets"])
def test_memory_that_no_process_shows(tmp_path: Path, where: str) -> None:
    """Files in memory and full sockets count for the child that made them, and it is ended."""
    policy = Policy(memory=64 << 20)

    async def main() -> None:
        path = processor_file(tmp_path, _UNSEEN)
        async with open_pool(path, policy=policy, max_result=1 << 20) as caller:
            failure = await caller.failure(where)
            assert failure.cause == "JobMemoryExceeded", failure
            assert await caller.value("honest") == "ran"

    run_async(main())


@needs_memory
def test_the_kernel_ends_a_child_at_its_own_limit(tmp_path: Path) -> None:
    """The neighbour's job does not notice, and whose limit it was is said."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, size=2, policy=Policy(memory=2 << 30)) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            for pid in caller.pool.pids:
                _squeeze(_folders_of(server, pid), "memory", 100 << 20)
            failure = await caller.failure("eat")
            assert (failure.cause, failure.is_crash) == ("JobMemoryExceeded", True), failure
            assert "it and all it has started" in failure.reason
            assert failure.facts is not None
            assert int(failure.facts["limit"]) == 100 << 20
            assert isinstance(await caller.run("honest"), Completed)

    run_async(main())


def test_a_dead_child_leaves_no_group(tmp_path: Path) -> None:
    """Thousands of children in one pool would be thousands of groups."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _CHORES)) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            for _ in range(3):
                folders = _folders_of(server, await caller.value("honest"))
                await caller.run("die")
                await asyncio.to_thread(wait_until, lambda: not any(map(os.path.exists, folders)))  # noqa: B023 - awaited

    run_async(main())
