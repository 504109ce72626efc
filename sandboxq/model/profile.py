"""Where the time of one run of a job went, by line: what was sampled, and forms for other tools.

A tree: each node is a line of a function, below the line that has called it.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sandboxq.errors import UsageError
from sandboxq.model.validation import MAX_SAFE_INTEGER, number_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes of a profile in Redis, and what it may have when it is not compressed.
MOST_STORED = 256 << 10
_MOST_TEXT = 2 << 20
# What a reader takes of a profile that somebody else has written.
_MOST_NODES = 8192
_MOST_DEPTH = 256

Clock = Literal["wall", "cpu"]
CLOCKS = ("wall", "cpu")
# Samples a second, and seconds of one profile, that may be asked for.
MOST_HERTZ = 1000
LONGEST_PROFILE = 600.0
USUAL_HERTZ = 100
# Of the next runs of a name: how many, and for how many seconds they are waited for.
MOST_RUNS = 100
LONGEST_REQUEST = 86_400.0


class Sampling(NamedTuple):
    """How a job is sampled: so often in a second of a clock."""

    hz: int = USUAL_HERTZ
    clock: str = "wall"

    def text(self) -> str:
        """Return it as it travels."""
        return f"{self.hz} {self.clock}"


def sampling_from_text(text: str) -> Sampling | None:
    """Return it, or None for what is none."""
    hz, _, clock = text.partition(" ")
    if not (hz.isascii() and hz.isdigit() and len(hz) <= len(str(MOST_HERTZ))):
        return None
    return Sampling(int(hz), clock) if 1 <= int(hz) <= MOST_HERTZ and clock in CLOCKS else None


def checked_clock(clock: object) -> str:
    """Return the name of a clock. Raises: UsageError."""
    if clock not in CLOCKS:
        message = f"clock must be one of {', '.join(CLOCKS)}, not {clock!r:.100}"
        raise UsageError(message)
    return str(clock)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the program: name, file, first line."""

    name: str
    path: str
    line: int

    @property
    def label(self) -> str:
        """Name and file, for people."""
        return f"{self.name} ({PurePath(self.path).name})" if self.path else self.name


@dataclass(frozen=True, slots=True)
class Node:
    """A line of a function below its caller's: samples taken there itself, and their seconds."""

    parent: int
    function: int
    line: int
    samples: int
    wall: float
    cpu: float

    def seconds(self, clock: str) -> float:
        """Return the seconds of one clock, without those of what it has called."""
        return self.cpu if clock == "cpu" else self.wall


