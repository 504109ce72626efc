"""The start for practice, in the zygote and in a spare."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import os, random, signal, sys, threading
from sandboxq.child import random_state
from sandboxq.child.practice import practise, rehearse

def facts():
    return (
        sorted(os.listdir("/proc/self/fd")),
        open("/proc/self/oom_score_adj").read(),
        list(map(signal.getsignal, signal.valid_signals())),
        (sys.stdout, sys.stderr, threading.active_count(), threading.main_thread()),
        (os.getcwd(), dict(os.environ), list(sys.path)),
    )

random_state.note_generators()
before = facts()
{started}
for _ in range(3):
    practise()
rehearse()
assert facts() == before, (facts(), before)
threading.Thread(target=print, args=["unharmed"]).start()
"""


def _run(started: str = "", ended: str = "") -> str:
    script = _SCRIPT.replace("{started}", started) + ended
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_practice_leaves_nothing() -> None:
    """The zygote practises in its own process, and all children are forked from that."""
    assert _run() == "unharmed\n"


def test_practice_does_not_end_what_the_processor_has_started() -> None:
    """A module may start programs and threads while it is imported."""
    started = """
import subprocess
program = subprocess.Popen(["sleep", "60"])
go_on = threading.Event()
thread = threading.Thread(target=go_on.wait)
thread.start()
before = facts()
"""
    ended = """
assert program.poll() is None
program.kill()
program.wait()
go_on.set()
thread.join()
"""

    assert _run(started, ended) == "unharmed\n"
