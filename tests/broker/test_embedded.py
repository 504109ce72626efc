"""The embedded server, with real processes: shared, found again, stopped by the last, data kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.embedded import launcher
from sandboxq.broker.embedded.server import (
    EmbeddedUse,
    server_status,
    start_server,
    stop_server,
    use_server,
)
from sandboxq.errors import BrokerUnavailable
from sandboxq.observe.telemetry import (
    BrokerBack,
    BrokerLost,
    Event,
    Telemetry,
)
from tests.conftest import SOON, run_async, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Uses the server of the directory it is given, says so, and goes on until its input ends.
USER = """
import sys
from pathlib import Path
from sandboxq.broker.embedded.server import use_server, server_status
use = use_server(Path(sys.argv[1]))
print(server_status(Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""

# Comes and goes a number of times, and counts its visits in the server.
VISITOR = """
import asyncio, random, sys, time
from pathlib import Path
from sandboxq.broker.connect.broker import Broker
async def visit():
    broker = await Broker.connect(directory=Path(sys.argv[1]))
    await broker.command("INCR", "visits")
    await broker.close()
for _ in range(int(sys.argv[2])):
    asyncio.run(visit())
    time.sleep(random.uniform(0, 0.01))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Return where a server may live; it is stopped after the test."""
    path = tmp_path / ".sandboxq"
    yield path
    stop_server(path)


class User:
    """Another process that uses the server."""

    def __init__(self, directory: Path) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def server_pid(self) -> int:
        """Wait until it has a server, and return the server's process id."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def leave(self) -> None:
        """Let it end as a program does that forgot to close its queue."""
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.communicate(timeout=60)


def ask(socket_path: Path, command: str) -> str:
    """Send one inline command and return the first line of its reply, once the data is loaded."""

    def reply() -> str:
        with socket(AF_UNIX, SOCK_STREAM) as connection:
            connection.connect(str(socket_path))
            connection.sendall(command.encode() + b"\r\n")
            line = connection.makefile().readline().strip()
        return "" if line.startswith("-LOADING") else line

    return str(wait_until(reply))


def kill_server(directory: Path) -> None:
    """End the server with SIGKILL and wait until it is gone."""
    pid = server_status(directory).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not launcher.is_alive(directory))


# ── the life of a server ────────────────────────────────────────────────────


def test_it_starts_at_once_stops_with_its_last_user_and_keeps_its_data(directory: Path) -> None:
    """Hello world without a Redis, and a second command that finds what the first one added."""
    began = time.monotonic()
    use = use_server(directory)
    # The aim is below 0.1 s (measured: 0.04 s); the bound allows for a loaded machine.
    assert time.monotonic() - began < SOON
    assert ask(use.socket, "INCR n") == ":1"
    use.release()
    use.release()
    assert not server_status(directory).running

    again = use_server(directory)
    assert ask(again.socket, "INCR n") == ":2"
    again.release()


def test_everything_in_the_directory_is_private_and_ignored_by_git(directory: Path) -> None:
    """Job data must be neither readable by others nor committed by accident."""
    directory.mkdir(mode=0o755)
    use = use_server(directory)

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(use.socket.stat().st_mode) & 0o077 == 0
    assert (directory / ".gitignore").read_text() == "*\n"
    use.release()


def test_users_share_one_server_until_the_last_has_left(directory: Path) -> None:
    """A producer that ends first must not take the server from the worker that still runs."""
    first, second = use_server(directory), use_server(directory)
    pid = server_status(directory).pid
    first.release()
    assert server_status(directory).pid == pid
    assert ask(second.socket, "PING") == "+PONG"
    second.release()
    assert not server_status(directory).running


def test_processes_that_start_at_the_same_moment_share_one_server(directory: Path) -> None:
    """Two servers on one AOF would destroy it."""
    users = [User(directory) for _ in range(5)]
    pids = {user.server_pid() for user in users}
    status = server_status(directory)
    assert pids == {status.pid}
    if status.users is not None:
        assert status.users == sorted(user.process.pid for user in users)
    for user in users:
        user.leave()

    assert not server_status(directory).running


def test_a_program_that_forgets_to_close_leaves_no_server_behind(directory: Path) -> None:
    """Scripts end without ceremony; a process that nobody knows of must not stay."""
    user = User(directory)
    user.server_pid()
    user.leave()

    assert not server_status(directory).running


def test_a_forked_child_that_ends_is_not_the_last_user(directory: Path) -> None:
    """A child of os.fork inherits the exit hook; its end must not stop its parent's server."""
    program = USER + "import os\nif os.fork() == 0: sys.exit()\nos.wait()\n"
    program += "assert server_status(Path(sys.argv[1])).running\n"
    code = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    ).returncode

    assert code == 0
    assert not server_status(directory).running


def test_coming_and_going_at_random_loses_no_write(directory: Path) -> None:
    """The end of the last user and the start of the next meet; both hold the same files."""
    users = [
        subprocess.Popen([sys.executable, "-c", VISITOR, str(directory), "8"]) for _ in range(4)
    ]
    assert [user.wait(60) for user in users] == [0] * 4

    use = use_server(directory)
    assert ask(use.socket, "GET visits").startswith("$2")
    assert ask(use.socket, "INCRBY visits 0") == ":32"
    use.release()
    assert not server_status(directory).running


# ── crashes ─────────────────────────────────────────────────────────────────


def test_the_server_outlives_the_killed_process_that_started_it(directory: Path) -> None:
    """The worker that came second must not notice that the first one was killed."""
    starter = User(directory)
    pid = starter.server_pid()
    use = use_server(directory)
    starter.kill()

    assert server_status(directory).pid == pid
    assert ask(use.socket, "PING") == "+PONG"
    use.release()
    assert not server_status(directory).running


def test_a_server_whose_users_were_all_killed_is_found_again(directory: Path) -> None:
    """After kill -9 of everything the next command takes over, and cleans up at its end."""
    user = User(directory)
    pid = user.server_pid()
    user.kill()
    assert server_status(directory).running

    use = use_server(directory)
    assert server_status(directory).pid == pid
    use.release()
    assert not server_status(directory).running


def watchers_of(directory: Path) -> list[Path]:
    """Return the programs that watch a server and have opened its files."""
    program = f"{Path(launcher.__file__).with_name('watcher.py')}\0{directory}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            is_one = program in (process / "cmdline").read_bytes()
            if is_one and any("users.lock" in str(fd.readlink()) for fd in process.glob("fd/*")):
                found.append(process)
    return found


def looks_of_watcher(directory: Path) -> int:
    """Return how often the server was asked who is connected."""
    with socket(AF_UNIX, SOCK_STREAM) as connection:
        connection.connect(str(directory / "valkey.sock"))
        connection.sendall(b"INFO commandstats\r\n")
        found = re.search(rb"cmdstat_info:calls=(\d+)", connection.recv(100_000))
    return int(found[1]) if found else 0


def test_a_server_whose_users_were_all_killed_ends_by_itself(directory: Path) -> None:
    """A process that nobody knows of must not stay, and what was written is there later."""
    user = User(directory)
    pid = user.server_pid()
    socket_path = directory / "valkey.sock"
    assert ask(socket_path, "SET written 1") == "+OK"
    launcher.watch(directory, socket_path, 0.3)
    wait_until(lambda: len(watchers_of(directory)) == 2)
    assert server_status(directory).pid == pid  # as long as it has a user
    user.kill()

    wait_until(lambda: not launcher.is_alive(directory))
    wait_until(lambda: not (directory / "server.json").exists())
    wait_until(lambda: not watchers_of(directory))  # also the one that spawn started
    use = use_server(directory)
    assert ask(use.socket, "GET written") == "$1"
    use.release()


def test_a_server_that_node_is_connected_to_does_not_end(directory: Path) -> None:
    """Other clients take no lock: they are asked for before it is ended."""
    user = User(directory)
    pid = user.server_pid()
    socket_path = directory / "valkey.sock"
    with socket(AF_UNIX, SOCK_STREAM) as connection:
        connection.connect(str(socket_path))
        user.kill()
        launcher.watch(directory, socket_path, 0.1)
        wait_until(lambda: looks_of_watcher(directory) > 30)
        assert server_status(directory).pid == pid

    wait_until(lambda: not launcher.is_alive(directory))


def test_a_kept_server_is_not_ended(directory: Path) -> None:
    """`server start` is for a server without users; `server stop` ends it and its watcher."""
    start_server(directory)
    launcher.watch(directory, directory / "valkey.sock", 0.1)
    wait_until(lambda: len(watchers_of(directory)) == 2)
    (directory / "keep").unlink()
    wait_until(lambda: not launcher.is_alive(directory))

    start_server(directory)
    wait_until(lambda: watchers_of(directory))
    stop_server(directory)
    wait_until(lambda: not watchers_of(directory))


def test_a_server_whose_directory_was_deleted_ends(directory: Path) -> None:
    """Nobody can reach it any more: as of a test run that was killed, and its folder removed."""
    user = User(directory)
    user.server_pid()
    launcher.watch(directory, directory / "valkey.sock", 0.3)
    wait_until(lambda: len(watchers_of(directory)) == 2)
    pidfd = os.pidfd_open(server_status(directory).pid or 0)
    shutil.rmtree(directory)
    user.kill()

    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)


