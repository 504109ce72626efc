"""A processor that does what its job's data asks for: the tests' far side."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import signal
import subprocess
import sys
import time
from typing import Any

from sandboxq import (
    DelayedError,
    RateLimitError,
    UnrecoverableError,
    WaitingChildrenError,
    WaitingError,
)


def process(job: Any) -> Any:
    """Run the action named in the job's data."""
    data = job.data
    if "begun" in data:
        open(data["begun"], "w").close()  # noqa: PTH123 - as small as can be
    return _ACTIONS[data.get("do", "echo")](job, data)


def _echo(_job: Any, data: Any) -> Any:
    return data.get("value")


def _large(_job: Any, data: Any) -> str:
    return "x" * int(data["size"])


def _sleep(_job: Any, data: Any) -> str:
    """Sleep for seconds, or until there is a file."""
    while "until" in data and not os.path.exists(data["until"]):  # noqa: PTH110 - as above
        time.sleep(0.01)
    time.sleep(data.get("seconds", 0))
    return "slept"


def _stay(job: Any, data: Any) -> str:
    """Look once, so that no exception is raised here, and never again."""
    assert not job.cancelled
    time.sleep(data["seconds"])
    return "stayed"


def _say(_job: Any, data: Any) -> None:
    print(data["text"])  # noqa: T201 - what is printed is the point


def _mark(_job: Any, data: Any) -> int:
    """Leave a line in a file, so that a test can count runs; then sleep."""
    with open(data["path"], "a", encoding="utf-8") as file:  # noqa: PTH123 - append mode
        file.write(f"{os.getpid()}\n")
    time.sleep(data.get("seconds", 0))
    return os.getpid()


def _fail(_job: Any, data: Any) -> None:
    raise ValueError(data.get("message", "boom"))


def _fail_until(job: Any, data: Any) -> int:
    if job.attempts_made < data["times"]:
        message = f"attempt {job.attempts_made}"
        raise ValueError(message)
    return int(job.attempts_made)


def _give_up(_job: Any, _data: Any) -> None:
    message = "no use"
    raise UnrecoverableError(message)


def _exit(_job: Any, data: Any) -> None:
    os._exit(data["code"])


def _segv(_job: Any, _data: Any) -> None:
    ctypes.string_at(0)


def _kill(_job: Any, data: Any) -> None:
    os.kill(os.getpid(), getattr(signal, data["signal"]))
    time.sleep(30)


def _not_json(_job: Any, _data: Any) -> Any:
    return {1, 2}


def _report(job: Any, _data: Any) -> str:
    job.log("a row")
    print("a printed line")  # noqa: T201 - what is printed is the point
    print("a line on stderr", file=sys.stderr)  # noqa: T201 - what is printed is the point
    logging.getLogger("mine").warning("a warning")
    job.update_progress({"done": 40})
    job.update_data({"do": "echo", "seen": True})
    return "reported"


def _spawn(_job: Any, data: Any) -> None:
    """Start a grandchild that has left the session, note both pids, and stay."""
    grandchild = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with open(data["path"], "a", encoding="utf-8") as file:  # noqa: PTH123 - append mode
        file.write(f"{os.getpid()}\n{grandchild.pid}\n")
    time.sleep(60)


def _move(job: Any, data: Any) -> Any:
    """Ask for a move at the first run, noted in the data; return how often it was begun."""
    if data.get("moved"):
        return job.attempts_started
    job.update_data({**data, "moved": True})
    seconds = data.get("seconds", 0)
    moves = {
        "delayed": DelayedError(seconds),
        "wait": WaitingError(),
        "waiting-children": WaitingChildrenError(),
        "rate-limit": RateLimitError(seconds),
    }
    raise moves[data["to"]]


def _until_cancelled(job: Any, data: Any) -> str:
    deadline = time.monotonic() + data["seconds"]
    while time.monotonic() < deadline and not job.cancelled:
        time.sleep(0.01)
    return "tidied up"


def _trace_context(job: Any, _data: Any) -> Any:
    return job.trace_context


def _hoard(_job: Any, data: Any) -> None:
    """Touch shared memory, which no limit of a process counts; then stay."""
    memory = mmap.mmap(-1, data["bytes"])
    for place in range(0, data["bytes"], mmap.PAGESIZE):
        memory[place] = 1
    time.sleep(600)


def _until_told(job: Any, _data: Any) -> Any:
    """Wait for messages, and return them."""
    while not (told := job.messages()):
        time.sleep(0.01)
    return told


_ACTIONS = {
    "hoard": _hoard,
    "until-told": _until_told,
    "trace-context": _trace_context,
    "until-cancelled": _until_cancelled,
    "move": _move,
    "echo": _echo,
    "large": _large,
    "sleep": _sleep,
    "stay": _stay,
    "say": _say,
    "mark": _mark,
    "fail": _fail,
    "fail-until": _fail_until,
    "give-up": _give_up,
    "exit": _exit,
    "segv": _segv,
    "kill": _kill,
    "not-json": _not_json,
    "report": _report,
    "spawn": _spawn,
}
