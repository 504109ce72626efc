"""What a job does, chosen by its name; node/processor.mjs does the same in JavaScript.

Ours alone are ``crash``, which would take Node's worker with it, and what reads arrays and bytes.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from sandboxq.errors import (
    DelayedError,
    RateLimitError,
    UnrecoverableError,
    WaitingChildrenError,
    WaitingError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _echo(job: Any) -> Any:
    return job.data


def _double(job: Any) -> Any:
    return {"pixels": job.array("pixels") * 2}


def _size(job: Any) -> list[int]:
    file = job.binary("file")
    return [len(file), file[-1]]


def _sleep(job: Any) -> str:
    time.sleep(job.data["ms"] / 1000)
    return "slept"


def _fail(job: Any) -> str:
    if job.attempts_made < job.data["times"]:
        raise ValueError(job.data["message"].replace("{n}", str(job.attempts_made)))
    return "recovered"


def _give_up(job: Any) -> None:
    raise UnrecoverableError(job.data["message"])


def _report(job: Any) -> str:
    job.update_progress(25)
    job.update_progress({"step": 2, "of": "größer"})
    job.log("first row")
    job.log("second row: größer 🙂")
    job.update_data({**job.data, "seen": True})
    return "reported"


def _tell(job: Any) -> dict[str, Any]:
    if job.opts.get("attempts", 0) > 1 and job.attempts_made == 0:
        message = "zu groß"
        raise ValueError(message)
    return {
        "prefix": job.prefix,
        "queue": job.queue_qualified_name,
        "hasBegun": job.processed_on >= job.timestamp,
        "deduplication": job.deduplication_id,
        "scheduler": job.scheduler_id,
        "failure": job.failed_reason,
    }


def _crash(job: Any) -> str:
    if job.attempts_made < job.data["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "recovered"


def _postpone(job: Any) -> int:
    if job.attempts_started > 1:
        return int(job.attempts_started)
    raise DelayedError(job.data["ms"] / 1000)


def _put_back(job: Any) -> int:
    if job.attempts_started > 1:
        return int(job.attempts_started)
    raise WaitingError


def _limit_rate(job: Any) -> int:
    if job.attempts_started > 1:
        return int(job.attempts_started)
    raise RateLimitError(job.data["ms"] / 1000)


def _await_children(job: Any) -> int:
    if job.attempts_started > 1:
        return int(job.attempts_started)
    raise WaitingChildrenError


def _nothing(_: Any) -> None:
    return None


def _children(job: Any) -> list[Any]:
    return sorted(job.children_values().values(), key=str)


def _family(job: Any) -> dict[str, Any]:
    ignored = sorted(job.ignored_children_failures().values())
    return {"values": _children(job), "ignored": ignored, "counts": job.dependencies_count()}


_KINDS: dict[str, Callable[[Any], Any]] = {
    "double": _double,
    "size": _size,
    "sleep": _sleep,
    "fail": _fail,
    "give-up": _give_up,
    "report": _report,
    "tell": _tell,
    "crash": _crash,
    "nothing": _nothing,
    "children": _children,
    "family": _family,
    "postpone": _postpone,
    "put-back": _put_back,
    "limit-rate": _limit_rate,
    "await-children": _await_children,
}


def process(job: Any) -> Any:
    """Run the job's kind; unknown kinds echo their data."""
    return _KINDS.get(job.name, _echo)(job)
