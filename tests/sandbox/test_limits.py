"""The policies `none` and `limits`, seen from inside a child."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxq.errors import ChildStartFailed
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async, wait_until
from tests.pool.caller import open_pool, processor_file

_CHORES = """
import mmap, os, resource, tempfile, time

def process(job):
    return globals()[job.data["do"]](job)

def facts(job):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "session": os.getsid(0) == os.getpid(),
        "group": os.getpgid(0) == os.getpid(),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "file_size": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
        "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
        "no_new_privs": status["NoNewPrivs"].strip(),
        "temp": tempfile.gettempdir(),
        "stdin": os.readlink("/proc/self/fd/0"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "environ": dict(os.environ),
    }

def hoard(job):
    kept = []
    while True:
        kept.append(bytearray(16 << 20))

def share(job):
    area = mmap.mmap(-1, 1 << 30)
    for start in range(0, 1 << 30, 4096):
        area[start] = 1
    time.sleep(30)

def leave_files(job):
    for number in range(20):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"x")
    os.symlink("/", tempfile.mkdtemp() + "/root")
    return tempfile.gettempdir()
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a processor that looks at itself."""
    return processor_file(tmp_path, _CHORES)


def test_child_of_policy_none_stands_alone(chores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even without limits a child is a session of its own, and knows no password."""
    monkeypatch.setenv("SANDBOXQ_URL", "redis://:secret@localhost")
    monkeypatch.setenv("SANDBOXQ_SECRET", "secret")
    monkeypatch.setenv("COLOUR", "green")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")

    async def main() -> None:
        async with open_pool(chores, size=os.cpu_count() or 1) as caller:
            facts = await caller.value({"do": "facts"})
            assert facts["session"]
            assert facts["group"]
            assert facts["core"] == [0, 0]
            assert facts["no_new_privs"] == "0"
            assert facts["stdin"] == "/dev/null"
            # 0, 1, 2, calls, answers, cancelled calls, the mark of what has begun, what starts the
            # peak of memory anew, the arena, the page of stacks, the tokens, a copy of stdout, the
            # private directory, two that tell of signal handlers and timers, the
            # listing of descriptors.
            assert facts["descriptors"] <= 16
            assert facts["environ"]["COLOUR"] == "green"
            assert facts["environ"]["OMP_NUM_THREADS"] == "1"
            assert facts["environ"]["MKL_NUM_THREADS"] == "7"  # what the user set stays
            assert not [name for name, value in facts["environ"].items() if "secret" in value]

    run_async(main())


def test_child_of_policy_limits_has_them(chores: Path) -> None:
    """A mechanism that is not applied is a sandbox in name only."""
    policy = Policy(memory=256 << 20, files=300, file_size=1 << 30)

    async def main() -> None:
        async with open_pool(chores, policy=policy) as caller:
            facts = await caller.value({"do": "facts"})
            assert facts["data"] == 256 << 20
            assert facts["files"] == 300
            assert facts["file_size"] == 1 << 30
            assert facts["no_new_privs"] == "1"
            assert "sandboxq-" in facts["temp"]
            assert caller.pool.memory == 256 << 20

    run_async(main())


def test_default_limits_share_the_machine(chores: Path) -> None:
    """Defaults must not break honest work, and all children together must fit."""

    async def main() -> None:
        async with open_pool(chores, size=2, policy="limits") as caller:
            assert caller.pool.memory is not None
            machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            assert caller.pool.memory * 2 <= machine * 0.81

    run_async(main())


def test_memory_error_fails_the_job_and_replaces_the_child(chores: Path) -> None:
    """A heap that was full once is full of holes: the next job deserves a fresh one."""

    async def main() -> None:
        async with open_pool(chores, policy=Policy(memory=256 << 20)) as caller:
            before = caller.pool.pids
            failed = await caller.failure({"do": "hoard"})
            assert failed.cause == "JobMemoryExceeded"
            assert "256 MB" in failed.reason
            assert failed.facts is not None
            assert int(failed.facts["limit"]) == 256 << 20
            assert int(failed.facts["peak"]) > 128 << 20
            assert "in hoard" in failed.stack
            await caller.value({"do": "facts"})
            assert caller.pool.pids != before

    run_async(main())


def test_shared_memory_is_seen_from_outside(chores: Path) -> None:
    """The kernel's data limit does not count shared mappings; the watch does."""

    async def main() -> None:
        async with open_pool(chores, policy=Policy(memory=128 << 20)) as caller:
            failed = await caller.failure({"do": "share"})
            assert failed.cause == "JobMemoryExceeded"
            assert "limit 128 MB, observed" in failed.reason

    run_async(main())


def test_grant_that_is_too_small_to_start_is_said(chores: Path) -> None:
    """The job would fail with a MemoryError that explains nothing."""

    async def main() -> None:
        async with open_pool(chores, policy=Policy(memory=1 << 20)):
            pass

    with pytest.raises(ChildStartFailed, match="grants 1 MB"):
        run_async(main())


def test_temporary_files_go_with_their_child(chores: Path) -> None:
    """Killed jobs leave files behind; a full disk stops everybody."""
    folders: list[Path] = []

    async def main() -> None:
        async with open_pool(chores, policy="limits") as caller:
            first = Path(await caller.value({"do": "leave_files"}))
            # What the job left in it is cleared after the job.
            assert first.exists()  # noqa: ASYNC240 - a test
            os.kill(caller.pool.pids[0], 9)
            second = Path(await caller.value({"do": "leave_files"}))
            assert second != first
            wait_until(lambda: not first.exists())
            folders.extend([first, second])

    run_async(main())
    assert not any(folder.exists() or folder.parent.exists() for folder in folders)


@pytest.mark.parametrize("policy", ["none", "limits", "strict"])
def test_peak_is_each_job_s_own(tmp_path: Path, policy: str) -> None:
    """A job that rose high does not hide how little the next one needs, under any policy."""
    path = processor_file(tmp_path, "def process(job):\n    return len(b'x' * (job.data << 20))\n")

    async def main() -> None:
        peaks = []
        async with open_pool(path, policy=policy) as caller:
            for size in (1, 150, 1):
                call = caller.submit(size)
                await caller.outcome(call)
                assert call.usage is not None
                peaks.append(call.usage[3] >> 20)
        low, high, again = peaks
        assert high >= low + 145
        assert again < low + 10

    run_async(main())
