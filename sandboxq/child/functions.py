"""Runs the calls of a SandboxExecutor, which the coordinator has verified before they come here."""

from __future__ import annotations

import contextlib
import json
import pickle
from typing import TYPE_CHECKING, Any

from sandboxq.errors import UsageError
from sandboxq.payload.signing import MEMBER, PROCESSOR, payload_in
from sandboxq.payload.tagged import tagged_from_exception, tagged_from_value

if TYPE_CHECKING:
    from collections.abc import Callable

# The last line of the trace of a built-in exception: what the executor makes it anew from.
RAISED = "sandboxq raised: "

_is_served = False


def setup() -> None:
    """Take note that this is the processor itself: its worker verifies."""
    global _is_served  # noqa: PLW0603 - said once in each child, before its first job
    _is_served = True


def process(job: Any) -> list[Any]:
    """Run the function on each of the arguments sent; return the values as tagged JSON."""
    if not _is_served:
        message = f"only {PROCESSOR}, named as the processor, runs functions: nothing was loaded"
        raise UsageError(message)
    try:
        return [tagged_from_value(value) for value in _values(payload_in(job.data[MEMBER]))]
    except Exception as error:
        row = tagged_from_exception(error)
        if row is not None:
            with contextlib.suppress(Exception):  # its notes may be anything
                error.add_note(RAISED + json.dumps(row))
        raise


def _values(payload: bytes) -> list[Any]:
    pickled, calls = pickle.loads(payload)  # noqa: S301 - signed, and verified by the coordinator
    function: Callable[..., Any] = pickle.loads(pickled)  # noqa: S301 - part of the same
    return [function(*args, **kwargs) for args, kwargs in calls]
