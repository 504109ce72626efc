"""Makes a profile of what a child has sampled; nothing that it says is trusted.

    packed page (child/profile_page.py) ─► checked, bounded ─► JSON, compressed: what Redis keeps

What does not hold together is left out: a job that writes to the page harms its own profile.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.child.profile_page import (
    HEAD_SIZE,
    LAST,
    LONGEST_NAME,
    MISSED,
    MOST_DEPTH,
    MOST_FUNCTIONS,
    MOST_NODES,
    MOST_TEXT,
    NODE_SIZE,
    NODES,
    SAMPLES,
    SEQ,
    TEXT,
)
from sandboxq.model.profile import MOST_STORED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxq.pool.calls import Call

_HEAD = HEAD_SIZE
MOST_PACKED = _HEAD + MOST_NODES * NODE_SIZE + MOST_TEXT
_LOW = (1 << 32) - 1
_MOST = 1 << 50
_MOST_LINE = 10_000_000
# Below the root stands the name of a thread or task.
_DEEPEST = MOST_DEPTH + 2
_control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# As faulthandler writes it, the innermost frame first.
_frame = re.compile(r'  File "(.*)", line (\d{1,8}) in (.*)')
_MOST_STUCK = 16
_number = re.compile(r"[0-9]{1,8}")
# Columns of a node as it is stored.
_COUNT, _WALL = 3, 4


class Asked(NamedTuple):
    """What to sample: ``hz`` times a second, of CPU time or not, for so many seconds.

    0 seconds: until the job ends. ``meta`` goes into the profile as it is.
    """

    hz: int
    seconds: float
    is_cpu: bool
    meta: Mapping[str, Any]


class Sampling:
    """A job that is sampled in a child."""

    __slots__ = ("asked", "call", "cpu", "cpu_before", "seq", "since", "stuck")

    def __init__(self, call: Call, asked: Asked, *, now: float, cpu: float) -> None:
        """Begin without samples."""
        self.call = call
        self.seq = call.seq
        self.asked = asked
        self.since = now
        self.stuck: Counter[str] = Counter()  # stacks that were read since the last sample
        self.cpu = self.cpu_before = cpu  # of the process: now, and at the last sample


@dataclass(frozen=True, slots=True)
class Stuck:
    """A stack that the coordinator has read of a child that took no samples, and how often."""

    text: str
    count: int


class _Tree:
    """Functions and nodes as they are stored."""

    def __init__(self) -> None:
        self.functions: list[list[Any]] = [["", "", 0]]
        self.nodes: list[list[int]] = [[0, 0, 0, 0, 0, 0]]
        self._index: dict[tuple[int, int, int], int] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def child_of(self, parent: int, name: str, path: str, line: int) -> int:
        """Return the node of a line below another one, as far as there is room."""
        function = self._numbers.get((name, path))
        if function is None:
            function = self._numbers[name, path] = len(self.functions)
            self.functions.append([name, path, 0])
        key = (parent, function, line)
        if key not in self._index:
            self._index[key] = len(self.nodes)
            self.nodes.append([parent, function, line, 0, 0, 0])
        return self._index[key]


def profile_from_packed(
    packed: bytes,
    meta: Mapping[str, Any],
    stuck: Sequence[Stuck] = (),
    stuck_us: tuple[int, int] = (0, 0),
) -> bytes:
    """Return what is stored: JSON with ``meta`` and the tree, compressed.

    ``stuck`` are stacks of the last ``stuck_us`` microseconds, of the clock and of CPU time, of
    which the child has no sample.
    """
    tree, totals = _tree_of(packed)
    _add_stuck(tree, stuck, stuck_us)
    document = {
        **meta,
        **totals,
        "functions": tree.functions,
        "nodes": tree.nodes,
    }
    raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    stored = zlib.compress(raw.encode("utf-8", "replace"), 1)
    if len(stored) <= MOST_STORED:
        return stored
    return profile_from_packed(b"", {**meta, "note": "its samples were too many to be kept"})


def _tree_of(packed: bytes) -> tuple[_Tree, dict[str, int]]:
    tree = _Tree()
    if len(packed) < _HEAD or len(packed) > MOST_PACKED:
        return tree, {"samples": 0, "missed": 0}
    head = memoryview(packed)[:_HEAD].cast("Q")
    end = _HEAD + min(head[NODES], MOST_NODES) * NODE_SIZE
    if end > len(packed):
        return tree, {"samples": 0, "missed": 0}
    functions = _functions(packed[end : end + min(head[TEXT], MOST_TEXT)])
    nodes = _nodes(memoryview(packed)[_HEAD:end].cast("Q"), len(functions))
    if nodes:
        tree.functions, tree.nodes = functions, nodes
    samples = sum(node[_COUNT] for node in tree.nodes)
    return tree, {"samples": samples, "missed": min(head[MISSED], _MOST)}


def _functions(text: bytes) -> list[list[Any]]:
    functions = []
    for row in text.decode("utf-8", "replace").split("\n")[:MOST_FUNCTIONS]:
        name, _, rest = row.partition("\t")
        path, _, first = rest.partition("\t")
        line = int(first) if _number.fullmatch(first) else 0
        functions.append([_text(name[:LONGEST_NAME]), _text(path[:LONGEST_NAME]), line])
    return functions


def _nodes(words: memoryview[int], functions: int) -> list[list[int]]:
    """Return parent, function, line, samples, µs and µs of CPU of each node.

    A parent stands before its children; what is nested too deeply counts for who is above it.
    """
    nodes: list[list[int]] = []
    depths: list[int] = []
    for number in range(len(words) // 4):
        link, counts, wall, spent = words[number * 4 : number * 4 + 4]
        parent, function = link >> 32, link & _LOW
        if function >= functions or (number and parent >= number):
            break  # and all behind it, which may be below
        depth = depths[parent] + 1 if number else 0
        line, samples = min(counts >> 32, _MOST_LINE), counts & _LOW
        if depth > _DEEPEST:
            parent = nodes[parent][0]
            depth -= 1
        depths.append(depth)
        nodes.append(
            [parent, function, line, samples, min(wall, _MOST) // 1000, min(spent, _MOST) // 1000]
        )
    return nodes


def _add_stuck(tree: _Tree, stuck: Sequence[Stuck], stuck_us: tuple[int, int]) -> None:
    """Share time out among stacks by how often each was seen."""
    stuck = stuck[:_MOST_STUCK]
    looks = sum(each.count for each in stuck)
    for each in stuck:
        node = 0
        for path, line, name in reversed(_frame.findall(each.text)[:MOST_DEPTH]):
            node = tree.child_of(
                node, _text(name[:LONGEST_NAME]), _text(path[-LONGEST_NAME:]), int(line)
            )
        tree.nodes[node][_COUNT] += each.count
        for column, time_us in enumerate(stuck_us, _WALL):
            tree.nodes[node][column] += time_us * each.count // looks


def _text(text: str) -> str:
    return _control.sub("\N{REPLACEMENT CHARACTER}", text)


def samples_in(packed: bytes) -> tuple[int, int, int]:
    """Return whose samples a page has, how many, and when the last one was, in nanoseconds."""
    if len(packed) < _HEAD:
        return 0, 0, 0
    words = memoryview(packed)[:_HEAD].cast("Q")
    return words[SEQ], words[SAMPLES], words[LAST]
