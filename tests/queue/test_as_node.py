"""Small things in which Node's reading is the one that counts; tests/interop asks Node itself."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import UsageError
from sandboxq.model.job import Parent
from sandboxq.queue.flow import FlowProducer
from sandboxq.queue.schedulers import Repeat
from tests.conftest import run_async

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue
    from tests.queue.bench import Bench


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("state", ["waiting", "prioritized"])
def test_a_page_is_filled_up_over_ids_without_a_job(
    bench: Bench, state: str, *, ascending: bool
) -> None:
    """Else a page of a dashboard would be shorter than the one behind it."""
    priority = 1 if state == "prioritized" else None

    async def body(queue: Queue) -> None:
        jobs = await queue.add_bulk([("n", i, {"priority": priority}) for i in range(1, 7)])
        bench.redis.delete(*(queue.keys[each] for each in ("2", "3")))
        bench.redis.delete(queue.keys["5"])
        bench.redis.set(queue.keys["5"], "no hash")
        left = [job.id for job in jobs if job.id not in {"2", "3", "5"}]
        in_order = left if ascending else left[::-1]
        for size in (1, 2, 3, 9):
            page = await queue.get_jobs(state, 0, size - 1, ascending=ascending)
            assert [job.id for job in page] == in_order[:size]
        whole = await queue.get_jobs(state, ascending=ascending)
        assert [job.id for job in whole] == in_order

    bench.run(body)


def test_a_job_of_a_flow_without_data(bench: Bench) -> None:
    """Nothing said is an empty object; None said is null."""

    async def main() -> list[Any]:
        async with FlowProducer(bench.url) as producer:
            children: Any = [
                {"name": "c", "queue": bench.name},
                {"name": "c", "queue": bench.name, "data": None},
            ]
            flow = await producer.add(name="p", queue=bench.name, children=children)
            jobs = [flow.job, *(child.job for child in flow.children)]
            return [bench.redis.hget(job.queue.keys[job.id], "data") for job in jobs]

    assert run_async(main()) == ["{}", "{}", "null"]


def test_a_pattern_whose_h_fits_by_the_scheduler_s_name() -> None:
    """Without a name H may stand for a value that is there twice; some names make it one."""
    Repeat(cron="30,*/24,H/15 * * * * *")
    with pytest.raises(UsageError, match="second"):
        Repeat(cron="99,H * * * * *")


def test_a_scheduler_that_counts_on(bench: Bench) -> None:
    """``count`` jobs count as made: of three, one is left."""
    with pytest.raises(UsageError, match="count must be less than limit"):
        Repeat(every=5, limit=3, count=3)

    async def body(queue: Queue) -> None:
        job = await queue.upsert_scheduler("s", Repeat(every=5, limit=3, count=2))
        read = await job.refresh()
        assert read.opts.extra["repeat"]["count"] == 3

    bench.run(body)


def test_how_many_events_are_kept(bench: Bench) -> None:
    """The number that Node's Queue is given as ``streams.events.maxLen``."""

    async def body(queue: Queue) -> None:
        await queue.set_max_events(10)
        await queue.add_bulk([("n", i) for i in range(500)])
        assert (await queue.get_meta()).max_events == 10
        assert bench.redis.xlen(queue.keys["events"]) < 500

    bench.run(body)


def test_ids_of_three_parts(bench: Bench) -> None:
    """Node allows them, and they are found again as children too."""

    async def body(queue: Queue) -> None:
        parent = await queue.add("p", {}, job_id="tenant:7:p")
        await queue.add("c", {}, job_id="tenant:7:c", parent=Parent(parent.id, queue.name))
        found = await queue.get_dependencies(parent.id, "unprocessed")
        assert [job.id for job in found.jobs.values()] == ["tenant:7:c"]
        assert await queue.remove("tenant:7:p")
        assert await queue.job_state("tenant:7:c") == "unknown"
        assert bench.redis.keys(queue.keys["tenant*"]) == []

    bench.run(body)


def test_flows_that_others_wrote_are_shown(bench: Bench) -> None:
    """A job that is its own child, and more levels than Python calls into each other."""
    levels = [f"level{i}" for i in range(1500)]
    base = bench.keys.base
    with bench.redis.pipeline() as pipe:
        for above, below in pairwise([*levels, levels[-1]]):
            pipe.hset(base + above, mapping={"name": "n", "data": "{}", "opts": "{}"})
            pipe.sadd(f"{base}{above}:dependencies", base + below)
        pipe.execute()

    async def main() -> int:
        async with FlowProducer(bench.url) as producer:
            flow = await producer.get_flow(bench.name, "level0", depth=2000)
            depth = 0
            while flow is not None:
                depth += 1
                flow = flow.children[0] if flow.children else None
            return depth

    assert run_async(main()) == len(levels)
