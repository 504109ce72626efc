"""What the library logs while a short command runs, as plain lines on stderr."""

from __future__ import annotations

import logging

from sandboxq.cli.echo import echo_error


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        echo_error(f"sandboxq: {record.getMessage()}")


def show_notes() -> None:
    """Show log records of level INFO and above: which server was started, what may be wrong."""
    log = logging.getLogger("sandboxq")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, _Notes) for handler in log.handlers):
        log.addHandler(_Notes())
