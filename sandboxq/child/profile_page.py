"""The samples of one profile, in memory that outlives the child: a tree of calls.

    0 ─ numbers of eight bytes: whose it is, how much there is (the head)
    HEAD ─ nodes: parent and function, line and samples, wall time, CPU time
    TEXTS ─ functions: name, file, first line, one in each row

A node is a line of a function, below the line that has called it; what was sampled there has been
counted in the node itself. The child writes, the coordinator reads and trusts none of it
(pool/profile_table.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap
    from types import CodeType, FrameType

HEAD = 4096
MOST_NODES = 4096
NODE_SIZE = 32
TEXTS = HEAD + MOST_NODES * NODE_SIZE
SIZE = 256 * 1024
MOST_TEXT = SIZE - TEXTS
MOST_FUNCTIONS = 2048
# Frames of one stack: what is called deeper keeps its innermost ones.
MOST_DEPTH = 200
# Characters of a name, and of a path: of that the end.
LONGEST_NAME = 160
# Numbers of the head: the call (0: the page is being made), samples, nodes, bytes of texts,
# functions, samples that did not fit, and nanoseconds of the monotonic clock: when the first
# sample could be taken, when the last one was.
SEQ, SAMPLES, NODES, TEXT, FUNCTIONS, MISSED, SINCE, LAST = range(8)
HEAD_SIZE = (LAST + 1) * 8  # bytes of these
_HALF = 32
_LOW = (1 << _HALF) - 1
# Positions of code that are remembered; then anew.
_MOST_SEEN = 4 * MOST_NODES


class ProfilePage:
    """The child's side."""

    __slots__ = ("_codes", "_functions", "_memory", "_nodes", "_seen", "words")

    def __init__(self, memory: mmap.mmap) -> None:
        """Write to memory of SIZE bytes."""
        self._memory = memory
        self.words = memoryview(memory).cast("Q")
        self._functions: dict[str, int] = {}
        self._nodes: dict[tuple[int, int, int], int] = {}
        self._seen: dict[tuple[int, int, int], int] = {}
        self._codes: dict[int, CodeType] = {}  # so that none goes, and its number with it

    def begin(self, seq: int, now_ns: int) -> None:
        """Forget all samples, and begin with those of a call."""
        words = self.words
        for at in range(LAST + 1):
            words[at] = 0
        self.forget()
        words[SINCE] = words[LAST] = now_ns
        self.node_of(0, "", "", 0, 0)  # the root
        words[SEQ] = seq

    def forget(self) -> None:
        """Give back what is only needed while samples come."""
        for table in (self._functions, self._nodes, self._seen, self._codes):
            table.clear()

    def add(self, frames: list[FrameType], top: int, wall: int, spent: int) -> None:
        """Count a sample: ``frames``, the innermost first, below the node ``top``.

        ``wall`` and ``spent`` are nanoseconds since the last one, of the clock and of CPU.
        """
        seen, node = self._seen, top
        for frame in reversed(frames):
            code = frame.f_code
            key = (node, id(code), frame.f_lasti)
            found = seen.get(key)
            if found is None:
                found = self._node_at(key, node, code, frame.f_lineno or 0)
                if not found:
                    self.words[MISSED] += 1
                    break
            node = found
        self._count(node, wall, spent)

    def _count(self, node: int, wall: int, spent: int) -> None:
        words, at = self.words, (HEAD + node * NODE_SIZE) // 8
        words[at + 1] += 1
        words[at + 2] += wall
        words[at + 3] += spent
        words[SAMPLES] += 1

    def _node_at(self, key: tuple[int, int, int], parent: int, code: CodeType, line: int) -> int:
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._codes[id(code)] = code
        node = self.node_of(parent, code.co_qualname, code.co_filename, code.co_firstlineno, line)
        self._seen[key] = node
        return node

    def node_of(self, parent: int, name: str, path: str, first: int, line: int) -> int:
        """Return the node of a line below another node; 0 when there is no room for one more."""
        function = self._function(name, path, first)
        if function is None:
            return 0
        key = (parent, function, line)
        node = self._nodes.get(key)
        if node is None:
            words = self.words
            node = words[NODES]
            if node >= MOST_NODES:
                return 0
            at = (HEAD + node * NODE_SIZE) // 8
            words[at] = parent << _HALF | function
            words[at + 1] = (line & _LOW) << _HALF
            words[at + 2] = words[at + 3] = 0
            words[NODES] = node + 1
            self._nodes[key] = node
        return node

    def _function(self, name: str, path: str, first: int) -> int | None:
        row = f"{_plain(name[:LONGEST_NAME])}\t{_plain(path[-LONGEST_NAME:])}\t{first}\n"
        number = self._functions.get(row)
        if number is None:
            words, raw = self.words, row.encode("utf-8", "backslashreplace")
            number, start = words[FUNCTIONS], TEXTS + words[TEXT]
            if number >= MOST_FUNCTIONS or start + len(raw) > SIZE:
                return None
            self._memory[start : start + len(raw)] = raw
            words[TEXT] += len(raw)
            words[FUNCTIONS] = self._functions[row] = number
            words[FUNCTIONS] += 1
        return number

    def packed(self) -> bytes:
        """Return the head, the nodes and the texts that there are, without gaps."""
        return packed_from_page(self._memory[:SIZE])


def _plain(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")


def packed_from_page(raw: bytes) -> bytes:
    """Return what is used of a page; no more than fits, whatever the job has written to it."""
    if len(raw) != SIZE:
        return b""
    head = memoryview(raw)[:HEAD_SIZE].cast("Q")
    nodes = min(head[NODES], MOST_NODES)
    text = min(head[TEXT], MOST_TEXT)
    return raw[:HEAD_SIZE] + raw[HEAD : HEAD + nodes * NODE_SIZE] + raw[TEXTS : TEXTS + text]
