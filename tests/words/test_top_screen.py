"""What `sandboxq top` shows of rows that anybody may have published."""

from __future__ import annotations

import random
from typing import Any

from sandboxq.cli.top_screen import duration, lines_of
from sandboxq.queue.fleet import SILENCE, Fleet

ROW = {
    "id": "1", "worker": "w", "queue": "images", "host": "web-1", "pid": 7, "procs": 2, "busy": 1,
    "load": 0.5, "failed": 3, "completed": 10, "policy": "limits", "state": "running",
    "circuit": "closed",
    "children": [
        {
            "pid": 8, "state": "ready", "cpu": 5.0, "age": 10.0, "rss": 50 << 20,
            "memory": 100 << 20, "running": 3,
            "jobs": [{"id": "17", "name": "resize", "seconds": 1.5, "left": 28.5}],
        }
    ],
}  # fmt: skip
WRONG: list[Any] = [
    None, True, -1, 10**400, float("nan"), float("inf"), "\x1b[2J\n", "a" * 10_000, [], [None, 1],
    {}, {"a": 1}, [{"pid": "x", "jobs": {}}], [{"jobs": [[], {"left": "x"}]}],
]  # fmt: skip


def test_from_host_to_job() -> None:
    """Hosts, workers, children, jobs; CPU and jobs per second are of what was between two rows."""
    fleet = Fleet()
    fleet.take(ROW, 100.0)
    child = {**ROW["children"][0], "cpu": 6.0}  # type: ignore[index]  # a list
    fleet.take({**ROW, "completed": 18, "children": [child]}, 102.0)

    assert lines_of(fleet.tree(102.0)) == [
        "1 host, 1 worker, 1 of 2 children busy, 4 jobs/s",
        "",
        "web-1",
        (
            "  images: w, pid 7, running, 1 of 2 children busy, load 0.50, 4 jobs/s, 3 failed, "
            "policy limits"
        ),
        "    child 8  ready       50 % CPU     50 of 100 MB  age 10.0 s",
        "      job 17  resize  1.5 s, 28.5 s left",
        "      and 2 more jobs",
    ]


def test_a_worker_that_is_silent_is_gone() -> None:
    """It ended, or hangs: what it did last is no news."""
    fleet = Fleet()
    fleet.take(ROW, 100.0)
    assert len(lines_of(fleet.tree(100.0 + SILENCE))) > 1
    assert lines_of(fleet.tree(101.0 + SILENCE)) == [
        "0 hosts, 0 workers, 0 of 0 children busy, 0 jobs/s"
    ]


def test_rows_of_strangers() -> None:
    """Whatever they hold: no error, no endless line, nothing that a terminal obeys."""
    draw = random.Random(5)
    for _ in range(500):
        fleet = Fleet()
        for at in range(2):
            row = {name: draw.choice([value, *WRONG]) for name, value in ROW.items()}
            fleet.take(row, float(at))
        lines = lines_of(fleet.tree(2.0))
        assert all(line.isprintable() for line in lines)
        assert max(map(len, lines)) < 1000


def test_forged_numbers_add_up() -> None:
    """Of several workers, each as large as a number can be."""
    fleet = Fleet()
    for at in range(2):
        for name in "abc":
            fleet.take({**ROW, "id": name, "procs": 1e308, "completed": at * 1e308}, float(at))
    assert "3 workers" in lines_of(fleet.tree(2.0))[0]


def test_durations_in_words() -> None:
    """Of a job, and of a child that is a week old."""
    texts = ["-2.0 s", "59.9 s", "1 min 0 s", "2 h 5 min", "8 d 0 h"]
    assert [duration(each) for each in (-2, 59.9, 60, 7520, 691200)] == texts
