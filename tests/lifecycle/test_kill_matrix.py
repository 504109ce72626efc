"""Whatever is signalled at whatever moment: every job ends once, and none is charged for it.

{child, zygote, coordinator} × {TERM, INT, KILL, STOP and CONT, SEGV, ABRT} × {idle, importing,
running Python, in C with the GIL held, writing the result, result sent and not settled}.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq import Queue
from sandboxq.sandbox.processes import children_of, descendants_of
from tests.conftest import wait_until
from tests.lifecycle.test_run import RunningWorker, is_alive
from tests.lifecycle.test_run import workers as workers  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.queue import SyncQueue

_PROCESSOR = """
import ctypes, os, pathlib, time

time.sleep({import_seconds})

def setup():
    time.sleep({import_seconds})

def process(job):
    phase = job.data["phase"]
    if phase == "nap":
        time.sleep(0.05)
        return 1
    begun = pathlib.Path(job.data["begun"])
    first = not begun.exists()
    begun.with_suffix(".tmp").write_text(str(os.getpid()))
    begun.with_suffix(".tmp").rename(begun)
    if not first:
        return 2
    if phase == "python":
        end = time.monotonic() + 0.8
        while time.monotonic() < end: pass
    elif phase == "c":
        ctypes.PyDLL(None).usleep(800_000)
    elif phase == "writing":
        while not begun.with_suffix(".go").exists(): pass  # nobody reads what it writes then
        return "x" * 20_000_000
    elif phase == "sent":
        time.sleep(0.1)
    return 1
