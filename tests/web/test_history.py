"""The memory of the task stream: bounded, whatever anybody publishes; rows, and what is new."""

from __future__ import annotations

import random
from typing import Any

from sandboxq.queue.fleet import Fleet
from sandboxq.web.history import (
    HOUR_MS,
    MOST_BARS,
    MOST_ROWS,
    MOST_RUNNING,
    History,
    StoredJob,
)

NOW = 10 * HOUR_MS
WORKER = {"id": "1", "worker": "w", "queue": "images", "host": "web-1", "pid": 7}
WRONG: list[Any] = [
    None, True, -1, 10**400, float("nan"), "\x1b[2J\n", "a" * 10_000, [], [None, 1], {}, [[]],
    [["x", {}, [], None, 1e308, "y", -5, "z"]], [[1] * 8] * 3, [[1, 2, 3, 4]],
]  # fmt: skip


def message(**stream: Any) -> dict[str, Any]:
    """Return what a worker sends."""
    return {**WORKER, "stream": {"bars": [], "marks": [], "running": [], "left_out": 0, **stream}}


def bar(pid: int, end: int, name: str = "resize", count: int = 1) -> list[Any]:
    """Return the end of a job that ran a second."""
    return [pid, end - 1000, end, name, "17", "completed", count, 1000.0]


def test_a_child_has_the_place_of_the_one_before_it() -> None:
    """A row for each that there is at once, however many are replaced."""
    history = History()
    for pid in range(100, 150):
        history.take(message(pids=[7, pid], bars=[bar(7, NOW), bar(pid, NOW)]), NOW)
    assert [(row["lane"], row["pid"]) for row in history.rows] == [(0, 7), (1, 149)]


def test_two_workers_of_one_name() -> None:
    """They are told apart."""
    history = History()
    for worker_id in "ab":
        history.take({**message(pids=[1], bars=[bar(1, NOW)]), "id": worker_id}, NOW)
    assert [row["worker"] for row in history.rows] == ["w", "w (b)"]


