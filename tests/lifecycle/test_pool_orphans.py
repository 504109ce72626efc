"""A coordinator that is killed leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandboxq.sandbox.processes import descendants_of
from tests.conftest import SOON, wait_until
from tests.pool.caller import lives, processor_file

_PROCESSOR = """
import os, subprocess, tempfile, time
def process(job):
    pids = [subprocess.Popen(["sleep", "300"], start_new_session=True).pid]
    r, w = os.pipe()
    if os.fork() == 0:
        os.setsid()
        grandchild = os.fork()
        if grandchild == 0:
            time.sleep(300)
        os.write(w, b"%d" % grandchild)
        os._exit(0)
    pids.append(int(os.read(r, 20)))
    job.log(" ".join(map(str, [os.getpid(), os.getppid(), *pids, tempfile.gettempdir()])))
    time.sleep(300)
"""

_COORDINATOR = """
import asyncio, sys
from sandboxq.child.frames import encode_call
from sandboxq.pool.pool import Call, Pool
from sandboxq.observe.telemetry import Telemetry
class Listener:
    def on_outcome(self, call, outcome, seconds): print(outcome, flush=True)
    def wants_reports(self): return True
    def on_report(self, call, kind, payload): print(payload.decode(), flush=True)
    def on_lines(self, call, pid, stream, lines): pass
    def on_room(self): pass
async def main():
    pool = Pool(sys.argv[1], size=2, listener=Listener(), queue_name="q", telemetry=Telemetry())
    await pool.start()
    pool.submit(Call(b"1", encode_call(job_id=b"1", name=b"n", data=b"{}")))
    await asyncio.sleep(300)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_killed_coordinator(tmp_path: Path, number: signal.Signals) -> None:
    """Orphans keep cores and memory for ever, and run jobs that others have started again."""
    path = processor_file(tmp_path, _PROCESSOR)
    command = [sys.executable, "-c", _COORDINATOR, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as coordinator:
        assert coordinator.stdout is not None
        *pids, folder = coordinator.stdout.readline().split()
        tree = {*descendants_of(coordinator.pid), *map(int, pids)}
        assert len(tree) >= 5  # zygote, two children, a program, a daemon
        started = time.monotonic()
        os.kill(coordinator.pid, number)
        wait_until(lambda: not any(lives(pid) for pid in tree))
        assert time.monotonic() - started < SOON  # of 300
        wait_until(lambda: not Path(folder).exists())
