"""Output of commands: text that is safe on a terminal, exit codes, the library's log.

Names, data and reasons may contain anything; what a terminal would obey is escaped. What the
library logs while a short command runs is shown as plain lines on stderr.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from sandboxq.errors import (
    BrokerUnavailable,
    ChildStartFailed,
    JobFailed,
    MechanismMissing,
    OutcomesLost,
    ProcessorNotLoaded,
    SandboxqError,
    UsageError,
    WorkersFailed,
)
from sandboxq.payload.printable import printable, printable_json, with_frames

if TYPE_CHECKING:
    from collections.abc import Iterator

# The most special error first.
_EXIT_CODES: list[tuple[type[SandboxqError], int]] = [
    (ProcessorNotLoaded, 3),
    (UsageError, 2),
    (BrokerUnavailable, 4),
    (OutcomesLost, 5),
    (ChildStartFailed, 6),
    (MechanismMissing, 6),
    (WorkersFailed, 7),
    (SandboxqError, 1),
]
# In what redis-py says of a server that cannot be reached at all.
_NOBODY = " connecting to "
# What a full disk, or a descriptor that somebody else has made non-blocking, answers to a write.
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN})


def echo(text: str) -> None:
    """Print text on stdout, with what a terminal would obey escaped."""
    click.echo(printable(text))


def echo_error(text: str) -> None:
    """Print text on stderr, in the same way; that it cannot be written changes nothing else."""
    with contextlib.suppress(OSError):
        click.echo(printable(text), err=True)


def echo_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(printable_json(json.dumps(value, ensure_ascii=False)))


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        echo_error(f"sandboxq: {record.getMessage()}")


def show_notes() -> None:
    """Show log records of level INFO and above: which server was started, what may be wrong."""
    log = logging.getLogger("sandboxq")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())


@contextlib.contextmanager
def end_with_exit_code() -> Iterator[None]:
    """Make an error of ours one message on stderr and the exit code of its kind.

    So with output that cannot be written; of a reader that has gone, click makes exit code 1.
    """
    try:
        yield
    except SandboxqError as error:
        echo_error(f"sandboxq: {_said(error)}{_hint(error)}")
        sys.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        echo_error(f"sandboxq: the output could not be written: {error.strerror}")
        _drop_output()
        sys.exit(1)


def _drop_output() -> None:
    """Discard what is still to be written: the interpreter would try again as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _said(error: SandboxqError) -> str:
    """Return an error in words; of a failed job with the trace of its last attempt."""
    if not isinstance(error, JobFailed):
        return str(error)
    last = with_frames("".join(error.stacktrace[-1:]))
    trace = "\n".join(f"  {line}" for line in last.splitlines())
    return f"{error.described()}\n{trace}" if trace else error.described()


def _hint(error: SandboxqError) -> str:
    """Return what to do when nobody listens at the URL."""
    if isinstance(error, BrokerUnavailable) and _NOBODY in str(error):
        return " Start Redis there, or say where it is with --url or $SANDBOXQ_URL."
    return ""