def test_ctrl_c_in_the_starter_s_terminal_does_not_reach_the_server(directory: Path) -> None:
    """The terminal signals a whole process group; the server must be in another session."""
    starter = User(directory)
    pid = starter.server_pid()
    use = use_server(directory)

    assert os.getsid(pid) not in {os.getsid(0), os.getsid(starter.process.pid)}
    os.killpg(starter.process.pid, signal.SIGINT)
    starter.process.communicate(timeout=60)

    assert ask(use.socket, "PING") == "+PONG"
    use.release()


def test_a_killed_server_comes_back_with_its_data(directory: Path) -> None:
    """Stale socket, pid file and record must confuse nobody, and the AOF must hold the writes."""
    use = use_server(directory)
    ask(use.socket, "SET key value")
    kill_server(directory)
    assert (directory / "valkey.sock").exists()
    assert (directory / "server.pid").exists()

    again = use_server(directory)
    assert ask(again.socket, "STRLEN key") == ":5"
    again.release()
    use.release()
    assert not server_status(directory).running


def test_a_broker_revives_its_crashed_server(directory: Path) -> None:
    """A worker on the embedded server has nobody else who would start it again."""
    told: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(told.append)

    async def main() -> None:
        broker = await Broker.connect(directory=directory)
        await broker.command("SET", "key", "value")
        kill_server(directory)
        await broker.wait_until_back(telemetry)
        assert await broker.command("GET", "key") == b"value"
        await broker.close()

    run_async(main())

    assert not server_status(directory).running
    assert [type(event) for event in told] in ([], [BrokerLost, BrokerBack])


