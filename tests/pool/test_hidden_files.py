"""Temporary files count once, and also where no descriptor of the job leads to them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sandboxq import Policy
from sandboxq.model.outcome import Completed, Failed
from tests.conftest import run_async
from tests.pool.caller import open_pool

if TYPE_CHECKING:
    from pathlib import Path

PROCESSOR = """
import array, ctypes, os, socket, tempfile, time

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p

def unlinked(mb):
    fd, path = tempfile.mkstemp()
    os.unlink(path)
    for _ in range(mb): os.write(fd, bytes(1 << 20))
    return fd

def mapped(fd):
    libc.mmap(None, ctypes.c_size_t(4096), 1, 1, fd, ctypes.c_long(0))
    os.close(fd)

def process(job):
    near, far = socket.socketpair()
    if job.data == "copies":
        fd = unlinked(24)
        copies = [os.dup(fd) for _ in range(8)]
        mapped(copies.pop())
        time.sleep(2)
        return "honest"
    if job.data == "received":
        near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))])
        time.sleep(1)
        socket.recv_fds(far, 1, 1)
        time.sleep(2)
        return "honest"
    for _ in range(8):
        fd = unlinked(8)
        if job.data == "mapped": mapped(fd)
        else:
            near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
            os.close(fd)
    time.sleep(60)
"""


@pytest.fixture
def processor(tmp_path: Path) -> Path:
    """Return the file of a processor whose jobs hide what they have written."""
    path = tmp_path / "hides.py"
    path.write_text(PROCESSOR)
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="what others have mapped is told to root alone")
@pytest.mark.parametrize("name", ["limits", "strict"])
def test_a_mapped_file_counts(processor: Path, name: str) -> None:
    """It has no name, and no descriptor is open."""

    async def main() -> None:
        policy = Policy(name, scratch=32 << 20)
        async with open_pool(processor, policy=policy) as caller:
            outcome = await caller.run("mapped")
            assert isinstance(outcome, Failed)
            assert outcome.cause == "JobScratchExceeded"

    run_async(main())


def test_files_on_their_way_through_a_socket_end_a_strict_child(processor: Path) -> None:
    """Nobody can see how large they are."""

    async def main() -> None:
        policy = Policy("strict", scratch=32 << 20)
        async with open_pool(processor, policy=policy) as caller:
            outcome = await caller.run("passed")
            assert isinstance(outcome, Failed)
            assert outcome.cause == "SandboxViolation"
            assert "sent and not received" in outcome.reason
            assert isinstance(await caller.run("received"), Completed)

    run_async(main())


def test_copies_of_a_descriptor_are_one_file(processor: Path) -> None:
    """They count once."""

    async def main() -> None:
        policy = Policy("limits", scratch=32 << 20)
        async with open_pool(processor, policy=policy) as caller:
            assert isinstance(await caller.run("copies"), Completed)

    run_async(main())
