"""What a child prints: whose it is, and how much of it is kept."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sandboxq.child.frames import MARK, STREAMS, TEXT
from sandboxq.child.output import LINE_SIZE, too_many_lines
from sandboxq.pool.transport.output_pipe import OutputPipe

if TYPE_CHECKING:
    import asyncio

    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.options import ChildOwner, PoolOptions

# Enough for the stacks that faulthandler writes at a crash.
_STDERR_TAIL = 64
# A line counts as one for each so many characters: a thousand long ones are a flood too.
_LONG_LINE = 1024
# Anybody can write such a mark, or what only looks like one.
_mark = re.compile(re.escape(MARK) + rb"([0-2])([0-9]{1,19})").fullmatch


class Lines:
    """The two pipes of a child, and the counts of lines."""

    __slots__ = ("_child", "_most", "_owner", "_stderr", "_stdout", "_tail", "_writer", "unclaimed")

    def __init__(
        self, child: Child, owner: ChildOwner, loop: asyncio.AbstractEventLoop, terms: PoolOptions
    ) -> None:
        """Open the pipes; ``owner`` hears the lines."""
        self._child = child
        self._owner = owner
        self._most = terms.budgets.lines
        self._tail: list[str] = []
        self._writer = 0  # the call that the text in the pipes is of, while it is known
        self.unclaimed = 0  # lines of no call since the last answer
        with ExitStack() as opened:  # closes what there is when descriptors run out
            self._stdout = OutputPipe(loop, self, "stdout", is_socket=terms.is_strict)
            opened.callback(self._stdout.close)
            self._stderr = OutputPipe(loop, self, "stderr", is_socket=terms.is_strict)
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
        return (call.lines if call else self.unclaimed) <= self._most

    def is_behind(self) -> bool:
        """Tell whether lines were read that were not passed on."""
        return self._stdout.is_behind() or self._stderr.is_behind()

    def on_piped_lines(self, stream: str, lines: list[bytes]) -> bool:
        """Take lines from fd 1 or 2; marked ones say whose and of which stream they are.

        Tell whether that was the same for all: others take longer.
        """
        first = lines[0]
        head = first[: first.find(TEXT) + 1] if first[:1] == MARK else b""
        text = b"\n".join(lines)
        if head and text.count(b"\n" + head) == len(lines) - 1:  # as nearly always: one job's
            self._take_marked(head[:-1], stream, text[len(head) :].replace(b"\n" + head, b"\n"))
            return True
        self._take_mixed(stream, lines)
        return not head

    def _take_mixed(self, stream: str, lines: list[bytes]) -> None:
        last = b""
        texts: list[bytes] = []
        for line in lines:
            mark, text = b"", line
            if line[:1] == MARK:
                mark, _, text = line.partition(TEXT)
            if mark != last:
                if texts:
                    self._take_marked(last, stream, b"\n".join(texts))
                last, texts = mark, []
            texts.append(text)
        self._take_marked(last, stream, b"\n".join(texts))

    def _take_marked(self, mark: bytes, stream: str, text: bytes) -> None:
        """Take lines that have the same mark; without a mark they are those of whoever runs."""
        texts = text.decode("utf-8", "replace").split("\n")
        known = _mark(mark)
        if known is not None:
            stream = STREAMS[int(known[1])]
            call = self._child.flying.get(int(known[2]))
        else:
            call = self._call()
            if stream == "stderr":
                self._tail = [*self._tail, *texts][-_STDERR_TAIL:]
        self.take(call, stream, texts)

    def take(self, call: Call | None, stream: str, lines: list[str]) -> None:
        """Count lines, and pass them on unless there were too many."""
        weight = len(lines)
        if max(map(len, lines)) >= _LONG_LINE:
            lines = _cut(lines)
            weight = sum(map(_weight, lines))
        if call is None:
            before, self.unclaimed = self.unclaimed, self.unclaimed + weight
        else:
            before, call.lines = call.lines, call.lines + weight
        if before > self._most:
            return
        if before + weight > self._most:
            lines = _fitting(lines, self._most - before, self._most)
        self._owner.on_lines(self._child, call, stream, lines)

    def close(self) -> None:
        """Stop reading; twice is harmless."""
        self._stdout.close()
        self._stderr.close()

    def forget(self) -> None:
        """Forget what belongs to jobs that are over: another job has ended."""
        self.unclaimed = 0
        self._tail = []

    def _call(self) -> Call | None:
        """Return whose the text is: a call that the child has not begun has written nothing."""
        call = self._child.flying.get(self._writer) or self._child.running_call()
        return call if call is not None and self._child.has_begun(call) else None


def _weight(line: str) -> int:
    return 1 + len(line) // _LONG_LINE


def _cut(lines: list[str]) -> list[str]:
    """Return the lines in pieces that a dashboard can show."""
    return [
        line[start : start + LINE_SIZE]
        for line in lines
        for start in range(0, len(line) or 1, LINE_SIZE)
    ]


def _fitting(lines: list[str], room: int, most: int) -> list[str]:
    """Return as many lines as there is room for, and the one that says that there were more."""
    kept = []
    for line in lines:
        room -= _weight(line)
        if room < 0:
            break
        kept.append(line)
    return [*kept, too_many_lines(most)]