@dataclass(frozen=True)
class JobProfile:
    """What was sampled of one run of a job.

    ``clock`` is the one that the samples were taken by, ``hz`` times a second: of ``cpu`` no sample
    is taken while the job waits, and ``wall`` of its nodes is 0. ``seconds`` is for how long,
    ``ended`` why no longer: ``time``, ``completed`` or ``failed`` (the job ended), ``died`` (its
    process did). ``missed`` samples had no room. ``note`` is a remark for people. Node 0 is the
    root; a parent stands before its children.
    """

    id: str
    job_id: str
    name: str
    attempt: int
    worker: str
    pid: int
    at: float
    clock: str
    hz: int
    seconds: float
    ended: str
    samples: int
    missed: int
    note: str
    functions: list[Function] = field(repr=False)
    nodes: list[Node] = field(repr=False)

    @property
    def total(self) -> float:
        """Seconds of all samples, of the clock that they were taken by."""
        return sum(node.seconds(self.clock) for node in self.nodes)

    def stacks(self) -> Iterator[tuple[list[Node], Node]]:
        """Yield each node with samples of its own, and the nodes from the root to it."""
        for number, node in enumerate(self.nodes):
            if node.samples:
                yield self._path(number), node

    def _path(self, number: int) -> list[Node]:
        path = []
        while number:
            path.append(self.nodes[number])
            number = self.nodes[number].parent
        return path[::-1]

    def by_function(self) -> list[tuple[Function, float, float]]:
        """Return functions with their seconds: in themselves, and with all they have called.

        Most in itself first.
        """
        own, total = [0.0] * len(self.functions), [0.0] * len(self.functions)
        for path, node in self.stacks():
            seconds = node.seconds(self.clock)
            own[node.function] += seconds
            for function in {each.function for each in path}:
                total[function] += seconds
        order = sorted(range(len(own)), key=lambda each: (-own[each], -total[each]))
        return [(self.functions[each], own[each], total[each]) for each in order if total[each] > 0]

    def folded(self, clock: Clock | None = None) -> str:
        """Return a line for each stack: frames from the outermost on, then microseconds.

        The form that flamegraph.pl and most viewers read. ``clock`` is the profile's own if left
        out.
        """
        chosen = self._checked(clock)
        rows: dict[str, int] = {}
        for path, node in self.stacks():
            text = ";".join(self._frame_text(each) for each in path) or "(nothing)"
            rows[text] = rows.get(text, 0) + round(node.seconds(chosen) * 1e6)
        return "".join(f"{text} {weight}\n" for text, weight in sorted(rows.items()) if weight)

    def speedscope(self, clock: Clock | None = None) -> dict[str, Any]:
        """Return the profile in the file format of speedscope (https://www.speedscope.app)."""
        chosen = self._checked(clock)
        frames: dict[tuple[int, int], int] = {}
        samples, weights = [], []
        for path, node in self.stacks():
            keys = [(each.function, each.line) for each in path]
            samples.append([frames.setdefault(key, len(frames)) for key in keys])
            weights.append(round(node.seconds(chosen), 6))
        title = f"{self.name} {self.job_id}, attempt {self.attempt}"
        return {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "name": title,
            "activeProfileIndex": 0,
            "exporter": "sandboxq",
            "shared": {"frames": [self._frame(*key) for key in frames]},
            "profiles": [
                {
                    "type": "sampled",
                    "name": f"{title} ({chosen} time)",
                    "unit": "seconds",
                    "startValue": 0,
                    "endValue": round(sum(weights), 6),
                    "samples": samples,
                    "weights": weights,
                }
            ],
        }

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values; times are seconds."""
        names = [each.name for each in fields(self) if each.name not in {"functions", "nodes"}]
        return {
            **{name: getattr(self, name) for name in names},
            "total": self.total,
            "functions": [[each.name, each.path, each.line] for each in self.functions],
            "nodes": [
                [each.parent, each.function, each.line, each.samples, each.wall, each.cpu]
                for each in self.nodes
            ],
        }

    def _checked(self, clock: Clock | None) -> str:
        return self.clock if clock is None else checked_clock(clock)

    def _frame_text(self, node: Node) -> str:
        label = self.functions[node.function].label.replace(";", ",")
        return f"{label}:{node.line}" if node.line else label

    def _frame(self, function: int, line: int) -> dict[str, Any]:
        it = self.functions[function]
        frame: dict[str, Any] = {"name": it.name or "?"}
        if it.path:
            frame |= {"file": it.path, "line": line}
        return frame


def profile_from_stored(stored: bytes) -> JobProfile | None:
    """Return a profile that Redis has; None for what is none: anybody may write there."""
    try:
        inflate = zlib.decompressobj()
        raw = inflate.decompress(stored, _MOST_TEXT) if len(stored) <= MOST_STORED else b""
        return _profile_from(json.loads(raw))
    except (zlib.error, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def _profile_from(it: dict[str, Any]) -> JobProfile:
    functions = [
        Function(str(name), str(path), _count(line)) for name, path, line in it["functions"]
    ]
    nodes: list[Node] = []
    depths: list[int] = []
    for number, row in enumerate(it["nodes"][:_MOST_NODES]):
        parent, function, line, samples, wall, cpu = map(_count, row)
        if not (function < len(functions) and parent < max(1, number)):
            raise ValueError(number)
        depths.append(depths[parent] + 1 if number else 0)
        if depths[-1] > _MOST_DEPTH:
            raise ValueError(number)
        nodes.append(Node(parent, function, line, samples, wall / 1e6, cpu / 1e6))
    return JobProfile(
        id=str(it["id"]),
        job_id=str(it["job_id"]),
        name=str(it["name"]),
        attempt=_count(it["attempt"]),
        worker=str(it["worker"]),
        pid=_count(it["pid"]),
        at=_number(it["at"]),
        clock="cpu" if it["clock"] == "cpu" else "wall",
        hz=_count(it["hz"]),
        seconds=_number(it["seconds"]),
        ended=str(it["ended"]),
        samples=_count(it["samples"]),
        missed=_count(it["missed"]),
        note=str(it.get("note", "")),
        functions=functions,
        nodes=nodes,
    )


def _number(value: object) -> float:
    """Return a number from 0 on. Raises: ValueError: none, or too large to be counted with."""
    number = number_from_wire(value)
    if number is None or abs(number) >= MAX_SAFE_INTEGER:
        raise ValueError(value)
    return max(0.0, number)


def _count(value: object) -> int:
    return int(_number(value))
