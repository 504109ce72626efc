"""Jobs that are sampled: what each does is in its data."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import types
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


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
    split(data)


def handles_it(data: dict[str, Any]) -> None:
    """Take the signal for itself."""
    split(data)


_BEFORE: dict[str, Callable[[], object]] = {
    "blocks_signals": partial(signal.pthread_sigmask, signal.SIG_BLOCK, signal.valid_signals()),
    "handles_it": partial(signal.signal, signal.SIGRTMAX - 2, signal.SIG_IGN),
}


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
    """Compute for so long that a busy worker sees it, then raise."""
    if data.get("long"):
        seventy(1.0)
    split(data)
    message = "as asked"
    raise ValueError(message)


def eats(data: dict[str, Any]) -> None:
    """Take memory without end."""
    kept = []
    while not Path(data["gate"]).exists():
        kept.append(bytearray(1 << 20))
        thirty(0.005)


def _pages() -> list[int]:
    """Return the descriptors of what this process shares for stacks and samples."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, no files
        with contextlib.suppress(OSError):
            if "sandboxq-stacks" in os.readlink(f"/proc/self/fd/{name}"):  # noqa: PTH115 - as above
                found.append(int(name))
    return found


def scribbles(data: dict[str, Any]) -> int:
    """Write rubbish over what was sampled, again and again."""
    pages, count = _pages(), 0
    fill = bytes.fromhex(data["fill"]) * (64 * 1024 // len(bytes.fromhex(data["fill"])))
    while not Path(data["gate"]).exists():
        for fd in pages:
            for at in range(0, 256 * 1024, len(fill)):
                os.pwrite(fd, fill, at)
        thirty(0.001)
        count += 1
    return len(pages)


def shrinks(data: dict[str, Any]) -> None:
    """Try to make the page shorter: who reads it would end by that."""
    for fd in _pages():
        with contextlib.suppress(PermissionError):
            os.ftruncate(fd, 0)
    while not Path(data["gate"]).exists():
        thirty(0.01)


def recurses(data: dict[str, Any]) -> int:
    """Call until the interpreter refuses, again and again."""
    count = 0

    def down() -> None:
        down()

    while not Path(data["gate"]).exists():
        try:
            down()
        except RecursionError:
            count += 1
    return count


def forks(data: dict[str, Any]) -> int:
    """Compute in processes of its own."""
    count = 0
    while not Path(data["gate"]).exists():
        pid = os.fork()
        if not pid:
            thirty(0.05)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        thirty(0.02)
        count += 1
    return count


def names(data: dict[str, Any]) -> None:
    """Have names and files that no program has."""
    code = split.__code__.replace(
        co_name="\udc80\n\t<b>" * 500,
        co_qualname="\udc80\n\t<b>" * 500,
        co_filename="/\x00\x1b[31m;\n" * 500,
    )
    types.FunctionType(code, globals())(data)


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
    """Do what the data says; what is to be so before it is sampled comes first."""
    before = _BEFORE.get(job.data["do"])
    if before is not None:
        before()
    job.update_progress("begun")
    return globals()[job.data["do"]](job.data)