def test_what_keeps_a_crashed_server_from_starting_is_an_absence(directory: Path) -> None:
    """A full disk: who waits for Redis waits on, and is back once there is room."""

    async def main() -> None:
        broker = await Broker.connect(directory=directory)
        log = directory / "server.log"
        kill_server(directory)
        log.unlink()
        log.mkdir()  # what is written there fails, as where no room is left
        waiting = asyncio.create_task(broker.wait_until_back())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 1)
        log.rmdir()
        await waiting
        assert await broker.command("PING") == b"PONG"
        await broker.close()

    run_async(main())


def test_a_server_that_got_sigterm_has_written_everything(directory: Path) -> None:
    """The machine's shutdown sends SIGTERM to every process, this one included."""
    use = use_server(directory)
    for n in range(1000):
        ask(use.socket, f"RPUSH list {n}")
    pid = server_status(directory).pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not launcher.is_alive(directory))

    use.revive()
    assert ask(use.socket, "LLEN list") == ":1000"
    use.release()


# ── on purpose ──────────────────────────────────────────────────────────────


def test_a_kept_server_runs_until_it_is_stopped(directory: Path) -> None:
    """`server start` is for those who look at the queue between two commands."""
    started = start_server(directory)
    use_server(directory).release()
    now = server_status(directory)
    assert now.kept
    assert now.pid == started.pid

    assert stop_server(directory).running
    now = server_status(directory)
    assert (now.running, now.kept) == (False, False)
    assert not stop_server(directory).running


def test_a_server_stopped_on_purpose_is_not_revived_by_its_users(directory: Path) -> None:
    """`server stop` would be useless if every running worker started the server again."""
    use = use_server(directory)
    stop_server(directory)
    use.revive()
    assert not server_status(directory).running

    # A new command wants it, so it is there for the old user too.
    newcomer = use_server(directory)
    newcomer.release()
    assert server_status(directory).running
    assert ask(use.socket, "PING") == "+PONG"
    use.release()
    assert not server_status(directory).running


