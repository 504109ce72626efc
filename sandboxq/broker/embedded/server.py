"""The embedded server of a directory: shared by all processes that work there.

    .sandboxq/
        start.lock    held exclusively while a process starts or stops the server
        users.lock    held shared by each user; a user that gets it exclusively was the last one
        server.lock   held by the server itself as long as it runs (launcher.py)
        server.json   where its socket is; present: it is meant to run, absent: stopped on purpose
        keep          ``server start`` was called: the last user leaves it running
        valkey.sock   server.pid   server.log   appendonlydir/

Locks are flocks, which the kernel releases when their holder ends in any way: nothing has to be
cleaned up after a crash.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq.broker.embedded import launcher
from sandboxq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where a command looks, below the working directory.
DIRECTORY = ".sandboxq"

_START_LOCK = "start.lock"
_USERS_LOCK = "users.lock"
_RECORD = "server.json"
_KEEP = "keep"
_SOCKET = "valkey.sock"
_DATA = "appendonlydir"
# sun_path has 104 bytes on macOS and 108 on Linux.
LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What ``server status`` shows; ``users`` is None where the machine cannot tell."""

    directory: str
    running: bool
    kept: bool
    socket: str | None = None
    pid: int | None = None
    users: list[int] | None = None
    data_bytes: int = 0


class EmbeddedUse:
    """One user of the embedded server; the last one to release stops it."""

    def __init__(self, directory: Path, lock: int, socket_path: Path, *, was_started: bool) -> None:
        """Hold the shared lock ``lock``; ``use_server`` makes these."""
        self.was_started = was_started  # by this use: it did not run before
        self.directory = directory
        self.socket = socket_path
        self._lock: int | None = lock
        self._owner = os.getpid()
        # A program that forgets to close its queue must not leave a server behind.
        atexit.register(self.release)

    def revive(self) -> None:
        """Start the server again if it crashed; one that was stopped on purpose stays down.

        Raises: BrokerUnavailable when it does not start.
        """
        with _absence(self.directory):
            self._revive()

    def _revive(self) -> None:
        if self._lock is None or not self._is_still_there():
            return
        with _locked(self.directory / _START_LOCK):
            if _recorded_socket(self.directory) is not None:
                self.socket = _ensure_running(self.directory)

    def release(self) -> None:
        """Stop using the server; the last user stops it. May be called twice."""
        atexit.unregister(self.release)
        lock, self._lock = self._lock, None
        # A forked child inherits this object, but it is not a user.
        if lock is None or os.getpid() != self._owner:
            return
        try:
            with _absence(self.directory):
                if self._is_still_there(lock):
                    self._leave(lock)
        finally:
            os.close(lock)

    def _leave(self, lock: int) -> None:
        with _locked(self.directory / _START_LOCK):
            is_last = _try_lock(lock, fcntl.LOCK_EX)
            if is_last and not (self.directory / _KEEP).exists():
                _stop(self.directory)
            fcntl.flock(lock, fcntl.LOCK_UN)

    def _is_still_there(self, lock: int | None = None) -> bool:
        """Whether the directory is the same as before: it may have been deleted, or made anew."""
        held = self._lock if lock is None else lock
        try:
            return held is not None and os.path.samestat(
                os.fstat(held), (self.directory / _USERS_LOCK).stat()
            )
        except FileNotFoundError:
            return False


