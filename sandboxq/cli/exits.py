"""The exit codes of every command, and the one message that comes before them."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from sandboxq.cli.echo import echo_error
from sandboxq.errors import (
    BrokerUnavailable,
    ChildStartFailed,
    MechanismMissing,
    OutcomesLost,
    ProcessorNotLoaded,
    SandboxqError,
    UsageError,
)

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
    (SandboxqError, 1),
]


@contextlib.contextmanager
def end_with_exit_code() -> Iterator[None]:
    """Make an error of ours one message on stderr and the exit code of its kind."""
    try:
        yield
    except SandboxqError as error:
        echo_error(f"sandboxq: {error}")
        sys.exit(next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
