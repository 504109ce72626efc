"""The latest that running workers said: hosts, their workers, their children, their jobs.

Rows come from whoever publishes on the channel: each value is read as the number or text that it
should be, and made safe to print. What is told per second is of what was between two rows.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.model.validation import number_from_wire
from sandboxq.payload.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds after which a worker that says nothing any more is not shown.
SILENCE = 5.0
# More workers than anybody reads.
_MOST_WORKERS = 1000
_MOST_CHILDREN, _MOST_JOBS = 256, 64
# Of all workers together; their sums count all.
_MOST_ALL_CHILDREN, _MOST_ALL_JOBS = 4000, 8000
_MOST_TEXT, _MOST_MEMBERS = 128, 64

Row = dict[str, Any]


class Heard(NamedTuple):
    """What a worker said, and when, on the viewer's clock."""

    row: Row
    at: float


class Fleet:
    """The latest of each worker, and the one before."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._now: dict[str, Heard] = {}
        self._before: dict[str, Heard] = {}

    def take(self, row: Row, at: float) -> None:
        """Take what a worker says."""
        key = text(row.get("id"))
        children = _dicts(row.get("children"), _MOST_CHILDREN)
        row = {**_plain(row), "children": [_kept(child) for child in children]}
        if key in self._now:
            self._before[key] = self._now[key]
        elif len(self._now) >= _MOST_WORKERS:
            return
        self._now[key] = Heard(row, at)

    def tree(self, now: float) -> Row:
        """Return what there is: ``summary``, and ``hosts`` with their ``workers``."""
        self._forget(now)
        children, jobs = iter(range(_MOST_ALL_CHILDREN)), iter(range(_MOST_ALL_JOBS))
        workers = [self._worker(key, children, jobs) for key in self._now]
        workers.sort(key=lambda it: (it["host"], it["queue"], it["pid"], it["id"]))
        by_host: dict[str, list[Row]] = {}
        for worker in workers:
            by_host.setdefault(worker["host"], []).append(worker)
        hosts = [
            {"host": host, **_sums(found), "workers": found} for host, found in by_host.items()
        ]
        return {"summary": {"hosts": len(hosts), **_sums(workers)}, "hosts": hosts}

    def _forget(self, now: float) -> None:
        for key in [key for key, heard in self._now.items() if now - heard.at > SILENCE]:
            del self._now[key]
            self._before.pop(key, None)

    def _worker(self, key: str, children: Iterator[int], jobs_left: Iterator[int]) -> Row:
        heard, before = self._now[key], self._before.get(key)
        row, seconds = heard.row, heard.at - before.at if before is not None else 0.0
        known = before.row["children"] if before is not None else ()
        spent = {number(it.get("pid")): number(it.get("cpu")) for it in known}
        places = _whole(row.get("places") or number(row.get("procs")) * 1)
        jobs = _whole(row.get("jobs"))
        return {
            "id": key,
            **{name: text(row.get(name)) for name in _TEXTS},
            **{name: _whole(row.get(name)) for name in _WHOLES},
            "state": _state(row),
            "since": number(row.get("since")),
            "load": number(row.get("load")),
            "lag": None if row.get("lag") is None else number(row.get("lag")),
            "places": places,
            "jobs": jobs,
            "free": max(0, places - jobs),
            "rate": _rate(heard, before) if before is not None else None,
            "children": [
                _child(it, spent.get(number(it.get("pid"))), seconds, jobs_left)
                for it, _ in zip(row["children"], children, strict=False)
            ],
        }


_TEXTS = ("worker", "queue", "host", "version", "python", "processor", "kind", "policy")
_WHOLES = ("pid", "concurrency", "procs", "busy", "completed", "failed", "retried", "died")


def _sums(workers: list[Row]) -> Row:
    names = ("procs", "busy", "places", "free", "jobs", "completed", "failed", "died")
    rates = [it["rate"] for it in workers if it["rate"] is not None]
    sums = {name: sum(it[name] for it in workers) for name in names}
    return {"workers": len(workers), **sums, "rate": sum(rates) if rates else None}


def _state(row: Row) -> str:
    circuit = text(row.get("circuit"))
    return text(row.get("state")) if circuit == "closed" else f"circuit {circuit}"


def _rate(now: Heard, before: Heard) -> float:
    """Return how many jobs a worker ends in a second."""
    if now.at <= before.at:
        return 0.0
    return max(0.0, _done(now.row) - _done(before.row)) / (now.at - before.at)


def _done(row: Row) -> float:
    return number(row.get("completed")) + number(row.get("failed"))


def _kept(child: Row) -> Row:
    """Return a child with as many of its jobs as are ever shown."""
    jobs = _dicts(child.get("jobs"), _MOST_JOBS)
    return {**_plain(child), "jobs": [_plain(job) for job in jobs]}


def _child(child: Row, spent: float | None, seconds: float, jobs_left: Iterator[int]) -> Row:
    """Return what a child does; ``spent`` is what it had used of the CPU so long ago."""
    jobs = [_job(it) for it, _ in zip(child["jobs"], jobs_left, strict=False)]
    row: Row = {
        "pid": _whole(child.get("pid")),
        "state": text(child.get("state")),
        "memory": _whole(child.get("memory")) or None,
        "blocked": number(child.get("blocked")),
        "printed": text(child.get("printed", "")),
        "running": _whole(child.get("running")),
        "jobs": jobs,
        "cpu": None,
        "rss": None,
        "age": None,
    }
    if "cpu" in child:
        cpu, age = number(child.get("cpu")), number(child.get("age"))
        used = cpu / age if age else 0.0
        if spent is not None and seconds > 0:
            used = max(0.0, cpu - spent) / seconds
        row |= {"cpu": used, "rss": _whole(child.get("rss")), "age": age}
    return row


def _job(job: Row) -> Row:
    left = job.get("left")
    return {
        "id": text(job.get("id")),
        "name": text(job.get("name")),
        "seconds": max(0.0, number(job.get("seconds"))),
        "left": None if left is None else number(left),
    }


def _plain(row: Row) -> Row:
    """Return the texts, cut, and the numbers of a row: forged ones have megabytes of others."""
    return {
        name: value[:_MOST_TEXT] if isinstance(value, str) else value
        for name, value in islice(row.items(), _MOST_MEMBERS)
        if isinstance(value, str | int | float)
    }


def _dicts(value: object, most: int) -> list[Row]:
    found = value[:most] if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]


def _whole(value: object) -> int:
    return int(number(value))


def number(value: object) -> float:
    """Return a number that can be counted with, 0 for what is none; forged ones add up to one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (number_from_wire(value) or 0.0) if is_number else 0.0


def text(value: object, most: int = _MOST_TEXT) -> str:
    """Return text, cut, that no terminal obeys; ``?`` for what is none."""
    return printable_line(str(value)[:most]) if isinstance(value, str | int) else "?"
