"""The last hour of the task stream, as far as it was heard: rows, bars and marks, bounded.

A row is a place for a child of a worker: when the child is replaced, the next one takes its place.
What workers send is what any client may publish: each value is read as what it should be.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.queue.fleet import number, text

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR_MS = 3_600_000
MOST_BARS, MOST_MARKS, MOST_ROWS, MOST_RUNNING = 20_000, 1000, 2000, 5000
# So few rows are no trouble.
_FEW_ROWS = 64
# Of one message.
_MOST_IN_MESSAGE = 1000
# Milliseconds that a clock may be ahead of ours.
_AHEAD_MS = 60_000
STATES = frozenset({"completed", "failed", "died", "back", "moved"})
_BAR, _RUNNING, _MARK = 8, 4, 4

Row = dict[str, Any]


class StoredJob(NamedTuple):
    """A finished job as Redis has it; times are ms."""

    queue: str
    worker: str
    job_id: str
    name: str
    begin: int
    end: int
    state: str


class History:
    """What was heard."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.rows: list[Row] = []
        self.place = 0  # behind the newest bar or mark
        self.running: dict[str, list[list[Any]]] = {}  # by worker
        self.left_out = 0
        self.heard_until = 0  # ms: of a worker
        self._whole_since = 0  # who has a place before that is to be told all
        self._seated_at: dict[int, int] = {}  # by row: ms when a child was last there
        self._bars: deque[tuple[int, list[Any]]] = deque(maxlen=MOST_BARS)
        self._marks: deque[tuple[int, list[Any]]] = deque(maxlen=MOST_MARKS)
        self._by_key: dict[tuple[str, str, int], Row] = {}  # queue, worker, lane
        self._names: dict[tuple[str, str], str] = {}  # queue, worker: id of the live one
        self._lanes: dict[str, dict[int, int]] = {}  # by worker's id: lane of each child
        self._held: dict[tuple[str, str, str], int] = {}  # queue, worker, job that ran: its lane

    # ── what comes ──

    def take(self, message: Row, now_ms: int) -> None:
        """Take what a worker sent of its last second."""
        stream = message.get("stream")
        if not isinstance(stream, dict):
            return
        self.heard_until = max(self.heard_until, now_ms)
        worker = _Worker(self, message)
        bars, marks = _lists(stream.get("bars"), _BAR), _lists(stream.get("marks"), _MARK)
        seen = [*(bar[0] for bar in bars), *(mark[1] for mark in marks)]
        runs = _lists(stream.get("running"), _RUNNING)
        worker.keep_places(stream.get("pids"), seen)
        worker.take_held(runs, self._held)
        for bar in bars:
            begin, end = sorted((_ms(bar[1], now_ms), _ms(bar[2], now_ms)))
            row = worker.row(bar[0])
            state = text(bar[5])
            state = state if state in STATES else "moved"
            what = [text(bar[3]), text(bar[4]), state, max(1, int(number(bar[6])))]
            if row is not None:
                self._add(self._bars, [row["id"], begin, end, *what, number(bar[7])])
        for at, pid, kind, words in marks:
            row = worker.row(pid) if pid else None
            mark = [row and row["id"], _ms(at, now_ms), text(kind, 20), text(words, 200)]
            self._add(self._marks, mark)
        running = []
        for pid, begin, name, job_id in runs:
            row = worker.row(pid)
            if row is not None:
                running.append([row["id"], _ms(begin, now_ms), text(name), text(job_id)])
        self.running[worker.id] = running
        self.left_out += int(number(stream.get("left_out")))
        worker.keep_places(stream.get("pids"), [])
        worker.seat(stream.get("pids"))
        self._prune(now_ms)

    def fill(self, jobs: Iterable[StoredJob]) -> None:
        """Take jobs of before somebody looked, each in a place that is free then.

        Those that still run only hold their place, which the child that runs them gets.
        """
        self._held.clear()
        ends: dict[tuple[str, str], list[int]] = {}
        for job in sorted(jobs, key=lambda job: job.begin):
            lanes = ends.setdefault((job.queue, job.worker), [])
            lane = next((n for n, end in enumerate(lanes) if end <= job.begin), len(lanes))
            lanes[lane : lane + 1] = [job.end]
            row = self.row(job.queue, job.worker, lane, host="", pid=None)
            if job.state == "active":
                self._held[job.queue, job.worker, job.job_id] = lane
            if row is not None and job.state in STATES:
                busy = float(job.end - job.begin)
                what = [text(job.name), text(job.job_id), job.state, 1, busy]
                self._add(self._bars, [row["id"], job.begin, job.end, *what])

    def _add(self, kept: deque[tuple[int, list[Any]]], item: list[Any]) -> None:
        self.place += 1
        kept.append((self.place, item))

    def _prune(self, now_ms: int) -> None:
        while self._bars and self._bars[0][1][2] < now_ms - HOUR_MS:
            self._bars.popleft()
        while self._marks and self._marks[0][1][1] < now_ms - HOUR_MS:
            self._marks.popleft()

    def forget_silent(self, ids: set[str]) -> None:
        """Forget what runs at workers that are not among these, and who sits where."""
        self.running = {each: running for each, running in self.running.items() if each in ids}
        self._lanes = {each: lanes for each, lanes in self._lanes.items() if each in ids}
        if len(self._names) > MOST_ROWS:
            self._names = {key: each for key, each in self._names.items() if each in ids}
        self._forget_rows()

    def _forget_rows(self) -> None:
        """Give rows other numbers when most of them have had nothing for an hour."""
        here = {row for row, at in self._seated_at.items() if at > self.heard_until - HOUR_MS}
        kept = [*self._bars, *self._marks]
        used = here | {item[0] for _, item in kept if item[0] is not None}
        if len(self.rows) < max(_FEW_ROWS, 2 * len(used)):
            return
        numbers = {old: new for new, old in enumerate(sorted(used))}
        self._seated_at = {numbers[old]: self._seated_at.get(old, 0) for old in numbers}
        self.rows = [{**self.rows[old], "id": new} for old, new in numbers.items()]
        self._by_key = {(row["queue"], row["worker"], row["lane"]): row for row in self.rows}
        for item in (*(item for _, item in kept), *chain(*self.running.values())):
            item[0] = numbers.get(item[0])
        self.place += 1
        self._whole_since = self.place

    # ── rows ──

    def row(self, queue: str, worker: str, lane: int, *, host: str, pid: int | None) -> Row | None:
        """Return the row of a place; None when there are too many."""
        row = self._by_key.get((queue, worker, lane))
        if row is None:
            if len(self.rows) >= MOST_ROWS:
                return None
            row = {"id": len(self.rows), "queue": queue, "worker": worker, "lane": lane}
            row |= {"host": host, "pid": pid}
            self.rows.append(row)
            self._by_key[queue, worker, lane] = row
        if pid is not None:
            row["pid"], row["host"] = pid, host
            self._seated_at[row["id"]] = self.heard_until
        return row

    def lanes_of(self, worker_id: str) -> dict[int, int]:
        """Return the places of a worker's children."""
        return self._lanes.setdefault(worker_id, {})

    def name_of(self, queue: str, worker: str, worker_id: str) -> str:
        """Return the name of a worker; another one of the same name is told apart."""
        known = self._names.setdefault((queue, worker), worker_id)
        return worker if known == worker_id else f"{worker} ({worker_id[:4]})"

    # ── what is told ──

    def all(self, now_ms: int) -> Row:
        """Return everything."""
        return self._told([bar for _, bar in self._bars], [mark for _, mark in self._marks], now_ms)

    def since(self, place: int, now_ms: int) -> Row:
        """Return what came after a place."""
        return self._told(_after(self._bars, place), _after(self._marks, place), now_ms)

    def has_all_since(self, place: int) -> bool:
        """Tell whether nothing was forgotten that came after a place."""
        has_bars = not self._bars or self._bars[0][0] <= place + 1 or len(self._bars) < MOST_BARS
        return has_bars and place >= self._whole_since

    def _told(self, bars: list[Any], marks: list[Any], now_ms: int) -> Row:
        running = list(islice(chain.from_iterable(self.running.values()), MOST_RUNNING))
        told = {"now": now_ms, "rows": self.rows, "bars": bars, "marks": marks}
        return {**told, "running": running, "left_out": self.left_out}


