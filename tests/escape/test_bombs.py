"""More than the policy grants, spread over what a job starts, or over many files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.escape.room import attempt, outcome_of
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_FORK = """
def fork():
    try: return os.fork()
    except OSError:  # the kernel's own limit has come first: stay, and be counted
        time.sleep(60)
        return -1
"""
_FORKS = f"""{_FORK}
def attack(how):
    how, _, is_brief = how.partition(", ")
    seconds = 0.5 if is_brief else 60
    if how == "tree":
        while True:  # each of them goes on: 2, 4, 8, ...
            fork()
            time.sleep(0.02)
    for _ in range(120):
        if fork() == 0:
            if how == "orphans":
                if fork(): os._exit(0)
            if how == "sessions":
                os.setsid()
            time.sleep(seconds)
            os._exit(0)
    time.sleep(seconds)
"""
_HIDDEN = f"""{_FORK}
def attack(_):
    for _ in range(50):
        if fork() == 0:
            os.setsid()
            if fork(): os._exit(0)
            time.sleep(60)
        os.wait()
    time.sleep(60)
"""
_GRANDCHILD = """
def attack(way):
    way, _, is_brief = way.partition(", ")
    seconds = 0.5 if is_brief else 60
    if os.fork() == 0:
        if way == "daemon":
            if os.fork(): os._exit(0)
        elif way == "child":
            os.setsid()
        kept = []
        for _ in range(100):
            kept.append(b"x" * (1 << 20))  # each below the limit of one process: three are not
        if way == "three":
            os.fork()
            os.fork()
            kept.clear()
            kept = [b"y" * (1 << 20) for _ in range(100)]
        else:
            kept += [b"x" * (1 << 20) for _ in range(60)]
            import mmap
            area = mmap.mmap(-1, 300 << 20)
            for start in range(0, len(area), 4096): area[start] = 1
        time.sleep(seconds)
        os._exit(0)
    time.sleep(seconds)
"""
_FILES_IN_MEMORY = """
def attack(how):
    path = tempfile.gettempdir() + "/file"
    file = open(os.memfd_create("m") if how == "memfd" else path, "wb")
    for _ in range(300): file.write(bytes(1 << 20))
    file.flush()
    time.sleep(60)
"""
_SHARING = """
def attack(_):
    kept = b"x" * (100 << 20)
    pids = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            time.sleep(0.6)
            os._exit(0)
        pids.append(pid)
    for pid in pids: os.waitpid(pid, 0)
    return len(kept)
"""
_FILES = """
def attack(how):
    own = tempfile.gettempdir()
    kept = []
    for number in range(3000):
        if how == "empty":
            open(f"{own}/{number}", "w").close()
        elif how == "small":
            with open(f"{own}/{number}", "wb") as file: file.write(b"x" * 5000)
        elif number < 20:
            in_memory = how == "memory"
            file = open(os.memfd_create("m"), "wb") if in_memory else tempfile.TemporaryFile()
            kept.append(file)
            file.write(bytes(1 << 20))
            file.flush()
    time.sleep(3)
"""


@pytest.mark.parametrize("how", ["tree", "flat", "orphans", "sessions"])
def test_fork_bombs(tmp_path: Path, how: str) -> None:
    """They end with limit and peak, however their processes are related; the next job runs."""
    for policy in (Policy(processes=40), Policy("strict", processes=40, subprocess=True)):
        outcome = outcome_of(tmp_path, policy, _FORKS, how)
        assert isinstance(outcome, Failed)
        assert (outcome.cause, outcome.is_crash) == ("JobProcessesExceeded", True), outcome
        assert outcome.facts is not None
        assert int(outcome.facts["peak"]) > int(outcome.facts["limit"]) == 40
    if how != "tree":  # which would end this machine
        assert isinstance(outcome_of(tmp_path, "none", _FORKS, f"{how}, briefly"), Completed)


def test_processes_that_deny_their_origin(tmp_path: Path) -> None:
    """Who leaves session and parent, and is no program of its own, is its child's all the same."""
    for policy in (Policy(processes=40), Policy("strict", processes=40, subprocess=True)):
        outcome = outcome_of(tmp_path, policy, _HIDDEN)
        assert isinstance(outcome, Failed)
        assert outcome.cause == "JobProcessesExceeded", outcome


@pytest.mark.parametrize("way", ["child", "daemon", "three"])
def test_memory_bombs_in_what_a_job_starts(tmp_path: Path, way: str) -> None:
    """Memory is summed over all that a job starts; without a policy nobody looks."""
    for name in ("limits", "strict"):
        policy = Policy(name, memory=192 << 20, subprocess=name == "strict")
        outcome = outcome_of(tmp_path, policy, _GRANDCHILD, way)
        assert isinstance(outcome, Failed)
        assert outcome.cause == "JobMemoryExceeded", outcome
        assert outcome.facts is not None
        assert int(outcome.facts["peak"]) > int(outcome.facts["limit"]) == 192 << 20
    assert isinstance(outcome_of(tmp_path, "none", _GRANDCHILD, f"{way}, briefly"), Completed)


@pytest.mark.parametrize("how", ["memfd", "tmpfs"])
def test_files_in_memory_are_memory(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With control groups or without: no process has them mapped."""
    monkeypatch.setattr("tempfile.tempdir", "/dev/shm" if how == "tmpfs" else None)
    outcome = outcome_of(tmp_path, Policy(memory=100 << 20), _FILES_IN_MEMORY, how)
    assert isinstance(outcome, Failed)
    assert outcome.cause == "JobMemoryExceeded", outcome


def test_memory_that_is_shared_counts_once(tmp_path: Path) -> None:
    """Nine processes with the same 100 MB have 100 MB: honest work is not ended."""
    assert attempt(tmp_path, Policy(memory=192 << 20), _SHARING) == ["worked", 100 << 20]


@pytest.mark.parametrize("how", ["empty", "small", "unlinked", "memory"])
def test_many_files_that_fill_the_disk(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their sum is limited, also of files that have no name any more."""
    for name in ("limits", "strict"):
        if (how, name) == ("memory", "strict"):
            continue  # memfd is refused there
        outcome = outcome_of(tmp_path, Policy(name, scratch=8 << 20), _FILES, how)
        assert isinstance(outcome, Failed)
        assert outcome.cause == "JobScratchExceeded", outcome
        assert outcome.facts is not None
        assert int(outcome.facts["peak"]) > int(outcome.facts["limit"]) == 8 << 20
    if how == "small":
        monkeypatch.setenv("TMPDIR", str(tmp_path))  # a job has no folder of its own there
        assert isinstance(outcome_of(tmp_path, "none", _FILES, how), Completed)


def test_a_neighbour_of_a_bomb_works_on(tmp_path: Path) -> None:
    """The bomb's child is ended, and no other."""
    text = """
import os, time
def process(job):
    while job.data == "bomb":
        os.fork()
        time.sleep(0.02)
    time.sleep(1)
    return "honest"
"""

    async def main() -> None:
        policy = Policy(processes=64)
        async with open_pool(processor_file(tmp_path, text), size=2, policy=policy) as caller:
            honest, bomb = caller.submit(""), caller.submit("bomb")
            assert isinstance(await caller.outcome(bomb), Failed)
            assert isinstance(await caller.outcome(honest), Completed)

    run_async(main())
