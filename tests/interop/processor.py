"""What a job does, chosen by its name; node/processor.mjs does the same in JavaScript.

Only ``crash`` is ours alone: it would take Node's worker with it.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from sandboxq.errors import UnrecoverableError

if TYPE_CHECKING:
    from collections.abc import Callable


def _echo(job: Any) -> Any:
    return job.data


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


def _crash(job: Any) -> str:
    if job.attempts_made < job.data["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "recovered"


def _nothing(_: Any) -> None:
    return None


_KINDS: dict[str, Callable[[Any], Any]] = {
    "sleep": _sleep,
    "fail": _fail,
    "give-up": _give_up,
    "report": _report,
    "crash": _crash,
    "nothing": _nothing,
}


def process(job: Any) -> Any:
    """Run the job's kind; unknown kinds echo their data."""
    return _KINDS.get(job.name, _echo)(job)
