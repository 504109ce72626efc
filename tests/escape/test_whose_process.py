"""Whose a process is: what has lost its parents stays its child's, whatever it says of itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed
from sandboxq.sandbox.policy import Policy
from sandboxq.sandbox.processes import children_of, descendants_of, living
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import lives, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_CHORES = """
import ctypes, os, signal, tempfile, time

def daemon(work):
    # Two forks and a session of its own: nothing of its child is left to see.
    near, far = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(far, b"%d" % os.getpid())
            work()
            os._exit(0)
        os._exit(0)
    os.wait()
    return int(os.read(near, 20))

def claim(victim):
    # What the environment of this process says, to whoever reads it in /proc.
    fields = open("/proc/self/stat").read().rpartition(") ")[2].split()
    start, end = int(fields[47]), int(fields[48])
    text = b"SANDBOXQ_CHILD=%d\\0" % victim
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))

def burn():
    end = time.process_time() + 30
    while time.process_time() < end: pass

def fill():
    kept = []
    for _ in range(8):
        kept.append(tempfile.TemporaryFile(buffering=0))
        for _ in range(8): kept[-1].write(bytes(1 << 20))
    time.sleep(60)

def process(job):
    match job.data:
        case ["wait"]:
            time.sleep(1)
            return "honest"
        case ["forge", victim]:
            pid = daemon(lambda: (claim(victim), time.sleep(60)))
            print(pid, flush=True)
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        case ["let go"]:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.prctl(36, ctypes.c_ulong(0)): raise OSError(ctypes.get_errno(), "refused")
            return daemon(lambda: time.sleep(60))
        case ["burn"]: daemon(burn)
        case ["fill"]: daemon(fill)
        case ["many"]:
            for _ in range(30): daemon(lambda: time.sleep(60))
        case ["ended"]:
            for _ in range(40): daemon(lambda: None)
            return "ran"
    time.sleep(30)
"""
_POLICIES = [Policy("limits"), Policy("strict", subprocess=True)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a processor that starts what outlives its parents."""
    return processor_file(tmp_path, textwrap.dedent(_CHORES))


@pytest.mark.parametrize("policy", _POLICIES, ids=lambda policy: policy.name)
def test_forging_another_child_s_name(path: Path, policy: Policy) -> None:
    """It ends with its own child, and the one that it named is charged for nothing."""

    async def main() -> None:
        async with open_pool(path, size=2, policy=policy) as caller:
            victim = caller.submit(["wait"])
            child = next(c for c in caller.pool.supervisor.children if victim.seq in c.flying)
            await caller.run(["forge", child.pid])
            lines = [line for _, stream, line in caller.lines if stream == "stdout"]
            assert lines, caller.lines
            pid = int(lines[0])
            await wait_until_async(lambda: _is_gone(pid))
            assert isinstance(await caller.outcome(victim), Completed)

    run_async(main())


@pytest.mark.parametrize("policy", ["limits", "strict"])
@pytest.mark.parametrize(
    ("chore", "limits", "cause"),
    [
        ("burn", {"cpu_seconds": 0.5}, "JobCpuExceeded"),
        ("fill", {"scratch": 16 << 20}, "JobScratchExceeded"),
        ("many", {"processes": 10}, "JobProcessesExceeded"),
    ],
)
def test_what_a_daemon_uses_is_its_job_s(
    path: Path, policy: str, chore: str, limits: dict[str, int], cause: str
) -> None:
    """CPU, files, processes, also when nothing but its child is left above it."""
    grants = {"subprocess": True} if policy == "strict" else {}

    async def main() -> None:
        async with open_pool(path, policy=Policy(policy, **limits, **grants)) as caller:  # type: ignore[arg-type]  # as parametrized
            failure = await caller.failure([chore])
            assert failure.cause == cause, failure

    run_async(main())


def test_a_job_that_lets_its_orphans_go(path: Path) -> None:
    """Under `limits` it can: they are nobody's then, and end. `strict` does not let it."""

    async def main() -> None:
        async with open_pool(path, policy="limits") as caller:
            pid = await caller.value(["let go"])
            await wait_until_async(lambda: _is_gone(pid))
            assert isinstance(await caller.run(["wait"]), Completed)
        async with open_pool(path, policy=_POLICIES[1]) as caller:
            assert (await caller.failure(["let go"])).cause == "PermissionError"

    run_async(main())


def test_orphans_that_have_ended_do_not_count(path: Path) -> None:
    """A job that starts many short programs in the background has no more than one at a time."""

    async def main() -> None:
        async with open_pool(path, policy=Policy(processes=20)) as caller:
            assert await caller.value(["ended"]) == "ran"
            await asyncio.sleep(0.3)  # the watch looks ten times a second
            assert isinstance(await caller.run(["ended"]), Completed)

    run_async(main())


def test_a_child_s_end_takes_all_below_it(path: Path) -> None:
    """Also what no signal to a group reaches."""

    async def main() -> None:
        async with open_pool(path, policy=Policy("strict", subprocess=True)) as caller:
            call = caller.submit(["many"])
            child = caller.pool.supervisor.children[0]
            server = caller.pool.supervisor.server
            assert server is not None

            async def are_there() -> bool:
                return len(descendants_of(child.pid)) >= 30

            await wait_until_async(are_there)
            pids = descendants_of(child.pid)
            child.kill()
            await caller.outcome(call)

            async def are_gone() -> bool:
                return not set(pids) & set(children_of(server.pid))

            await wait_until_async(are_gone)
            assert not living(pids)

    run_async(main())


_READ_ONLY = """
for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
    mount --bind $folder $folder && mount -o remount,ro,bind $folder
done 2>/dev/null
exec "$@"
"""
_PROGRAM = """
import asyncio, os, sys
from sandboxq.sandbox.processes import living
from tests.conftest import wait_until_async
from tests.pool.caller import open_pool

async def main(path):
    async with open_pool(path, size=2, policy="limits") as caller:
        print("groups:", caller.pool.supervisor.server.group.folders)
        victim = caller.submit(["wait"])
        child = next(c for c in caller.pool.supervisor.children if victim.seq in c.flying)
        await caller.run(["forge", child.pid])
        pid = int(next(line for _, stream, line in caller.lines if stream == "stdout"))
        async def is_gone(): return not living([pid])
        await wait_until_async(is_gone)
        print("victim:", (await caller.outcome(victim)).value)
asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
def test_without_control_groups(path: Path) -> None:
    """In a container they are read-only, as a rule: whose a process is must not need them."""
    inside = ["unshare", "--mount", "sh", "-c", _READ_ONLY, "sh"]
    command = [*inside, sys.executable, "-c", _PROGRAM, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if "unshare" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.stdout == "groups: []\nvictim: b'\"honest\"'\n", done.stderr


async def _is_gone(pid: int) -> bool:
    return not lives(pid)
