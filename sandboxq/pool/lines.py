"""What a child prints: whose it is, and how much of it is kept."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from sandboxq.child.output import LINES_LIMIT, TOO_MANY_LINES
from sandboxq.pool.capture import OutputPipe

if TYPE_CHECKING:
    import asyncio

    from sandboxq.pool.call import Call
    from sandboxq.pool.process import Child, ChildOwner

# Enough for the stacks that faulthandler writes at a crash.
_STDERR_TAIL = 64
# A line counts as one for each so many characters: a thousand long ones are a flood too.
_LONG_LINE = 1024


class Lines:
    """The two pipes of a child, and the counts of lines."""

    __slots__ = ("_child", "_owner", "_stderr", "_stdout", "_tail", "_writer", "unclaimed")

    def __init__(self, child: Child, owner: ChildOwner, loop: asyncio.AbstractEventLoop) -> None:
        """Open the pipes; ``owner`` hears the lines."""
        self._child = child
        self._owner = owner
        self._tail: list[str] = []
        self._writer = 0  # the call that the text in the pipes is of, while it is known
        self.unclaimed = 0  # lines of no call since the last answer
        with ExitStack() as opened:  # closes what there is when descriptors run out
            self._stdout = OutputPipe(loop, self, "stdout")
            opened.callback(self._stdout.close)
            self._stderr = OutputPipe(loop, self, "stderr")
            opened.pop_all()

    def far_filenos(self) -> list[int]:
        """Return the descriptors that the process writes to: stdout, stderr."""
        return [self._stdout.far_fileno(), self._stderr.far_fileno()]

    def close_far(self) -> None:
        """Close our copies of those, so that the pipes end with the process."""
        self._stdout.close_far()
        self._stderr.close_far()

    def drain(self, seq: int = 0) -> None:
        """Pass on what the process has written until now; ``seq`` has written it, if given."""
        self._writer = seq
        self._stdout.drain()
        self._stderr.drain()

    def stderr_tail(self) -> str:
        """Return the last lines that the process wrote to fd 2."""
        return "\n".join(self._tail)

    def on_text(self) -> None:
        """Find out whose the text is: not that of calls whose answers were not read yet."""
        if self._child.packets.last and not self._child.is_async:
            latest = self._child.latest()
            self._child.read()  # of answers that announce text, which is then read for them
            self._writer = latest

    def wants_lines(self) -> bool:
        """Tell whether lines of the pipes are still kept; after the limit a call's are dropped."""
        call = self._call()
        return (call.lines if call else self.unclaimed) <= LINES_LIMIT

    def on_piped_line(self, stream: str, line: str) -> None:
        """Take a line from fd 1 or 2."""
        if stream == "stderr":
            self._tail = [*self._tail[1 - _STDERR_TAIL :], line]
        self.take(self._call(), stream, line)

    def take(self, call: Call | None, stream: str, line: str) -> None:
        """Count a line, and pass it on unless there were too many."""
        weight = 1 + len(line) // _LONG_LINE
        if call is None:
            self.unclaimed += weight
            count = self.unclaimed
        else:
            call.lines += weight
            count = call.lines
        if count <= LINES_LIMIT:
            self._owner.on_line(self._child, call, stream, line)
        elif count - weight <= LINES_LIMIT:
            self._owner.on_line(self._child, call, stream, TOO_MANY_LINES)

    def close(self) -> None:
        """Stop reading; twice is harmless."""
        self._stdout.close()
        self._stderr.close()

    def _call(self) -> Call | None:
        return self._child.flying.get(self._writer) or self._child.running_call()
