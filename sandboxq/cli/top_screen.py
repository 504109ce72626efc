"""What ``sandboxq top`` shows: hosts, their workers, their children, their jobs.

Rows come from whoever publishes on the channel: each value is read as the number or text that it
should be, and made safe for a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.model.validation import number_from_wire
from sandboxq.payload.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Seconds after which a worker that says nothing any more is not shown.
SILENCE = 5.0
# More workers than anybody reads.
_MOST_WORKERS = 1000
_MOST_TEXT = 60
_MB = 1 << 20
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Heard(NamedTuple):
    """What a worker said, and when, on the viewer's clock."""

    row: dict[str, Any]
    at: float


class View:
    """The latest of each worker, and the one before, for what is told per second."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._now: dict[str, Heard] = {}
        self._before: dict[str, Heard] = {}

    def take(self, row: dict[str, Any], at: float) -> None:
        """Take what a worker says."""
        key = _text(row.get("id"))
        if key in self._now:
            self._before[key] = self._now[key]
        elif len(self._now) >= _MOST_WORKERS:
            return
        self._now[key] = Heard(row, at)

    def lines(self, now: float) -> list[str]:
        """Return what there is to see, the summary first."""
        self._forget(now)
        ordered = sorted(self._now, key=lambda key: _order(self._now[key].row))
        by_host: dict[str, list[str]] = {}
        for key in ordered:
            by_host.setdefault(_text(self._now[key].row.get("host")), []).append(key)
        lines = [self._summary(len(by_host))]
        for host, keys in by_host.items():
            lines += ["", host, *(line for key in keys for line in self._worker(key))]
        return lines

    def _forget(self, now: float) -> None:
        for key in [key for key, heard in self._now.items() if now - heard.at > SILENCE]:
            del self._now[key]
            self._before.pop(key, None)

    def _summary(self, hosts: int) -> str:
        rows = [heard.row for heard in self._now.values()]
        children = int(sum(_number(row.get("procs")) for row in rows))
        busy = int(sum(_number(row.get("busy")) for row in rows))
        rate = sum(self._rate(key) for key in self._now)
        return (
            f"{_count(hosts, 'host')}, {_count(len(rows), 'worker')}, "
            f"{busy} of {_count(children, 'child', 'children')} busy, {rate:.3g} jobs/s"
        )

    def _rate(self, key: str) -> float:
        """Return how many jobs a worker ends in a second."""
        now, before = self._now[key], self._before.get(key)
        if before is None or now.at <= before.at:
            return 0.0
        return max(0.0, _done(now.row) - _done(before.row)) / (now.at - before.at)

    def _worker(self, key: str) -> Iterator[str]:
        heard, before = self._now[key], self._before.get(key)
        row = heard.row
        circuit = _text(row.get("circuit"))
        state = _text(row.get("state")) if circuit == "closed" else f"circuit {circuit}"
        yield (
            f"  {_text(row.get('queue'))}: {_text(row.get('worker'))}, pid "
            f"{_number(row.get('pid')):.0f}, {state}, {_number(row.get('busy')):.0f} of "
            f"{_number(row.get('procs')):.0f} children busy, load {_number(row.get('load')):.2f}, "
            f"{self._rate(key):.3g} jobs/s, {_number(row.get('failed')):.0f} failed, policy "
            f"{_text(row.get('policy'))}"
        )
        spent = {_number(it.get("pid")): _number(it.get("cpu")) for it in _rows(before, "children")}
        seconds = heard.at - before.at if before is not None else 0.0
        for child in _rows(heard, "children"):
            yield _child(child, spent.get(_number(child.get("pid"))), seconds)
            yield from _jobs(child)


def _child(child: dict[str, Any], spent: float | None, seconds: float) -> str:
    """Return the line of a child; ``spent`` is what it had used of the CPU so long ago."""
    line = f"    child {_number(child.get('pid')):.0f}  {_text(child.get('state')):<8}"
    if "cpu" not in child:
        return line.rstrip()
    cpu, age = _number(child.get("cpu")), _number(child.get("age"))
    used = cpu / age if age else 0.0
    if spent is not None and seconds > 0:
        used = max(0.0, cpu - spent) / seconds
    memory = _number(child.get("memory"))
    most = f" of {memory / _MB:.0f}" if memory else ""
    rss = _number(child.get("rss")) / _MB
    return f"{line}  {used * 100:4.0f} % CPU  {rss:5.0f}{most} MB  age {duration(age)}"


def _jobs(child: dict[str, Any]) -> Iterator[str]:
    jobs = [job for job in _list(child.get("jobs")) if isinstance(job, dict)]
    for job in jobs:
        left = job.get("left")
        until = "" if left is None else f", {duration(_number(left))} left"
        ran = duration(_number(job.get("seconds")))
        yield f"      job {_text(job.get('id'))}  {_text(job.get('name'))}  {ran}{until}"
    more = int(_number(child.get("running"))) - len(jobs)
    if more > 0:
        yield f"      and {_count(more, 'more job')}"


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{seconds // _DAY:.0f} d {seconds % _DAY // _HOUR:.0f} h"


def _done(row: dict[str, Any]) -> float:
    return _number(row.get("completed")) + _number(row.get("failed"))


def _order(row: dict[str, Any]) -> tuple[str, str, float]:
    return _text(row.get("host")), _text(row.get("queue")), _number(row.get("pid"))


def _rows(heard: Heard | None, name: str) -> list[dict[str, Any]]:
    found: Iterable[Any] = _list(heard.row.get(name)) if heard is not None else ()
    return [each for each in found if isinstance(each, dict)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> float:
    """Return a number that can be counted with, 0 for what is none; forged ones add up to one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (number_from_wire(value) or 0.0) if is_number else 0.0


def _text(value: object) -> str:
    """Return text, cut, that no terminal obeys."""
    return printable_line(str(value)[:_MOST_TEXT]) if isinstance(value, str | int) else "?"


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