"""
_OPTIONS = ("--procs", "2", "--lock-duration", "1.5", "--stalled-interval", "0.5")
_NEIGHBOURS = 6

VICTIMS = ("child", "zygote", "coordinator")
SIGNALS = ("TERM", "INT", "KILL", "STOP", "SEGV", "ABRT")
PHASES = ("idle", "importing", "python", "c", "writing", "sent")
_DEADLY = {"KILL", "SEGV", "ABRT"}
# One of each kind that went wrong or could, in less than half a minute.
_QUICK = {
    ("child", "KILL", "python"),
    ("child", "STOP", "c"),
    ("child", "ABRT", "sent"),
    ("child", "SEGV", "importing"),
    ("zygote", "KILL", "c"),
    ("zygote", "STOP", "idle"),
    ("coordinator", "KILL", "sent"),
    ("coordinator", "TERM", "python"),
}


def _cases() -> Iterator[Any]:
    for case in itertools.product(VICTIMS, SIGNALS, PHASES):
        marks = () if case in _QUICK else (pytest.mark.slow,)
        yield pytest.param(*case, id="-".join(case), marks=marks)


class _Scene:
    """A queue with one job in a phase and naps beside it, a worker, and what is to be signalled."""

    def __init__(
        self, url: str, queue: SyncQueue, folder: Path, workers: list[RunningWorker], phase: str
    ) -> None:
        """Write the processor; start nothing."""
        self.url = url
        self.queue = queue
        self.phase = phase
        self.begun = folder / "begun"
        self.redis: Any = redis.Redis.from_url(url)
        self._workers = workers
        self._processor = folder / "chores.py"
        import_seconds = 0.5 if phase == "importing" else 0
        self._processor.write_text(_PROCESSOR.format(import_seconds=import_seconds))

    def start_worker(self) -> RunningWorker:
        """Start one, ready or not."""
        worker = RunningWorker(self.url, self.queue.name, *_OPTIONS, processor=str(self._processor))
        self._workers.append(worker)
        return worker

    def add_jobs(self) -> list[str]:
        """Add the job in the phase, and naps."""
        data = {"phase": self.phase, "begun": str(self.begun)}
        first = self.queue.add("killed", data, attempts=3)
        naps = self.queue.add_bulk([("nap", {"phase": "nap"})] * _NEIGHBOURS)
        return [first.id, *(job.id for job in naps)]

    def reach_phase(self, worker: RunningWorker, killed: str) -> int:
        """Bring the worker to the moment; return the pid to signal."""
        if self.phase == "importing" and killed == "coordinator":
            return worker.process.pid
        worker.wait_until_ready()
        if self.phase == "idle":
            return self._pid_of(worker, killed)
        if self.phase == "importing":
            return self._newborn(worker, killed)
        if self.phase == "sent":
            self.redis.execute_command("CLIENT", "PAUSE", 900, "WRITE")
        child = int(wait_until(lambda: self.begun.exists() and self.begun.read_text()))
        if self.phase == "writing":
            worker.process.send_signal(signal.SIGSTOP)
            self.begun.with_suffix(".go").touch()
            wait_until(lambda: _state_of(child) == "S")  # blocked: its socket is full
        if self.phase == "sent":
            time.sleep(0.25)  # the job has returned, and Redis takes nothing
        return child if killed == "child" else self._pid_of(worker, killed)

    def _pid_of(self, worker: RunningWorker, killed: str) -> int:
        if killed == "coordinator":
            return worker.process.pid
        zygote = wait_until(lambda: children_of(worker.process.pid))[0]
        return int(zygote if killed == "zygote" else wait_until(lambda: _born(zygote))[0])

    def _newborn(self, worker: RunningWorker, killed: str) -> int:
        """Kill what is there; its successor imports, or is in its setup()."""
        old = self._pid_of(worker, killed)
        parent = worker.process.pid if killed == "zygote" else self._pid_of(worker, "zygote")
        younger = children_of if killed == "zygote" else _born
        before = set(younger(parent))
        os.kill(old, signal.SIGKILL)
        found = wait_until(lambda: [pid for pid in younger(parent) if pid not in before])
        time.sleep(0.15)
        return int(found[0])


def _born(zygote: int) -> list[int]:
    """Return the children of a zygote; not its spare, which the next one is made of."""
    return [pid for pid in children_of(zygote) if _is_in_use(pid)]


def _is_in_use(pid: int) -> bool:
    try:
        return os.sched_getscheduler(pid) == os.SCHED_BATCH
    except ProcessLookupError:
        return False  # it removed a dead child's files


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]


def _send(pid: int, name: str) -> None:
    try:
        os.kill(pid, getattr(signal, f"SIG{name}"))
        if name == "STOP":
            time.sleep(0.6)
            os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return  # it was faster


@pytest.mark.parametrize(("killed", "name", "phase"), list(_cases()))
def test_every_job_ends_once(
    server_url: str,
    queue_name: str,
    tmp_path: Path,
    workers: list[RunningWorker],
    killed: str,
    name: str,
    phase: str,
) -> None:
    """See the top of this file."""
    with Queue.sync(queue_name, url=server_url) as queue:
        scene = _Scene(server_url, queue, tmp_path, workers, phase)
        worker = scene.start_worker()
        is_early = phase in {"idle", "importing"}
        ids = [] if is_early else scene.add_jobs()
        pid = scene.reach_phase(worker, killed)
        family = descendants_of(worker.process.pid)
        _send(pid, name)
        worker.process.send_signal(signal.SIGCONT)
        ids = ids or scene.add_jobs()
        if killed == "coordinator" and name != "STOP":
            worker.wait(60)
            wait_until(lambda: not any(is_alive(each) for each in family))
            worker = scene.start_worker()

        jobs = [queue.get_job(each) for each in ids]
        states = wait_until(lambda: _final_states(queue, ids))
        assert states == ["completed"] * len(ids), worker.text
        jobs = [queue.get_job(each) for each in ids]
        for job in jobs:
            assert job is not None
            is_culprit = job.id == ids[0] and killed == "child" and not is_early
            charged = job.crashes if is_culprit else 0
            assert job.attempts_made == 1 + charged, (job.id, job.failed_reason)
            assert job.crashes <= (killed == "zygote" or is_culprit)
        first = jobs[0]
        assert first is not None
        if killed == "child" and name in _DEADLY and phase in {"python", "c"}:
            assert first.crashes == 1
        if phase == "sent" and killed != "coordinator":
            assert (first.crashes, first.attempts_started) == (0, 1)
        rows: Any = scene.redis.xrange(f"bull:{queue_name}:events")
        ends = [row[b"jobId"].decode() for _, row in rows if row[b"event"] == b"completed"]
        assert Counter(ends) == dict.fromkeys(ids, 1)
        worker.wait_until_ready()
        worker.send(signal.SIGTERM)
        assert worker.wait(60) == 0, worker.text
        scene.redis.close()


def _final_states(queue: SyncQueue, ids: list[str]) -> list[str] | None:
    states = [str(queue.job_state(each)) for each in ids]
    return states if all(state in {"completed", "failed"} for state in states) else None