def test_status_of_a_directory_without_a_server_changes_nothing(tmp_path: Path) -> None:
    """Looking must not create a directory wherever somebody happens to stand."""
    status = server_status(tmp_path / ".sandboxq")
    stop_server(tmp_path / ".sandboxq")

    assert (status.running, status.pid, status.data_bytes) == (False, None, 0)
    assert list(tmp_path.iterdir()) == []


# ── odd places ──────────────────────────────────────────────────────────────


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    """The kernel allows about 100 bytes, and CI directories are longer."""
    directory = tmp_path / ("x" * 120) / ".sandboxq"
    use = use_server(directory)
    again = use_server(directory)

    assert ask(use.socket, "PING") == "+PONG"
    assert again.socket == use.socket
    assert stat.S_IMODE(use.socket.parent.stat().st_mode) == 0o700
    kill_server(directory)
    use.revive()
    assert ask(use.socket, "PING") == "+PONG"
    again.release()
    use.release()
    assert not use.socket.parent.exists()


def test_a_path_with_odd_characters_works(tmp_path: Path) -> None:
    """Spaces and '%' mean something in URLs and in the server's options."""
    directory = tmp_path / "my projects 100% #1?é" / ".sandboxq"

    async def main() -> bytes:
        broker = await Broker.connect(directory=directory)
        reply: bytes = await broker.command("PING")
        await broker.close()
        return reply

    assert run_async(main()) == b"PONG"


def test_a_directory_that_was_moved_is_used_where_it_is(directory: Path) -> None:
    """Projects are renamed; what was recorded before must not point to the old place."""
    use = use_server(directory)
    ask(use.socket, "SET key value")
    kill_server(directory)
    moved = directory.with_name("moved")
    directory.rename(moved)

    again = use_server(moved)
    assert ask(again.socket, "STRLEN key") == ":5"
    assert again.socket.parent == moved
    use.release()
    again.release()
    assert not server_status(moved).running


def test_a_user_of_a_deleted_directory_does_not_stop_its_successor(directory: Path) -> None:
    """`rm -rf .sandboxq` happens; whoever started afresh must keep the new server."""
    old = use_server(directory)
    old_pid = server_status(directory).pid
    assert old_pid is not None
    shutil.rmtree(directory)
    new = use_server(directory)
    old.revive()
    old.release()

    assert ask(new.socket, "PING") == "+PONG"
    new.release()
    os.kill(old_pid, signal.SIGTERM)


def test_a_server_that_cannot_start_shows_its_last_words(directory: Path) -> None:
    """The reason is in a log that nobody would find."""
    use_server(directory).release()
    for manifest in (directory / "appendonlydir").glob("*.manifest"):
        manifest.write_text("nonsense\n")

    with pytest.raises(BrokerUnavailable, match=r"did not start:(.|\n)*manifest"):
        use_server(directory)
    assert not server_status(directory).running


def test_a_machine_without_a_server_program_is_told_to_pass_a_url(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wheel exists for musl, Windows and small boards; the way out must be in the message."""
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(BrokerUnavailable, match="--url"):
        use_server(directory)


def test_a_locale_that_the_machine_lacks_does_not_matter(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends at once on an unknown locale, and minimal containers have none."""
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")

    use = use_server(directory)
    assert ask(use.socket, "PING") == "+PONG"
    use.release()


def test_a_connect_that_is_cancelled_leaves_no_server_behind(directory: Path) -> None:
    """Ctrl-C while the server starts is the moment at which nobody owns it yet."""

    async def main() -> None:
        connecting = asyncio.create_task(Broker.connect(directory=directory))
        await asyncio.sleep(0.005)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

    run_async(main())

    wait_until(lambda: not server_status(directory).running)


def test_uses_of_one_process_count_by_themselves(directory: Path) -> None:
    """A queue and a worker in one program are two users, on two loops perhaps."""
    uses: list[EmbeddedUse] = [use_server(directory) for _ in range(3)]
    for use in uses:
        assert server_status(directory).running
        use.release()

    assert not server_status(directory).running
