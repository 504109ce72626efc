"""What setup() has arranged for all jobs is theirs, and nobody else's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.observe.telemetry import ChildRecycled
from sandboxq.sandbox.scratch import remove_scratch
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_JOBS = """
import fcntl, os, tempfile
keep = []

def process(job):
    do, *arguments = job.data
    return globals()[do](*arguments)

def pid(): return os.getpid()
def touch(path): open(path, "w").close()
def opens(): keep.append(open("/dev/null"))
def closes(): keep.pop().close()
def lock(path):
    file = open(path, "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    keep.append(file)
def leave_in_the_past():
    times = os.stat(os.environ["TMPDIR"])
    touch(os.environ["TMPDIR"] + "/left")
    os.utime(os.environ["TMPDIR"], ns=(times.st_atime_ns, times.st_mtime_ns))
def here(): return os.listdir(os.environ["TMPDIR"]), tempfile.gettempdir()
def standard(): return [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]
"""


def test_a_folder_that_setup_has_chosen_is_not_emptied(tmp_path: Path) -> None:
    """Other programs have their files there; the child's own folder is not in use then."""
    shared = tmp_path / "shared"
    shared.mkdir()
    setup = f"def setup(): os.environ['TMPDIR'] = tempfile.tempdir = {str(shared)!r}\n"

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _JOBS + setup), policy="limits") as caller:
            await caller.value(["pid"])
            (shared / "of another program").touch()
            for _ in range(3):
                await caller.value(["touch", str(shared / "of a job")])
            assert await caller.value(["here"])
            names, folder = await caller.value(["here"])
            assert (sorted(names), folder) == (["of a job", "of another program"], str(shared))

    run_async(main())


@pytest.mark.parametrize("fd", [0, 1])
def test_a_standard_descriptor_that_setup_has_closed(tmp_path: Path, fd: int) -> None:
    """What is opened next does not take its place, and no job is charged for that."""
    setup = f"def setup(): os.close({fd})\n"

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _JOBS + setup), policy="limits") as caller:
            for _ in range(3):
                await caller.value(["touch", str(tmp_path / "file")])
            assert (await caller.value(["standard"]))[fd] == os.devnull
            assert not [event for event in caller.events if isinstance(event, ChildRecycled)]

    run_async(main())


def test_files_are_found_whose_folder_seems_unchanged(tmp_path: Path) -> None:
    """Programs that unpack archives set the time of folders."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _JOBS), policy="limits") as caller:
            pid = await caller.value(["pid"])
            for _ in range(5):
                await caller.value(["leave_in_the_past"])
                assert (await caller.value(["here"]))[0] == []
            assert await caller.value(["pid"]) == pid

    run_async(main())


def test_a_lock_in_the_place_of_a_file_that_was_closed(tmp_path: Path) -> None:
    """As many descriptors as before are not the same descriptors."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _JOBS), policy="limits") as caller:
            pid = await caller.value(["pid"])
            for do in (["opens"], ["pid"], ["closes"]):
                await caller.value(do)
                # Looks that come by the clock are over with the next job that opens a file.
                await caller.value(["touch", os.devnull])
            await caller.value(["lock", str(tmp_path / "lock")])
            assert await caller.value(["pid"]) != pid

    run_async(main())


def test_the_removal_of_a_folder_ends_in_time(tmp_path: Path) -> None:
    """However many files there are in one folder: a job waits for it."""
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").touch()
    with pytest.raises(TimeoutError):
        remove_scratch(str(tmp_path / "folder"), until=time.monotonic() - 1)
    remove_scratch(str(tmp_path / "folder"), until=time.monotonic() + 60)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("name", ["asyncio", "decimal", "numpy"])
def test_a_processor_may_have_the_name_of_a_library(tmp_path: Path, name: str) -> None:
    """What a job may change in that library is not looked for in the processor."""

    async def main() -> None:
        source = 'import sys, types\nsys.modules["numpy.random"] = types.ModuleType("stand-in")\n'
        source += "def process(job): return 1\n"
        path = processor_file(tmp_path, source, name=f"{name}.py")
        async with open_pool(path, size=1) as caller:
            assert [await caller.value({}) for _ in range(2)] == [1, 1]

    run_async(main())
