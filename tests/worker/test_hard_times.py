"""Redis refuses, others take over, one job floods: no outcome is lost, nothing waits long."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxq import Queue, Repeat, Worker
from sandboxq.broker.connect.broker import Broker
from sandboxq.observe.telemetry import (
    BrokerLost,
    Event,
    LocksLost,
    OutcomesDropped,
    Telemetry,
)
from tests.broker.servers import StoppableServer
from tests.conftest import SOON, Gate, run_async, wait_until_async

if TYPE_CHECKING:
    import pytest

    from sandboxq.queue.job import QueuedJob

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")


def test_outcomes_wait_for_memory(tmp_path: Path, queue_name: str) -> None:
    """Redis at its maxmemory refuses failures for a while; they are kept, and written once."""
    events: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(events.append)

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=server.url, procs=1, telemetry=telemetry) as worker,
        ):
            run = asyncio.create_task(worker.run())
            await queue.add("sleep", {"do": "sleep", "seconds": 0.5})
            job = await queue.add("fail", {"do": "fail"})
            await wait_until_async(lambda: _is_busy(worker))
            await worker.broker.command("CONFIG", "SET", "maxmemory", 1)
            await asyncio.sleep(1.5)
            assert worker.running == 1
            await worker.broker.command("CONFIG", "SET", "maxmemory", 0)
            await wait_until_async(lambda: _is_idle(worker))
            stored = await queue.get_job(job.id)
            assert stored is not None
            assert (await stored.state(), stored.attempts_started) == ("failed", 1)
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
    assert not [event for event in events if isinstance(event, OutcomesDropped)]


def test_a_scheduler_without_memory_is_waited_for(tmp_path: Path, queue_name: str) -> None:
    """Its job is claimed, and goes back as the next one cannot be made: not as fast as it goes."""
    lost: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(lost.append, BrokerLost)

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=server.url, procs=1, telemetry=telemetry) as worker,
        ):
            await queue.upsert_scheduler("s", Repeat(every=60), name="echo", data={"value": 1})
            await worker.broker.command("CONFIG", "SET", "maxmemory", 1)
            run = asyncio.create_task(worker.run())

            async def is_paced() -> bool:
                return bool(lost)

            await wait_until_async(is_paced)
            await worker.broker.command("CONFIG", "SET", "maxmemory", 0)
            await wait_until_async(lambda: _one_has_completed(queue))
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


async def _one_has_completed(queue: Queue) -> bool:
    return (await queue.counts())["completed"] == 1


def test_locks_are_renewed_whatever_goes_along_with_that(
    server_url: str, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The set of what was claimed ahead is of another type: no reason to stand still."""

    async def is_refused() -> bool:
        return "sent with the renewal" in caplog.text

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, PROCESSOR, url=server_url, procs=1, lock_duration=2) as worker,
        ):
            await worker.broker.command("SET", worker.keys.ahead, "no set")
            await queue.add("sleep", {"do": "sleep", "seconds": 60})
            run = asyncio.create_task(worker.run())
            await wait_until_async(is_refused)
            worker.kill()
            await run

    run_async(main())
    assert "lock renewer" not in caplog.text


async def _is_busy(worker: Worker) -> bool:
    return worker.pool.busy > 0


async def _is_idle(worker: Worker) -> bool:
    return worker.running == 0


def test_a_user_without_channels_runs_jobs(tmp_path: Path, queue_name: str) -> None:
    """Redis 7 gives new users no channels; only `scale` needs one, and BullMQ none."""

    async def main(server: StoppableServer) -> None:
        broker = await Broker.connect(server.url)
        rights = ("ACL", "SETUSER", "u", "on", ">pw", "~*", "resetchannels", "+@all")
        await broker.command(*rights)
        await broker.close()
        url = server.url.replace("//", "//u:pw@")
        async with (
            Queue(queue_name, url=url) as queue,
            Worker(queue_name, PROCESSOR, url=url, procs=1) as worker,
        ):
            run = asyncio.create_task(worker.run())
            assert await (await queue.add("echo", {"value": 4})).result(timeout=60) == 4
            control = worker._services[-1]
            await wait_until_async(lambda: _has_ended(control))
            assert worker._failure is None
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


async def _has_ended(service: Any) -> bool:
    return bool(service._task.done())


