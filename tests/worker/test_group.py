"""Several workers in one process: what they share, and what one of them does to the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandboxq import (
    ProcessorNotLoaded,
    Queue,
    Share,
    UsageError,
    Worker,
    WorkerGroup,
    WorkersFailed,
)
from tests.conftest import run_async, wait_until_async

PROCESSOR = Path(__file__).parent.parent / "processors_for_tests.py"
# A job of the first queue adds one to the second as it ends, and that one back, so many times.
PASSES = """
def process(job):
    left = job.data["left"]
    if left:
        job.queue(job.data["to"]).add("ball", {"left": left - 1, "to": job.queue_name})
    return left
"""


def test_queues_share_connections_cores_and_memory(server_url: str, queue_name: str) -> None:
    """Each has its jobs run, by children whose number is that of the machine in all."""

    async def scenario() -> None:
        names = [f"{queue_name}-{letter}" for letter in "abc"]
        workers = [Worker(each, PROCESSOR, url=server_url) for each in names]
        shares = {names[0]: Share(weight=3), names[2]: Share(max=1)}
        async with WorkerGroup(workers, shares, procs=6) as group:
            assert [worker.pool.size for worker in workers] == [4, 1, 1]
            assert len({worker.broker for worker in workers}) == 1
            memory = {worker.pool.memory for worker in workers}
            assert len(memory) == 1
            running = asyncio.create_task(group.run(handle_signals=False))
            for name in names:
                async with Queue(name, server_url) as queue:
                    job = await queue.add("echo", {"value": name})
                    assert await job.result(30) == name
            assert await workers[1].scale(2) == 2
            group.stop()
            await running
            assert group.failures == {}

    run_async(scenario())


def test_one_that_breaks_does_not_stop_the_others(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """At its start or later: the others do their work, and the end says which has failed."""
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module\n")
    other, name = f"{queue_name}-other", f"{queue_name}-broken"

    async def scenario() -> None:
        async with Queue(other, server_url) as queue, Queue(name, server_url) as waits:
            job = await queue.add("echo", {"value": 1})
            await waits.add("echo", {})
            workers = [
                Worker(name, broken, url=server_url),
                Worker(other, PROCESSOR, url=server_url, procs=1),
            ]
            async with WorkerGroup(workers) as group:
                assert group.serving == workers[1:]
                with pytest.raises(WorkersFailed, match=f"1 of 2 queues .*{name}"):
                    await group.run(burst=True, handle_signals=False)
            assert isinstance(group.failures[name], ProcessorNotLoaded)
            assert await job.result(5) == 1

    run_async(scenario())


class _Crashing(Worker):
    """Raises what is no error of ours."""

    async def run(self, *, burst: bool = False, handle_signals: bool = True) -> None:
        """Run until a job is there."""
        del burst, handle_signals
        raise RuntimeError(self.keys.queue)


def test_one_that_crashes_does_not_stop_the_others(server_url: str, queue_name: str) -> None:
    """Whatever it raises: the others do their work, and the end says which has failed."""
    other, name = f"{queue_name}-other", f"{queue_name}-crashes"

    async def scenario() -> None:
        async with Queue(other, server_url) as queue:
            jobs = [await queue.add("echo", {"value": at}) for at in range(20)]
            workers = [
                _Crashing(name, PROCESSOR, url=server_url, procs=1),
                Worker(other, PROCESSOR, url=server_url, procs=1),
            ]
            async with WorkerGroup(workers) as group:
                with pytest.raises(WorkersFailed, match=f"1 of 2 queues .*{name}"):
                    await group.run(burst=True, handle_signals=False)
                assert await asyncio.gather(*(job.result(5) for job in jobs)) == list(range(20))

    run_async(scenario())


def test_a_worker_without_a_processor_is_refused(server_url: str, queue_name: str) -> None:
    """It has nothing to run: said before anything is started."""
    workers = [Worker("x", PROCESSOR, url=server_url), Worker(queue_name, url=server_url)]
    with pytest.raises(UsageError, match=f"{queue_name}' needs a processor"):
        WorkerGroup(workers)


def test_all_that_break_say_why(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """Nothing can be served: the error is that of a single worker."""
    group = WorkerGroup(
        [Worker(f"{queue_name}{at}", tmp_path / "none.py", url=server_url) for at in "ab"]
    )
    with pytest.raises(ProcessorNotLoaded):
        run_async(group.start())


def test_a_burst_ends_when_no_queue_has_work(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """Jobs that add jobs to another queue of the group: a worker does not leave too early."""
    path = tmp_path / "passes.py"
    path.write_text(PASSES)
    first, second = f"{queue_name}-1", f"{queue_name}-2"

    async def scenario() -> None:
        workers = [Worker(each, path, url=server_url, procs=1) for each in (first, second)]
        async with Queue(first, server_url) as queue, WorkerGroup(workers) as group:
            await queue.add("ball", {"left": 40, "to": second})
            await group.run(burst=True, handle_signals=False)
            assert sum(worker.counters.completed for worker in workers) == 41

    run_async(scenario())


def test_a_worker_ends_and_the_connections_stay(server_url: str, queue_name: str) -> None:
    """Closing one of them takes nothing from the others."""

    async def scenario() -> None:
        workers = [Worker(f"{queue_name}{at}", PROCESSOR, url=server_url, procs=1) for at in "ab"]
        async with Queue(f"{queue_name}b", server_url) as queue, WorkerGroup(workers) as group:
            running = asyncio.create_task(group.run(handle_signals=False))
            await workers[0].close()
            job = await queue.add("echo", {"value": 2})
            assert await job.result(30) == 2
            running.cancel()
            await asyncio.wait([running])

            async def is_active() -> bool:
                return (await queue.counts("active"))["active"] > 0

            await wait_until_async(lambda: asyncio.sleep(0, not workers[1].running))
            assert not await is_active()

    run_async(scenario())


def test_what_is_no_group(queue_name: str) -> None:
    """It is said before anything is started."""
    one = Worker(queue_name, PROCESSOR, url="redis://127.0.0.1:1")
    for wrong in ([], [one, one], [one, Worker("other", PROCESSOR, url="redis://127.0.0.1:2")]):
        with pytest.raises(UsageError):
            WorkerGroup(wrong)
    with pytest.raises(UsageError, match="share is given to queue 'elsewhere'"):
        WorkerGroup([one], {"elsewhere": Share()})


def test_what_was_started_goes_on(server_url: str, queue_name: str) -> None:
    """A group that is started twice, or with a worker that runs already: refused, none ends."""

    async def scenario() -> None:
        async with Worker(queue_name, PROCESSOR, url=server_url, procs=1) as worker:
            with pytest.raises(UsageError, match="was started before"):
                await WorkerGroup([worker]).start()
            assert worker.pool.size == 1
        other = Worker(f"{queue_name}-2", PROCESSOR, url=server_url, procs=1)
        async with WorkerGroup([other]) as group:
            with pytest.raises(UsageError, match="was started before"):
                await group.start()
            assert other.pool.size == 1

    run_async(scenario())
