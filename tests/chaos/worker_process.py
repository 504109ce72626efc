"""A worker of either language as a process, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

from sandboxq.sandbox.processes import children_of
from tests.conftest import wait_until

_READY_SECONDS = 90.0
_EXIT_SECONDS = 90.0


class WorkerProcess:
    """A worker of either language; its log goes through a pipe that a fault may block."""

    def __init__(
        self, command: list[str], *, log: Path, cwd: Path, env: dict[str, str], is_node: bool
    ) -> None:
        """Start it in a session of its own."""
        self.is_node = is_node
        self.log = log
        self.log_flows = threading.Event()
        self.log_flows.set()
        self.was_hurt = False  # killed or stopped, so its end and its gaps say nothing
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._copy_log, daemon=True)
        self._reader.start()
        self.descriptors = 0

    @property
    def pid(self) -> int:
        """The coordinator's."""
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def was_ready(self) -> bool:
        """Whether it has said that it claims."""
        return ("ready" if self.is_node else "broker ") in self.text

    def wait_until_ready(self) -> None:
        """Wait until it claims."""
        wait_until(
            lambda: self.was_ready or not self.is_alive or self.was_hurt, timeout=_READY_SECONDS
        )
        self.descriptors = self.count_descriptors()

    @property
    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def count_descriptors(self) -> int:
        """Return how many it has open."""
        with contextlib.suppress(OSError):
            return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return 0

    def zygotes(self) -> list[int]:
        """Return its zygote's pid, if that is there."""
        return list(children_of(self.pid))

    def children(self) -> list[int]:
        """Return the pids of children that have calls; not the zygote's spare."""
        found = [pid for zygote in self.zygotes() for pid in children_of(zygote)]
        return [pid for pid in found if _is_in_use(pid)]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the coordinator alone."""
        if number in {signal.SIGKILL, signal.SIGSTOP}:
            self.was_hurt = True
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for its end after SIGTERM; kill it when it does not end, which returns -9."""
        try:
            code = self.process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(10)
        self._reader.join(10)
        return code

    def _copy_log(self) -> None:
        pipe = self.process.stdout
        assert pipe is not None
        with pipe, self.log.open("ab", buffering=0) as log:
            while chunk := os.read(pipe.fileno(), 65536):
                self.log_flows.wait()
                log.write(chunk)


def _is_in_use(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.sched_getscheduler(pid) == os.SCHED_BATCH
    return False