class _Worker:
    """The sender of a message, and the rows of its children."""

    def __init__(self, history: History, message: Row) -> None:
        self._history = history
        self.id = text(message.get("id"))
        self._queue, self._host = text(message.get("queue")), text(message.get("host"))
        self._name = history.name_of(self._queue, text(message.get("worker")), self.id)
        self._lanes = history.lanes_of(self.id)

    def row(self, pid: object) -> Row | None:
        """Return the row of a child, a new one in the first free place."""
        number_of = int(number(pid))
        if number_of not in self._lanes:
            if len(self._lanes) >= MOST_ROWS:
                return None  # no worker has so many
            taken = set(self._lanes.values())
            free = (lane for lane in range(MOST_ROWS) if lane not in taken)
            self._lanes[number_of] = next(free)
        lane = self._lanes[number_of]
        return self._history.row(self._queue, self._name, lane, host=self._host, pid=number_of)

    def keep_places(self, pids: object, seen: list[object]) -> None:
        """Free the places of children that are gone and of which nothing more was ``seen``."""
        if isinstance(pids, list):
            here = {int(number(pid)) for pid in (*pids[:_MOST_IN_MESSAGE], *seen)}
            for pid in self._lanes.keys() - here:
                del self._lanes[pid]

    def take_held(self, runs: list[list[Any]], held: dict[tuple[str, str, str], int]) -> None:
        """Give children that have no place yet the one that their running job holds."""
        for pid, _, _, job_id in runs if held else ():
            lane = held.pop((self._queue, self._name, text(job_id)), None)
            child = int(number(pid))
            if lane is not None and child not in self._lanes and lane not in self._lanes.values():
                self._lanes[child] = lane

    def seat(self, pids: object) -> None:
        """Give those that have run nothing yet a row too."""
        for pid in pids[:_MOST_IN_MESSAGE] if isinstance(pids, list) else ():
            if number(pid):
                self.row(pid)


def _lists(value: object, length: int) -> list[list[Any]]:
    rows = value[:_MOST_IN_MESSAGE] if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, list) and len(row) == length]


def _ms(value: object, now_ms: int) -> int:
    at = value if type(value) is int else number(value)
    return int(min(max(at, now_ms - HOUR_MS), now_ms + _AHEAD_MS))


def _after(kept: deque[tuple[int, list[Any]]], place: int) -> list[Any]:
    newer = [item for _, item in takewhile(lambda each: each[0] > place, reversed(kept))]
    return newer[::-1]