def use_server(directory: Path) -> EmbeddedUse:
    """Become a user of the server in ``directory``; start it when it does not run. Blocks.

    Raises: BrokerUnavailable when it cannot be started.
    """
    directory = _prepared(directory)
    with _absence(directory), _locked(directory / _START_LOCK):
        lock = os.open(directory / _USERS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Nobody holds it exclusively outside the start lock.
            fcntl.flock(lock, fcntl.LOCK_SH)
            was_running = launcher.is_alive(directory)
            socket_path = _ensure_running(directory)
            return EmbeddedUse(directory, lock, socket_path, was_started=not was_running)
        except BaseException:
            os.close(lock)
            raise


def start_server(directory: Path) -> ServerStatus:
    """Start the server and keep it until ``stop_server``, also without users. Blocks.

    Raises: BrokerUnavailable.
    """
    directory = _prepared(directory)
    with _absence(directory), _locked(directory / _START_LOCK):
        _ensure_running(directory)
        (directory / _KEEP).touch()
    return server_status(directory)


def stop_server(directory: Path) -> ServerStatus:
    """Stop the server, data written; return what was there before. Blocks.

    Commands that still use it wait until it is started again.
    Raises: BrokerUnavailable.
    """
    before = server_status(directory)
    directory = Path(before.directory)
    if directory.is_dir():
        with _absence(directory), _locked(directory / _START_LOCK):
            (directory / _KEEP).unlink(missing_ok=True)
            _stop(directory)
    return before


def server_status(directory: Path) -> ServerStatus:
    """Return the status of the server; changes nothing."""
    directory = directory.absolute()
    running = launcher.is_alive(directory)
    socket_path = _recorded_socket(directory) if running else None
    return ServerStatus(
        directory=str(directory),
        running=running,
        kept=(directory / _KEEP).exists(),
        socket=None if socket_path is None else str(socket_path),
        pid=launcher.process_id(directory) if running else None,
        users=_users(directory),
        data_bytes=sum(path.stat().st_size for path in (directory / _DATA).glob("*")),
    )


# ── with the start lock held ────────────────────────────────────────────────


def _ensure_running(directory: Path) -> Path:
    recorded = _recorded_socket(directory)
    if launcher.is_alive(directory):
        socket_path = recorded or directory / _SOCKET
        if launcher.wait_until_listening(directory, socket_path):
            return socket_path
        if launcher.is_alive(directory):
            pid = launcher.process_id(directory)
            message = f"the embedded server in {directory} (pid {pid}) lives but does not listen"
            raise BrokerUnavailable(message)
    socket_path = recorded if recorded and _is_private(recorded.parent) else _new_socket(directory)
    if socket_path != recorded:  # else nothing is written, as on a full disk
        _record_socket(directory, socket_path)
    launcher.spawn(directory, socket_path)
    return socket_path


def _stop(directory: Path) -> None:
    socket_path = _recorded_socket(directory)
    if socket_path is not None and launcher.is_alive(directory):
        launcher.shut_down(directory, socket_path)
    (directory / _RECORD).unlink(missing_ok=True)
    if socket_path is not None and socket_path.parent != directory:
        shutil.rmtree(socket_path.parent, ignore_errors=True)


def _record_socket(directory: Path, socket_path: Path) -> None:
    inside = socket_path.parent == directory
    # By name alone where possible, so that a directory may be moved.
    text = json.dumps({"socket": socket_path.name if inside else str(socket_path)})
    record = directory / _RECORD
    record.with_suffix(".new").write_text(text)
    record.with_suffix(".new").replace(record)


def _recorded_socket(directory: Path) -> Path | None:
    try:
        # Joining keeps an absolute path as it is.
        return directory / str(json.loads((directory / _RECORD).read_text())["socket"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _new_socket(directory: Path) -> Path:
    path = directory / _SOCKET
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    # mkdtemp's directories are for their owner alone.
    path = Path(tempfile.mkdtemp(prefix="sandboxq-")) / _SOCKET
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    path.parent.rmdir()
    return Path(tempfile.mkdtemp(prefix="sandboxq-", dir="/tmp")) / _SOCKET


# ── the directory ───────────────────────────────────────────────────────────


def _prepared(directory: Path) -> Path:
    """Make the private directory, and return its absolute path."""
    directory = directory.absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(directory):
            directory.chmod(0o700)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        message = (
            f"the embedded server needs the directory {directory}: {error}; "
            "work in a directory that is yours, or name a Redis with --url redis://…"
        )
        raise BrokerUnavailable(message) from error
    return directory


def _is_private(directory: Path) -> bool:
    try:
        facts = directory.stat()
    except FileNotFoundError:
        return False
    return facts.st_uid == os.geteuid() and stat.S_IMODE(facts.st_mode) == stat.S_IRWXU


@contextmanager
def _absence(directory: Path) -> Iterator[None]:
    """Raise BrokerUnavailable for a full or read-only disk, or missing file descriptors.

    A worker then waits for the disk as it would for Redis.
    """
    try:
        yield
    except OSError as error:
        message = f"the embedded server in {directory} cannot be used: {error}"
        raise BrokerUnavailable(message) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _users(directory: Path) -> list[int] | None:
    """Return the process ids that hold the users' lock; Linux lists them."""
    try:
        facts = (directory / _USERS_LOCK).stat()
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    device = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    rows = (line.split() for line in table.splitlines())
    return sorted({int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == device})
