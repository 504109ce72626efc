"""What pages show beside what was read: sums, the story of a job, its facts in words. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.model.validation import whole_from_wire
from sandboxq.web.layout import layout
from sandboxq.web.words import clock, count, duration, size

if TYPE_CHECKING:
    from sandboxq.web.reads.flows import FlowAnswer
    from sandboxq.web.reads.job import JobAnswer
    from sandboxq.web.reads.overview import Overview

# Facts of a death that have a place of their own, or none.
_DEATH = {
    "signal": "Signal",
    "exit_code": "Exit code",
    "pid": "Process",
    "host": "Host",
    "limit": "Limit",
    "max_rss": "Memory at most",
    "peak": "Memory at most",
    "cpu_seconds": "CPU",
}
_SIZES = {"max_rss", "peak", "limit"}


def totals(overview: Overview) -> dict[str, Any]:
    """Return the sums over all queues."""
    rows = overview["queues"]
    counts = [row["counts"] for row in rows]
    oldest = [row["oldest"] for row in rows if row["oldest"] is not None]
    workers = [row["workers"] for row in rows if row["workers"] is not None]
    return {
        "waiting": sum(each["waiting"] + each["prioritized"] for each in counts),
        "active": sum(each["active"] for each in counts),
        "delayed": sum(each["delayed"] for each in counts),
        "failed": sum(each["failed"] for each in counts),
        "completed_minute": sum(sum(row["completed_minutes"][1:2]) for row in rows),
        "completed_hour": sum(sum(row["completed_minutes"]) for row in rows),
        "failed_hour": sum(sum(row["failed_minutes"]) for row in rows),
        "oldest": max(oldest, default=None),
        "workers": sum(workers) if workers else None,
        "is_unserved": any(
            row["workers"] == 0 and row["counts"]["waiting"] and not row["is_paused"]
            for row in rows
        ),
    }


class Moment(NamedTuple):
    """One entry of a job's story."""

    title: str
    tone: str
    sign: str
    at_ms: int | None = None
    text: str = ""
    trace: str = ""


def story(answer: JobAnswer) -> list[Moment]:
    """Return what happened to a job, the oldest first."""
    job = answer["job"]
    moments = [Moment("Added", "wait", "plus", job["timestamp_ms"] or None, _added(answer))]
    for attempt in answer["attempts"]:
        title = f"Attempt {attempt['number']} failed"
        text, trace = attempt["error"], attempt["trace"]
        moments.append(Moment(title, "bad", "s-failed", None, text, trace))
    unseen = job["attempts_made"] - len(answer["attempts"])
    if unseen > 0 and answer["attempts"]:
        moments.insert(1, Moment(f"{unseen} earlier attempts", "wait", "s-unknown"))
    if answer["crash_history"]:
        text = ", ".join(answer["crash_history"])
        moments.append(Moment("Children ended", "bad", "deaths", None, text))
    return [*moments, _now(answer)]


def _added(answer: JobAnswer) -> str:
    job = answer["job"]
    said = [f"to start after {duration(job['delay_ms'] / 1000)}"] if job["delay_ms"] else []
    said += [f"with priority {job['priority']}"] if job["priority"] else []
    said += [f"by the scheduler {job['scheduler']}"] if job["scheduler"] else []
    return ", ".join(said)


def _now(answer: JobAnswer) -> Moment:
    job = answer["job"]
    waited = f"waited {duration(job['wait'])}" if job["wait"] is not None else ""
    ran = f"ran {duration(job['run'])}" if job["run"] is not None else ""
    where = f"on {job['worker']}" if job["worker"] else ""
    finished = job["finished_on_ms"]
    moments = {
        "completed": Moment("Completed", "ok", "s-completed", finished, _listed(waited, ran)),
        "failed": Moment("Failed for good", "bad", "s-failed", finished, _listed(waited, ran)),
        "active": Moment("Runs", "run", "s-active", job["processed_on_ms"], _listed(waited, where)),
        "delayed": _later(answer),
        "waiting-children": _waiting_for_children(answer),
        "unknown": Moment("State unknown", "wait", "s-unknown", None, _MOVED),
    }
    return moments.get(job["state"]) or _waiting(answer)


