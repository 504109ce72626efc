"""The process that a zygote forks in advance: used once, replaced, and nobody's burden."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.pool.children.forking import Spare, open_pair, wait_for_order
from sandboxq.sandbox.mechanisms.cgroup import ChildGroup
from sandboxq.sandbox.processes import children_of
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import lives, open_pool, processor_file, stat_fields

if TYPE_CHECKING:
    from tests.pool.caller import Caller

_NO_GROUP = ChildGroup({})
_PROCESSOR = "import os\ndef process(job): return os.getpid()\n"


def _server_of(caller: Caller) -> int:
    return int(stat_fields(caller.pool.pids[0])[1])


async def _spare_of(caller: Caller) -> int:
    """Return the one process of the zygote that is no child, once it waits."""

    async def find() -> int | None:
        others = set(children_of(_server_of(caller))) - set(caller.pool.pids)
        return next(iter(others)) if len(others) == 1 else None

    return int(await wait_until_async(find))


async def _grow(caller: Caller, size: int) -> set[int]:
    """Return the children that a pool has more of afterwards."""
    before = set(caller.pool.pids)
    await caller.pool.resize(size)
    return set(caller.pool.pids) - before


@pytest.mark.parametrize("policy", ["none", "limits", "strict"])
def test_next_child_is_the_spare(tmp_path: Path, policy: str) -> None:
    """Its fork and its copies of pages are over when it is asked for; another takes its place."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PROCESSOR), policy=policy) as caller:
            for size in (2, 3):
                spare = await _spare_of(caller)
                assert await _grow(caller, size) == {spare}
            assert {await caller.value() for _ in range(30)} <= set(caller.pool.pids)

    run_async(main())


def test_spare_that_was_killed_is_made_good(tmp_path: Path) -> None:
    """Whoever kills it, the order is not lost, and the one after that finds a spare again."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PROCESSOR)) as caller:
            spare = await _spare_of(caller)
            os.kill(spare, signal.SIGKILL)
            await wait_until_async(lambda: _is_gone(spare))
            assert len(await _grow(caller, 2)) == 1
            spare = await _spare_of(caller)
            assert await _grow(caller, 3) == {spare}

    run_async(main())


def test_signals_to_all_leave_the_spare_as_it_is(tmp_path: Path) -> None:
    """Docker and systemd send SIGTERM to whatever they see; the coordinator alone ends children."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PROCESSOR)) as caller:
            spare = await _spare_of(caller)
            for number in (signal.SIGTERM, signal.SIGINT):
                os.kill(spare, number)
            assert await _grow(caller, 2) == {spare}
            assert await caller.value() in caller.pool.pids

    run_async(main())


def test_spare_survives_the_watch_for_strays(tmp_path: Path) -> None:
    """It has no owner, and yet is no orphan of a job."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PROCESSOR), policy="limits") as caller:
            spare = await _spare_of(caller)
            await asyncio.sleep(0.35)  # the watch looks ten times a second
            assert await _spare_of(caller) == spare

    run_async(main())


def test_spare_dies_with_the_fork_server(tmp_path: Path) -> None:
    """A zygote that was killed cannot end it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PROCESSOR)) as caller:
            spare = await _spare_of(caller)
            os.kill(_server_of(caller), signal.SIGKILL)
            await wait_until_async(lambda: _is_gone(spare))
            await caller.value()

    run_async(main())


def test_spare_holds_nothing_of_anybody(tmp_path: Path) -> None:
    """A pipe of another child that it held would not end with that child."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PROCESSOR), size=2) as caller:
            spare = await _spare_of(caller)
            server = _links(_server_of(caller))
            others = {link for pid in caller.pool.pids for link in _links(pid)}

            async def holds_its_own_alone() -> bool:
                """Once its rehearsal is over: its standard streams, and the way of its order."""
                links = set(_links(spare))
                mine = links - set(server)
                return (
                    len(mine) == 1 and not mine & others and links & set(server) == set(server[:3])
                )

            await wait_until_async(holds_its_own_alone)

    run_async(main())


def test_processor_that_each_child_imports_has_no_spare(tmp_path: Path) -> None:
    """There is nothing that it could have ready."""
    path = processor_file(
        tmp_path,
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(300,), daemon=True).start()\n"
        "def process(job): return 1\n",
    )

    async def main() -> None:
        async with open_pool(path) as caller:
            await caller.value()
            assert children_of(_server_of(caller)) == caller.pool.pids

    run_async(main())


def test_spare_sees_files_that_were_replaced_since(tmp_path: Path) -> None:
    """What `strict` may read is settled by inode: a deployment replaces files while it waits."""
    path = processor_file(
        tmp_path,
        "import os, time\n"
        "def process(job):\n"
        "    time.sleep(0.05)\n"
        "    try: return [os.getpid(), open(job.data).read()]\n"
        "    except PermissionError: return [os.getpid(), 'refused']\n",
    )
    notes = path.parent / "notes.txt"
    notes.write_text("old")

    async def main() -> None:
        async with open_pool(path, policy="strict") as caller:
            first = caller.pool.pids[0]
            assert await caller.value(str(notes)) == [first, "old"]
            spare = await _spare_of(caller)
            await wait_until_async(lambda: _waits(spare))
            fresh = notes.with_suffix(".new")
            fresh.write_text("new")
            fresh.rename(notes)
            assert await _grow(caller, 2) == {spare}
            calls = [caller.submit(str(notes)) for _ in range(8)]
            seen = [json.loads((await caller.outcome(call)).value) for call in calls]  # type: ignore[union-attr]
            assert dict(seen) == {first: "refused", spare: "new"}

    run_async(main())


def test_order_is_not_given_to_a_process_that_has_ended() -> None:
    """Then it is the caller's still, to fork afresh for."""
    near, far = open_pair()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    with far:  # as long as this is open the order could be sent
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not Spare(pid, near, _NO_GROUP).give(b"{}", [])
        os.waitpid(pid, 0)


def test_order_arrives_whole() -> None:
    """With its descriptors, although the other end is closed at once."""
    near, far = open_pair()
    left, right = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        near.close()
        raw, (fd,) = wait_for_order(far, 100, 1)
        os.write(fd, raw)
        os._exit(0)
    far.close()
    with left, right:
        assert Spare(pid, near, _NO_GROUP).give(b"order", [left.fileno()])
        assert right.recv(10) == b"order"
    os.waitpid(pid, 0)


async def _is_gone(pid: int) -> bool:
    return not lives(pid)


async def _waits(pid: int) -> bool:
    return stat_fields(pid)[0] == "S"


def _links(pid: int) -> list[str]:
    """Return what the descriptors of a process are; some may be closed meanwhile."""
    links = []
    for path in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda each: int(each.name)):
        with suppress(FileNotFoundError):
            links.append(str(path.readlink()))
    return links
