"""The lines of ``sandboxq top``: hosts, their workers, their children, their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.fleet import Row

_MOST_TEXT = 60
_MB = 1 << 20
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def lines_of(tree: Row) -> list[str]:
    """Return what there is to see of a tree of Fleet, the summary first."""
    lines = [_summary(tree["summary"])]
    for host in tree["hosts"]:
        lines += ["", host["host"][:_MOST_TEXT]]
        lines += [line for worker in host["workers"] for line in _worker(worker)]
    return lines


def _summary(sums: Row) -> str:
    return (
        f"{_count(sums['hosts'], 'host')}, {_count(sums['workers'], 'worker')}, {sums['busy']} of "
        f"{_count(sums['procs'], 'child', 'children')} busy, {sums['rate'] or 0:.3g} jobs/s"
    )


def _worker(worker: Row) -> Iterator[str]:
    texts = {name: worker[name][:_MOST_TEXT] for name in ("queue", "worker", "state", "policy")}
    yield (
        f"  {texts['queue']}: {texts['worker']}, pid {worker['pid']}, {texts['state']}, "
        f"{worker['busy']} of {worker['procs']} children busy, load {worker['load']:.2f}, "
        f"{worker['rate'] or 0:.3g} jobs/s, {worker['failed']} failed, policy {texts['policy']}"
    )
    for child in worker["children"]:
        yield _child(child)
        yield from _jobs(child)


def _child(child: Row) -> str:
    line = f"    child {child['pid']}  {child['state'][:_MOST_TEXT]:<8}"
    if child["cpu"] is None:
        return line.rstrip()
    most = f" of {child['memory'] / _MB:.0f}" if child["memory"] else ""
    rss = child["rss"] / _MB
    return (
        f"{line}  {child['cpu'] * 100:4.0f} % CPU  {rss:5.0f}{most} MB  "
        f"age {duration(child['age'])}"
    )


def _jobs(child: Row) -> Iterator[str]:
    for job in child["jobs"]:
        until = "" if job["left"] is None else f", {duration(job['left'])} left"
        name, ran = job["name"][:_MOST_TEXT], duration(job["seconds"])
        yield f"      job {job['id'][:_MOST_TEXT]}  {name}  {ran}{until}"
    more = child["running"] - len(child["jobs"])
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


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
