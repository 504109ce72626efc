"""Jobs that are sampled: what each does is in its data."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any


def _until(seconds: float) -> float:
    return time.thread_time() + seconds


def thirty(seconds: float) -> int:
    """Compute for so many seconds of CPU time."""
    end, count = _until(seconds), 0
    while time.thread_time() < end:
        for _ in range(100):
            count += 1
    return count


def seventy(seconds: float) -> int:
    """Compute likewise."""
    end, count = _until(seconds), 0
    while time.thread_time() < end:
        for _ in range(100):
            count += 1
    return count


def split(data: dict[str, Any]) -> None:
    """Spend 30 and 70 parts of a CPU time, in turns, until the file `gate` is there."""
    while True:
        thirty(0.03)
        seventy(0.07)
        if Path(data["gate"]).exists():
            return


def sleep(data: dict[str, Any]) -> None:
    """Wait in C, until the file `gate` is there."""
    while not Path(data["gate"]).exists():
        time.sleep(0.02)


def in_c(_data: dict[str, Any]) -> int:
    """Run C code that does not return, and does not look for signals."""
    return sum(range(10**12))


def threads(data: dict[str, Any]) -> None:
    """Compute in a thread while the main one waits for it."""
    thread = threading.Thread(target=split, args=(data,), name="worker-of-job")
    thread.start()
    thread.join()


def blocks_signals(data: dict[str, Any]) -> None:
    """Let no signal come through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    split(data)


def handles_it(data: dict[str, Any]) -> None:
    """Take the signal for itself."""
    signal.signal(signal.SIGRTMAX - 2, signal.SIG_IGN)
    split(data)


def alarms(data: dict[str, Any]) -> int:
    """Use timers and signals of its own, whose handler raises."""

    class Late(Exception):
        pass

    def on_alarm(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGALRM, on_alarm)
    count = 0
    while not Path(data["gate"]).exists():
        with contextlib.suppress(Late):
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            while True:
                thirty(0.001)
        count += 1
    return count


def replaces_program(data: dict[str, Any]) -> None:
    """Become another program."""
    script = f"while [ ! -e {data['gate']} ]; do :; done; exit 3"
    os.execv("/bin/sh", ["/bin/sh", "-c", script])  # noqa: S606 - no shell is wanted between


def dies(data: dict[str, Any]) -> None:
    """Compute, then end by SIGKILL."""
    split(data)
    os.kill(os.getpid(), signal.SIGKILL)


def fails(data: dict[str, Any]) -> None:
    """Compute, then raise."""
    split(data)
    message = "as asked"
    raise ValueError(message)


def eats(data: dict[str, Any]) -> None:
    """Take memory without end."""
    kept = []
    while not Path(data["gate"]).exists():
        kept.append(bytearray(1 << 20))
        thirty(0.005)


def deep(data: dict[str, Any]) -> None:
    """Be deep in calls."""

    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        else:
            split(data)

    down(600)


def many(data: dict[str, Any]) -> None:
    """Run more lines of more functions than a profile has room for."""
    functions: list[Any] = []
    for number in range(3000):
        names: dict[str, Any] = {"thirty": thirty}
        exec(f"def function_{number}():\n    thirty(0.0005)\n", names)  # noqa: S102 - to have many
        functions.append(names[f"function_{number}"])
    while not Path(data["gate"]).exists():
        for function in functions:
            function()


def process(job: Any) -> Any:
    """Do what the data says."""
    job.update_progress("begun")
    return globals()[job.data["do"]](job.data)
