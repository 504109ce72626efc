"""The ready-made processors under `strict`, once they are granted what they read and write."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.pool.desk import open_pool

_PROCESSORS = Path(__file__).parents[2] / "processors"


def test_burn_and_array_stats_need_no_grant() -> None:
    """Pure Python and numpy compute."""
    pytest.importorskip("numpy")

    async def main() -> None:
        async with open_pool(_PROCESSORS / "burn.py", policy="strict") as desk:
            assert (await desk.value({"seconds": 0.01}))["rounds"] > 0
        async with open_pool(_PROCESSORS / "array_stats.py", policy="strict") as desk:
            assert (await desk.value({"size": 1000, "seed": 1}))["count"] == 1000

    run_async(main())


def test_resize_with_two_folders(tmp_path: Path) -> None:
    """Pictures come from one folder and go to another; a child each, if wanted."""
    image = pytest.importorskip("PIL.Image")
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    image.new("RGB", (64, 48), "red").save(source / "a.png")
    data = {"src": str(source / "a.png"), "dst": str(target / "small" / "a.jpg"), "width": 32}

    async def main() -> None:
        for is_fresh in (False, True):
            policy = Policy("strict", read=[str(source)], write=[str(target)], fresh=is_fresh)
            async with open_pool(_PROCESSORS / "resize.py", policy=policy) as desk:
                pids = set()
                for _ in range(3):
                    pids |= set(desk.pool.pids)
                    assert (await desk.value(data))["height"] == 24
                assert len(pids) > 1 or not is_fresh

    run_async(main())


def test_async_processor_under_strict() -> None:
    """The loop of a child needs a pair of sockets and a pipe, and no network."""

    async def main() -> None:
        async with open_pool(_PROCESSORS / "sleep.py", policy="strict", concurrency=4) as desk:
            calls = [desk.submit({"seconds": 0.01}) for _ in range(4)]
            for call in calls:
                assert "seconds" in str(await desk.outcome(call))

    run_async(main())