def test_own_former_run_ends_when_its_job_is_claimed_again(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Another worker's stalled check may put a job back before our next renewal can tell."""
    events: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(events.append)
    marks, path, gate = tmp_path / "marks", tmp_path / "marking.py", Gate(tmp_path)
    path.write_text(
        "import os, time\n"
        "def process(job):\n"
        f"    with open({str(marks)!r}, 'a') as file: print(os.getpid(), file=file)\n"
        f"    while not os.path.exists({gate.path!r}): time.sleep(0.01)\n"
        "    return os.getpid()\n"
    )

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, str(path), url=server_url, procs=2, telemetry=telemetry) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("mark", {})
            await wait_until_async(lambda: _has_marks(marks, 1))
            keys = worker.keys
            put_back = """
                redis.call('DEL', KEYS[1] .. ':lock')
                redis.call('LREM', KEYS[2], 1, ARGV[1])
                redis.call('RPUSH', KEYS[3], ARGV[1])
                redis.call('ZADD', KEYS[4], 0, '0')
            """
            names = (keys[job.id], keys["active"], keys["wait"], keys["marker"])
            await worker.broker.command("EVAL", put_back, 4, *names, job.id)
            await wait_until_async(lambda: _has_marks(marks, 2))
            await wait_until_async(lambda: _runs(worker, 1))
            gate.open()
            first, second = (int(line) for line in marks.read_text().split())
            assert await job.result(timeout=60) == second != first
            worker.stop()
            await run

    run_async(main())
    assert [event.job_ids for event in events if isinstance(event, LocksLost)] == [["1"]]


async def _has_marks(path: Path, number: int) -> bool:
    return _marks(path) == number


def _marks(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


async def _runs(worker: Worker, number: int) -> bool:
    return worker.pool.held == number == worker.pool.busy


def test_one_flood_of_reports_does_not_hold_up_other_outcomes(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A processor that reports progress in a tight loop is common, and must hurt nobody else."""
    path = tmp_path / "flood.py"
    path.write_text(
        "import os\n"
        "def process(job):\n"
        "    number = 0\n"
        "    while 'until' in job.data and not os.path.exists(job.data['until']):\n"
        "        number += 1\n"
        "        job.update_progress(number)\n"
        "    return number\n"
    )

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, str(path), url=server_url, procs=2) as worker,
        ):
            run = asyncio.create_task(worker.run())
            gate = Gate(tmp_path)
            flood = await queue.add("flood", {"until": gate.path})
            await wait_until_async(lambda: _has_progress(flood))
            for _ in range(5):
                await (await queue.add("quick", {})).result(timeout=60)
            gate.open()
            number = await flood.result(timeout=60)
            stored = await queue.get_job(flood.id)
            assert stored is not None
            assert stored.progress == number
            worker.stop()
            await run

    run_async(main())


async def _has_progress(job: QueuedJob) -> bool:
    return bool((await job.refresh()).progress)


def test_jobs_behind_long_ones_go_to_other_workers(server_url: str, queue_name: str) -> None:
    """What was claimed ahead must not wait for a long job while another worker is idle."""

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, PROCESSOR, url=server_url, procs=2) as first,
        ):
            runs = [asyncio.create_task(first.run())]
            await queue.add_bulk([("echo", {"value": 1})] * 1000)
            await wait_until_async(lambda: _has_completed(first, 1000))
            long = {"do": "sleep", "seconds": 60}
            await queue.add_bulk([("long", long)] * 2 + [("echo", {"value": 1})] * 60)
            await wait_until_async(lambda: _has_claimed_all(queue))
            async with Worker(queue_name, PROCESSOR, url=server_url, procs=1) as second:
                runs.append(asyncio.create_task(second.run()))
                started = time.monotonic()
                await wait_until_async(lambda: _are_completed(queue, 1060))
                assert time.monotonic() - started < SOON
                for worker in (first, second):
                    worker.stop()
                    worker.stop()
                await asyncio.gather(*runs)

    run_async(main())


async def _has_completed(worker: Worker, number: int) -> bool:
    return worker.counters.completed == number


async def _has_claimed_all(queue: Queue) -> bool:
    return (await queue.counts())["waiting"] == 0


async def _are_completed(queue: Queue, number: int) -> bool:
    return (await queue.counts())["completed"] == number


def test_a_flood_of_reports_while_redis_is_away_is_held_back(
    tmp_path: Path, queue_name: str
) -> None:
    """The coordinator must not hold what a job says in minutes: the job waits in `job.log`."""
    path = tmp_path / "flood.py"
    path.write_text(
        "def process(job):\n    for _ in range(2000): job.log('x' * 50_000)\n    return 'said'\n"
    )

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, str(path), url=server.url, procs=1) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("flood", {}, keep_logs=10)
            await wait_until_async(lambda: _has_reported(worker))
            server.freeze()
            await asyncio.sleep(1.5)
            held = worker.parts.settler._reports.unwritten_bytes
            server.thaw()
            assert held < 40 << 20  # of 100 MB
            assert await job.result(timeout=60) == "said"
            worker.stop()
            await run

    async def _has_reported(worker: Worker) -> bool:
        return worker.parts.settler._reports.unwritten_bytes > 0

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