_MOVED = "in no list of its queue: a worker may have moved it just now"


def _listed(*texts: str) -> str:
    return ", ".join(filter(None, texts))


def _later(answer: JobAnswer) -> Moment:
    job = answer["job"]
    if answer["attempts"]:
        return Moment("Is tried again later", "late", "s-delayed")
    return Moment("Starts", "late", "s-delayed", job["timestamp_ms"] + job["delay_ms"])


def _waiting_for_children(answer: JobAnswer) -> Moment:
    text = f"{count(answer['children']['unprocessed'])} of them have not ended"
    return Moment("Waits for its children", "tree", "s-waiting-children", None, text)


def _waiting(answer: JobAnswer) -> Moment:
    place = answer["place"]
    text = ""
    if place is not None:
        text = f"{count(place)} come before it" if place else "comes next"
    return Moment("Waits for a worker", "wait", "s-waiting", None, text)


def facts(answer: JobAnswer) -> list[tuple[str, str]]:
    """Return what is worth knowing of a job, as names and words."""
    job, usage = answer["job"], answer["usage"]
    told: list[tuple[str, str | None]] = [
        ("Added", clock(job["timestamp_ms"]) if job["timestamp_ms"] else None),
        ("Started", clock(job["processed_on_ms"]) if job["processed_on_ms"] else None),
        ("Ended", clock(job["finished_on_ms"]) if job["finished_on_ms"] else None),
        ("Waited", duration(job["wait"]) if job["wait"] is not None else None),
        ("Ran", duration(job["run"]) if job["run"] is not None else None),
        ("Worker", job["worker"]),
        ("Priority", str(job["priority"]) if job["priority"] else None),
        ("Scheduler", job["scheduler"]),
        ("Crashes", str(job["crashes"]) if job["crashes"] else None),
        ("Found stalled", f"{job['stalled']} times" if job["stalled"] else None),
        ("Lock", f"{duration(answer['lock'])} left" if answer["lock"] else None),
    ]
    if usage:
        cpu = usage["cpu_user"] + usage["cpu_system"]
        told += [
            ("CPU", duration(cpu)),
            ("Memory at most", size(usage["peak_rss"])),
        ]
    return [(name, value) for name, value in told if value]


def death(answer: JobAnswer) -> list[tuple[str, str]]:
    """Return what is known of the last death of a job, as names and words."""
    told: dict[str, str] = {}
    for name, value in sorted(answer["facts"].items()):
        if name not in _DEATH or not value:
            continue
        number = whole_from_wire(value) or 0
        is_size = name in _SIZES and number > 1 << 16
        seconds = f"{value} s" if name == "cpu_seconds" else value
        told[_DEATH[name]] = size(number) if is_size else seconds
    return list(told.items())


def drawing(answer: FlowAnswer) -> dict[str, Any]:
    """Return where the jobs of a flow stand, and the lines between them."""
    nodes = answer["nodes"]
    order = _deep_first(answer)
    places = {nodes[at]["key"]: place for place, at in enumerate(order)}
    placed = layout([places.get(nodes[at]["parent"] or "") for at in order])
    boxes = [
        {
            **nodes[at],
            "x": spot.x,
            "y": spot.y,
            "line": "" if spot.parent is None else spot.line_from(placed.spots[spot.parent]),
            "is_here": nodes[at]["key"] == answer["focus"],
        }
        for at, spot in zip(order, placed.spots, strict=True)
    ]
    return {"boxes": boxes, "width": placed.width, "height": placed.height}


def _deep_first(answer: FlowAnswer) -> list[int]:
    """Return the places of the nodes, each behind its parent and beside its siblings."""
    below: dict[str | None, list[int]] = {}
    for at, node in enumerate(answer["nodes"]):
        below.setdefault(node["parent"], []).append(at)
    order: list[int] = []
    waiting = below.get(None, [])[::-1]
    while waiting:
        at = waiting.pop()
        order.append(at)
        waiting.extend(reversed(below.get(answer["nodes"][at]["key"], [])))
    return order
