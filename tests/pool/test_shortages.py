"""Where processes, threads or descriptors run out, one start fails, and all else goes on."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import ChildStartFailed
from sandboxq.model.outcome import Completed
from sandboxq.pool.children.outbox import Outbox
from sandboxq.pool.kinds import Kind
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_descriptors, open_pool, processor_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pool.caller import Caller

_JOBS = """
import os, time

def process(job):
    if job.data == "exit": os._exit(3)
    time.sleep(job.data)
    return "done"
"""


def test_a_fork_server_that_can_start_nothing_lives_on(tmp_path: Path) -> None:
    """It removes the files of dead children later; the other job runs on."""

    async def main() -> None:
        path = processor_file(tmp_path, _JOBS)
        async with open_pool(path, policy="limits", size=2) as caller:
            server = caller.pool.supervisor.server
            assert server is not None
            limits = [Path(folder) / "server/pids.max" for folder in server.group.folders]
            limits = [limit for limit in limits if limit.exists()]
            if not limits:
                pytest.skip("no control groups that count processes")
            folders = [server.scratch_of(child.number) for child in caller.pool.supervisor.children]
            long = caller.submit(3)
            await caller.until_begun(long)
            limits[0].write_text("1")
            assert (await caller.failure("exit")).cause == "JobExited"
            assert isinstance(await caller.outcome(long), Completed)
            limits[0].write_text("max")
            await wait_until_async(lambda: _has_children(caller, 2))
            await caller.failure("exit")
            await wait_until_async(lambda: _has_removed(folders))
            assert caller.pool.supervisor.server is server

    run_async(main())


async def _has_removed(folders: list[str]) -> bool:
    return not all(map(os.path.exists, folders))


def test_a_thread_that_cannot_be_started(tmp_path: Path) -> None:
    """It is a failed start, which is tried again; nothing of it stays."""

    async def main() -> None:
        path = processor_file(tmp_path, _JOBS)
        async with open_pool(path, kind=Kind.THREAD) as caller:
            assert await caller.value(0) == "done"
            usual = threading.stack_size(1 << 46)  # no machine has that
            try:
                with pytest.raises(ChildStartFailed, match="thread"):
                    await caller.pool.resize(2)
            finally:
                threading.stack_size(usual)
            assert await caller.value(0) == "done"
            await wait_until_async(lambda: _has_children(caller, 2))

    run_async(main())


async def _has_children(caller: Caller, count: int) -> bool:
    return len(caller.pool.supervisor.ready) == count


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Have every call fail that would open something."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_an_order_that_cannot_wait_is_not_sent() -> None:
    """Its descriptors would be others' by then; orders before and after it are sent."""

    async def main() -> None:
        before = open_descriptors()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.settimeout(0)
        orders = Outbox(asyncio.get_running_loop(), near)
        sent = 0
        while not orders._waiting:
            orders.send({"number": sent}, [0])
            sent += 1
        with no_more_descriptors(), pytest.raises(OSError, match="Too many open files"):
            orders.send({"number": "lost"}, [0, 1])
        orders.send({"number": "last"}, [2])
        heard = []
        while "last" not in heard:
            raw, fds, _, _ = await asyncio.to_thread(socket.recv_fds, far, 1 << 16, 2)
            heard.append(json.loads(raw)["number"])
            for fd in fds:
                os.close(fd)
        assert heard == [*range(sent), "last"]
        orders.close()
        near.close()
        far.close()
        assert open_descriptors() <= before

    run_async(main())
