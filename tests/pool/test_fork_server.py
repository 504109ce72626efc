"""What happens to a zygote and its orders from outside: stops, ends, lengths, names."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.child.loader import LoadFailed
from sandboxq.errors import ChildStartFailed
from sandboxq.pool.children.orders import PACKET, decode_order, encode_order
from sandboxq.pool.children.zygote import _refusal
from sandboxq.sandbox.policy import Policy
from sandboxq.sandbox.processes import children_of, is_stopped, living
from sandboxq.sandbox.scratch import remove_scratch
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import lives, open_pool, processor_file

if TYPE_CHECKING:
    from sandboxq.pool.children.zygote_client import ZygoteClient
    from tests.pool.caller import Caller

_CHORES = """
import os, signal, subprocess, tempfile, time
def process(job):
    match job.data:
        case "take names":
            own = os.environ["TMPDIR"]
            folder = os.path.dirname(own)
            for n in range(2000):
                try: os.mkdir(f"{folder}/{n}")
                except OSError: pass
            os.kill(os.getpid(), signal.SIGKILL)
        case "daemon":
            if os.fork() == 0:
                os.setsid()
                if os.fork(): os._exit(0)
                os.execv("/bin/sleep", ["sleep", "60"])
            os.wait()
            with open(os.environ["TMPDIR"] + "/left", "wb") as file: file.write(b"x")
        case "score": return int(open("/proc/self/oom_score_adj").read())
    return os.getpid()
"""


def _server_of(caller: Caller) -> ZygoteClient:
    server = caller.pool.supervisor.server
    assert server is not None
    return server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a processor that does what jobs do to each other."""
    return processor_file(tmp_path, _CHORES)


def test_a_spare_that_was_stopped_is_sent_on(path: Path) -> None:
    """The next child would start a minute late, and the one after it too."""

    async def main() -> None:
        async with open_pool(path, policy="limits") as caller:
            await caller.run()
            server = _server_of(caller)

            async def spares() -> list[int]:
                return [pid for pid in children_of(server.pid) if pid not in caller.pool.pids]

            (spare,) = await wait_until_async(spares)
            os.kill(spare, signal.SIGSTOP)

            async def has_stopped() -> bool:
                return is_stopped(spare)

            await wait_until_async(has_stopped)
            began = time.monotonic()
            await caller.pool.resize(2)
            assert spare in caller.pool.pids
            assert time.monotonic() - began < 20  # of sixty

    run_async(main())


def test_private_directories_have_names_that_no_job_knows(path: Path) -> None:
    """Who makes those of children to come would have none of them start."""

    async def main() -> None:
        async with open_pool(path, policy="limits") as caller:
            await caller.run("take names")
            assert await caller.value() in caller.pool.pids

    run_async(main())


def test_a_policy_that_grants_thousands_of_paths(path: Path, tmp_path: Path) -> None:
    """Its order is longer than a packet of the control socket."""
    folder = tmp_path / "many"
    folder.mkdir()
    paths = [folder / f"photographs-of-the-year-{number:06}" for number in range(1500)]
    for each in paths:
        each.touch()
    policy = Policy("strict", read=[str(each) for each in paths])

    async def main() -> None:
        async with open_pool(path, policy=policy, size=2) as caller:
            for _ in range(2):
                await caller.value()
                await caller.pool.resize(3)  # from a spare

    run_async(main())


@pytest.mark.parametrize("size", [10, PACKET, 10 * PACKET])
def test_orders_of_any_length(size: int) -> None:
    """They arrive as they were, and whoever gets a copy of the descriptors reads them too."""
    order = {"op": "spawn", "text": "x" * size}
    raw, beside = encode_order(order)
    assert len(raw) <= PACKET
    for _ in range(2):
        assert decode_order(raw, [0, 1, *beside]) == (order, [0, 1])
    for fd in beside:
        os.close(fd)


def test_a_long_trace_of_an_import_fits_its_packet() -> None:
    """Escaped, a character may take six."""
    told = _refusal(LoadFailed("\x00" * 100_000, "ü" * 100_000))
    assert encode_order(told)[1] == []
    assert len(told["trace"]) > 1000


