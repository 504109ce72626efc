"""The instruments of the benchmarks: a wrong instrument makes every table wrong."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks import report
from benchmarks.ticking import Heartbeat
from benchmarks.tree_cpu import tree_cpu_seconds
from tests.conftest import run_async

if TYPE_CHECKING:
    from pathlib import Path

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_a_blocked_loop_shows_as_a_gap() -> None:
    """The gap is the whole point of the heartbeat; also one that lasts to the very end counts."""

    async def blocked() -> float:
        heartbeat = Heartbeat()
        async with heartbeat.beating():
            await asyncio.sleep(0.12)
            time.sleep(0.4)  # noqa: ASYNC251 - the loop is to be blocked
        return heartbeat.longest_gap

    assert run_async(blocked()) >= 0.4


def test_a_free_loop_shows_only_its_interval() -> None:
    """Otherwise the instrument's own error would be told as the loop's."""

    async def idle() -> float:
        heartbeat = Heartbeat()
        async with heartbeat.beating():
            await asyncio.sleep(0.5)
        return heartbeat.longest_gap

    assert 0.04 < run_async(idle()) < 0.3


def test_cpu_of_the_whole_tree_counts_children_and_those_that_ended() -> None:
    """Children do the work; without them sandboxq would seem to need no CPU at all."""
    before = tree_cpu_seconds()

    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    subprocess.run([sys.executable, "-c", script], check=True)

    assert tree_cpu_seconds() - before >= 0.3


def test_cpu_of_running_children_counts() -> None:
    """A worker's children are alive when the measurement ends."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN + "print(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        before = tree_cpu_seconds()
        assert child.stdout is not None
        child.stdout.readline()

        assert tree_cpu_seconds() - before >= 0.15
        child.communicate(b"\n")


def test_tables_and_spreads_are_as_people_read_them(tmp_path: Path) -> None:
    """Results are committed as Markdown; a broken table would be the first thing to see."""
    assert report.table(("way", "jobs/s"), [("loop", "1.0")]) == (
        "| way | jobs/s |\n| --- | ---: |\n| loop | 1.0 |"
    )
    assert report.middle([3, 1, 2]) == 2
    assert report.spread([90, 100, 120]) == "-10 … +20 %"
    assert report.spread([100]) == "one run"
    assert report.table(("", "needed", "word"), [("a", "≤ 32", "met"), ("b", "", "**no**")]) == (
        "|  | needed | word |\n| --- | ---: | --- |\n| a | ≤ 32 | met |\n| b |  | **no** |"
    )

    report.write("x", text="# X\n", measured={"a": 1}, directory=tmp_path / "new")

    assert (tmp_path / "new" / "x.md").read_text() == "# X\n"
    assert (tmp_path / "new" / "x.json").exists()


def test_our_own_work_is_not_taken_for_that_of_neighbours() -> None:
    """Otherwise every result would look disturbed, and nobody would look any more."""
    neighbours, before = report.Neighbours(), time.monotonic()

    subprocess.run([sys.executable, "-c", BURN], check=True)

    seconds = time.monotonic() - before
    # The cores of this machine less the one that we used for 0.3 seconds.
    assert 0 <= neighbours.cores() <= (os.cpu_count() or 1) - 0.2 / seconds


@pytest.mark.parametrize("key", ["date", "commit", "machine", "python", "packages"])
def test_surroundings_say_what_a_repetition_needs(key: str) -> None:
    """A number without its machine and versions cannot be compared with anything."""
    assert report.surroundings()[key]


def test_the_list_of_benchmarks_names_their_questions() -> None:
    """`python -m benchmarks` is how one finds out what there is."""
    listed = subprocess.run(
        [sys.executable, "-m", "benchmarks"], capture_output=True, text=True, check=True
    ).stdout

    assert "cpu_vs_io    Where do CPU-bound and I/O-bound jobs run best" in listed
