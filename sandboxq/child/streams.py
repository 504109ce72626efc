"""What stands for stdout, stderr and logging's last resort in a child: lines for ``Capture``."""

from __future__ import annotations

import codecs
import io
import logging
import sys
from typing import TYPE_CHECKING, Any

from sandboxq.child.frames import LOGGING, STDERR, STDOUT, STREAMS

if TYPE_CHECKING:
    from typing import Protocol

    class Capture(Protocol):
        """Takes text by stream, and makes lines of it: sandboxq.child.output has it."""

        def write(self, stream: int, text: str) -> bool:
            """Take text; False in a process that the job forked."""

        def flush(self, stream: int) -> bool:
            """Show what has no newline yet; False as above."""

        def resume(self) -> None:
            """Hear what was not to interrupt a line."""


def stand_ins(capture: Capture) -> tuple[LineWriter, LineWriter, LogLines]:
    """Return what stands for stdout and stderr, and for logging's last resort.

    Not for a root handler: with one, logging.basicConfig() in a processor would do nothing.
    """
    out = LineWriter(capture, STDOUT, sys.__stdout__)
    return out, LineWriter(capture, STDERR, sys.__stderr__), LogLines(capture)


class LineWriter(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``, with all that libraries ask of a text file.

    What is whole goes out as a line, the rest when it is flushed, or with the end of the job.
    """

    mode = "w"
    line_buffering = True
    write_through = False

    def __init__(self, capture: Capture, stream: int, underneath: Any) -> None:
        """Write to ``capture``; ``underneath`` is the real stream, for descriptors and forks."""
        self._capture = capture
        self._stream = stream
        self._underneath = underneath
        self._bytes: ByteWriter | None = None
        self.name = f"<{STREAMS[stream]}>"

    @property
    def buffer(self) -> Any:
        """The stream of bytes: UTF-8 of the same lines; made when somebody wants it."""
        if self._bytes is None:
            self._bytes = ByteWriter(self)
        return self._bytes

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What happens to a lone surrogate."""
        return "backslashreplace"

    def reconfigure(self, **options: Any) -> None:
        """Take note of nothing: lines stay lines, and UTF-8."""

    def detach(self) -> Any:
        """Return the stream of bytes; this one goes on to work."""
        return self.buffer

    def writable(self) -> bool:
        """Say yes."""
        return True

    def isatty(self) -> bool:
        """Say no."""
        return False

    def fileno(self) -> int:
        """Return the descriptor of the pipe."""
        return int(self._underneath.fileno())

    def close(self) -> None:
        """Stay open: the next job prints too."""

    def flush(self) -> None:
        """Show what has no newline yet."""
        if not self._capture.flush(self._stream):
            self._underneath.flush()
        self._capture.resume()

    def write(self, text: Any) -> int:
        """Take text; lines go out when they are whole."""
        if not isinstance(text, str):
            message = f"write() argument must be str, not {type(text).__name__}"
            raise TypeError(message)
        if not self._capture.write(self._stream, text):
            self._underneath.write(text)
        self._capture.resume()
        return len(text)


class ByteWriter(io.BufferedIOBase):
    """Stands for ``sys.stdout.buffer``: what is written here are lines of the same job."""

    mode = "wb"

    def __init__(self, text: LineWriter) -> None:
        """Write to ``text``."""
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    @property
    def raw(self) -> Any:
        """The same: nothing is held back here."""
        return self

    @property
    def name(self) -> str:
        """The name of the stream."""
        return self._text.name

    def writable(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the pipe."""
        return self._text.fileno()

    def write(self, data: Any) -> int:
        """Take bytes, of which half a character waits for its rest."""
        with memoryview(data) as view:
            self._text.write(self._decoder.decode(view.tobytes()))
            return view.nbytes

    def flush(self) -> None:
        """Show what has no newline yet."""
        self._text.flush()

    def close(self) -> None:
        """Stay open, also when what was put around this is closed."""


_FORMAT = logging.Formatter("%(levelname)s %(name)s: %(message)s")


class LogLines(logging.Handler):
    """Sends log records as lines, where the user has set up no handler."""

    def __init__(self, capture: Capture) -> None:
        """Write to ``capture``, with level and logger name."""
        super().__init__()
        self._capture = capture
        self.setFormatter(_FORMAT)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            self._capture.write(LOGGING, self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - logging must not fail a job; the standard way reports it
            self.handleError(record)