@pytest.mark.parametrize("moment", [0.0, 0.003, 0.01])
def test_a_server_killed_while_the_pool_stops_leaves_nothing(path: Path, moment: float) -> None:
    """Neither its directory nor what jobs have started."""

    async def main() -> None:
        async with open_pool(path, size=2, policy="limits") as caller:
            server = _server_of(caller)
            await caller.value("daemon")
            child = caller.pool.pids
            daemons = [pid for each in child for pid in children_of(each)]
            folder = server.scratch
            os.kill(server.pid, signal.SIGKILL)
            await asyncio.sleep(moment)  # whether the pool has heard of it, or not
            await caller.pool.stop(timeout=5)
            assert not Path(folder).exists()  # noqa: ASYNC240 - a test
            assert not living(daemons)

    run_async(main())


def test_children_are_ended_before_the_coordinator(path: Path) -> None:
    """By the kernel, when the machine is out of memory."""

    async def main() -> None:
        async with open_pool(path) as caller:
            own = int(Path("/proc/self/oom_score_adj").read_text())  # noqa: ASYNC240 - a test
            server = Path(f"/proc/{_server_of(caller).pid}/oom_score_adj").read_text()  # noqa: ASYNC240 - as above
            score = await caller.value("score")
            assert score > own or own == 1000
            assert int(server) == own

    run_async(main())


def test_no_folder_for_temporary_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only container: what helps is said, and the policy that needs none runs."""
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")

    async def main() -> None:
        async with open_pool(path, policy="none") as caller:
            await caller.value()
        async with open_pool(path, policy="limits"):
            pass

    with pytest.raises(ChildStartFailed, match="TMPDIR set to a folder"):
        run_async(main())


_OWNER = """
import sys, time
from sandboxq.sandbox.scratch import make_owned
owned = make_owned(sys.argv[1], "sandboxq-scratch-")
open(owned.path + "/left", "w").close()
print(owned.path, flush=True)
time.sleep(60)
"""


_SWEPT = """
import os, sys
from sandboxq.sandbox.scratch import abandoned, make_owned
folder, prefix = sys.argv[1], "sandboxq-scratch-"
sweeps = []
def hook(event, args):  # another worker starts, as soon as the folder is there
    if event == "os.chmod" and len(sweeps) < 2:
        sweeps.append(event)
        for path in abandoned(folder, prefix): os.rmdir(path)
sys.addaudithook(hook)
print(len(sweeps), os.path.isdir(make_owned(folder, prefix).path), len(sweeps))
"""


def test_a_folder_that_is_swept_before_it_has_an_owner(tmp_path: Path) -> None:
    """Workers that start at once remove what no one owns: then there is another, and no error."""
    command = [sys.executable, "-c", _SWEPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "0 True 2\n", done.stderr


def test_files_of_workers_that_were_killed_are_removed(path: Path, tmp_path: Path) -> None:
    """At the next start in the same temporary folder; those of a worker that lives stay."""
    command = [sys.executable, "-c", _OWNER, str(tmp_path)]
    with (
        subprocess.Popen(command, stdout=-1, text=True) as dead,
        subprocess.Popen(command, stdout=-1, text=True) as living_one,
    ):
        assert dead.stdout is not None
        assert living_one.stdout is not None
        left, kept = (Path(each.stdout.readline().strip()) for each in (dead, living_one))  # type: ignore[union-attr]  # as above
        dead.kill()
        dead.wait()

        async def main() -> None:
            async def is_swept() -> bool:
                return not left.exists()

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("tempfile.tempdir", str(tmp_path))
                async with open_pool(path, policy="limits") as caller:
                    await wait_until_async(is_swept)
                    await caller.value()

        assert (left / "left").exists()
        run_async(main())
        assert (kept / "left").exists()
        living_one.kill()


def test_folders_that_resist_their_removal(tmp_path: Path) -> None:
    """Named like those that the remover lifts, without modes, deeper than a path."""
    top = tmp_path / "top"
    for name in (".lifted-0/x", ".lifted-1/.lifted-0/y", "closed/inner"):
        (top / name).mkdir(parents=True)
        (top / name / "file").write_text("x")
    (top / "closed" / "inner").chmod(0)
    (top / "closed").chmod(0)
    outside = tmp_path / "outside"
    outside.mkdir(0o755)
    (outside / "kept").write_text("x")
    (top / "link").symlink_to(outside)
    remove_scratch(str(top))
    assert not top.exists()
    assert (outside / "kept").exists()
    assert outside.stat().st_mode & 0o777 == 0o755


async def _is_gone(pid: int) -> bool:
    return not lives(pid)
