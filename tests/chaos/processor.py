"""What jobs of a campaign do, each by its name; each start, raise and end is a line of the ledger.

Standard library alone: it is imported by the zygote. A line is one write to a file opened with
O_APPEND, so lines of many processes never mix, and what a killed child has written stays.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

_ledgers: dict[int, int] = {}


def write(*words: object) -> None:
    """Add one line to the ledger."""
    pid = os.getpid()
    if pid not in _ledgers:  # not what the zygote had open: each child has its own
        path = os.environ["CHAOS_LEDGER"]
        _ledgers[pid] = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(_ledgers[pid], (" ".join(map(str, words)) + "\n").encode())


def proof(u: str) -> str:
    """Return what only the run of this job returns."""
    return hashlib.blake2b(u.encode(), digest_size=4).hexdigest()


def process(job: Any) -> Any:
    """Do what the job's name says."""
    data = job.data
    u = data.get("u") or f"beat-{job.id}"
    write("S", u, job.id, job.attempts_started, f"{time.time():.3f}")
    try:
        work: Any = _KINDS.get(job.name, _nap)
        value = work(job, data)
    except BaseException:
        write("R", u, job.id)
        raise
    write("E", u, job.id, f"{time.time():.3f}")
    return {"u": u, "proof": proof(u), "value": value}


def _nap(job: Any, data: dict[str, Any]) -> None:
    time.sleep(data.get("s", 0.005))
    if data.get("talks"):
        job.log("a row")
        job.update_progress(50)
        print("a line", flush=True)  # noqa: T201 - what jobs print is part of what is tried


def _talk(_job: Any, _data: dict[str, Any]) -> None:
    for number in range(300):
        print("a line of a job that says much", number)  # noqa: T201 - as above


def _nothing(_job: Any, _data: dict[str, Any]) -> None:
    return


def _spin(_job: Any, data: dict[str, Any]) -> None:
    end = time.perf_counter() + data["s"]
    while time.perf_counter() < end:
        pass


def _retry(job: Any, data: dict[str, Any]) -> None:
    if job.attempts_made < data["times"]:
        message = "asked to fail"
        raise ValueError(message)


def _parent(job: Any, _data: dict[str, Any]) -> list[str]:
    return sorted(value["u"] for value in job.children_values().values())


def _array(job: Any, _data: dict[str, Any]) -> Any:
    return job.array("a") * 2


def _bomb(_job: Any, data: dict[str, Any]) -> int:
    hoard = [bytearray(8 << 20) for _ in range(data["mb"] // 8)]
    time.sleep(1)
    return len(hoard)


def _litter(_job: Any, _data: dict[str, Any]) -> None:
    """Leave behind what must not outlive the job: a process, a file, a descriptor."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    descriptor, _path = tempfile.mkstemp()
    os.write(descriptor, b"left")


_KINDS = {
    "noop": _nothing,
    "talk": _talk,
    "spin": _spin,
    "retry": _retry,
    "fail": _retry,
    "parent": _parent,
    "array": _array,
    "bomb": _bomb,
    "litter": _litter,
}