def test_what_came_after_a_place() -> None:
    """Each bar once, in its order; who has missed some is to get all."""
    history = History()
    seen: list[str] = []
    place = 0
    for number in range(50):
        history.take(message(pids=[1], bars=[bar(1, NOW, name=f"{number}")]), NOW)
        if number % 3 == 0:
            seen += [each[3] for each in history.since(place, NOW)["bars"]]
            place = history.place
    assert seen == [f"{number}" for number in range(49)]
    assert history.has_all_since(1)
    for _ in range(MOST_BARS // 500 + 1):
        history.take(message(pids=[1], bars=[bar(1, NOW)] * 500), NOW)
    assert not history.has_all_since(place)
    assert len(history.all(NOW)["bars"]) == MOST_BARS


def test_a_worker_with_more_children_than_there_are() -> None:
    """It names others in each message, and not those that it has."""
    history = History()
    for first in range(0, 100_000, 1000):
        bars = [bar(pid, NOW) for pid in range(first, first + 1000)]
        history.take(message(bars=bars, running=[[first, 1, "x", "y"]] * 1000), NOW)
        history.take({**message(running=[[1, 1, "x", "y"]] * 1000), "id": f"{first}"}, NOW)
    assert len(history.rows) <= MOST_ROWS
    assert len(history.lanes_of("1")) <= MOST_ROWS
    assert len(history.all(NOW)["running"]) <= MOST_RUNNING


def test_a_tree_of_more_than_anybody_reads() -> None:
    """Each worker says what it likes; all of them together are kept and shown up to a bound."""
    fleet = Fleet()
    jobs = [{"id": "1", "name": "x" * 10_000}] * 100
    children = [{"pid": pid, "jobs": jobs, "junk": [0] * 100} for pid in range(300)]
    for number in range(40):
        row = {**WORKER, "id": f"{number}", "junk": "x" * 1_000_000, "children": children}
        fleet.take(row | {f"{each}": 1 for each in range(1000)}, 1.0)
    (host,) = fleet.tree(1.0)["hosts"]
    shown = [child for worker in host["workers"] for child in worker["children"]]
    assert len(shown) == 4000
    assert sum(len(child["jobs"]) for child in shown) == 8000
    assert len(host["workers"]) == 40
    assert all(len(job["name"]) < 200 for child in shown for job in child["jobs"])


def test_an_hour_and_no_more() -> None:
    """What is older goes."""
    history = History()
    history.take(message(pids=[1], bars=[bar(1, NOW)], marks=[[NOW, 1, "died", "x"]]), NOW)
    later = NOW + HOUR_MS + 2000
    history.take(message(pids=[1], bars=[bar(1, later)]), later)
    told = history.all(later)
    assert [each[2] for each in told["bars"]] == [later]
    assert told["marks"] == []


def test_jobs_of_before_lie_side_by_side() -> None:
    """No bar over another one; what still runs holds its place and has no bar."""
    history = History()
    jobs = [
        StoredJob("images", "w", f"{at}", "resize", NOW + at * 400, NOW + at * 400 + 1000, "failed")
        for at in range(20)
    ]
    history.fill([*jobs, StoredJob("images", "w", "x", "long", NOW - 1, 2**53 - 1, "active")])
    told = history.all(NOW)
    by_row: dict[int, list[Any]] = {}
    for each in told["bars"]:
        by_row.setdefault(each[0], []).append(each)
    assert sum(map(len, by_row.values())) == 20
    assert 0 not in by_row
    for bars in by_row.values():
        ends = [0, *(each[2] for each in bars)]
        assert all(begin >= end for (_, begin, *_), end in zip(bars, ends, strict=False))


def test_a_running_job_keeps_the_place_that_it_held() -> None:
    """Its child sits there, not in the row of jobs that ran beside it, whoever is heard first."""
    history = History()
    long = StoredJob("images", "w", "1", "long", NOW - 9000, 2**53 - 1, "active")
    beside = StoredJob("images", "w", "2", "resize", NOW - 8000, NOW - 7000, "completed")
    history.fill([long, beside])
    running = [[7, NOW - 9000, "long", "1"]]
    history.take(message(pids=[8, 7], bars=[bar(8, NOW)], running=running), NOW)
    told = history.all(NOW)
    assert [each[0] for each in told["running"]] == [0]
    assert [each[0] for each in told["bars"]] == [1, 1]
    assert [row["pid"] for row in history.rows] == [7, 8]


def test_messages_of_strangers() -> None:
    """Whatever they hold: no error, numbers that are numbers, texts that are short."""
    draw = random.Random(3)
    history = History()
    names = ("bars", "marks", "running", "pids", "left_out")
    for _ in range(2000):
        sent = {name: draw.choice(WRONG) for name in (*WORKER, "stream")}
        if draw.random() < 0.8:
            sent["stream"] = {name: draw.choice(WRONG) for name in names}
        history.take(sent, NOW)
    for wrong in WRONG:
        rows = {"bars": [[wrong] * 8], "marks": [[wrong] * 4], "running": [[wrong] * 4]}
        history.take({**WORKER, "stream": {**rows, "pids": [wrong]}}, NOW)
    told = history.all(NOW)
    assert all(isinstance(each[1], int) and len(each[3]) < 1000 for each in told["bars"])
    assert len(history.rows) <= 2000


def test_rows_of_workers_that_are_gone_give_their_room_back() -> None:
    """Workers start and end for months: who comes last is seen, and who looks is told all anew."""
    history, pids = History(), list(range(1, 21))
    for start in range(200):
        now, name, place = NOW + start * 2 * HOUR_MS, f"w-{start}", history.place
        sent = message(pids=pids, bars=[bar(pid, now, name) for pid in pids])
        history.take({**sent, "id": name, "worker": name}, now)
        history.forget_silent({name})
        told = history.all(now)
        rows = told["rows"]
        assert [row["id"] for row in rows] == list(range(len(rows)))
        assert len(rows) < 100
        assert {bar[3] for bar in told["bars"]} == {name}
        assert all(rows[bar[0]]["worker"] == bar[3] for bar in told["bars"])
        assert not start or history.has_all_since(place) == (len(rows) > 20)
