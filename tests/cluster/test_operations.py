"""Every operation on two masters, by the sync twin: it works, and keeps to one slot."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sandboxq import Deduplication, FlowProducer, Queue, QueueEvents, SandboxExecutor, Worker
from sandboxq.broker.connect.servers import slot_of_key
from sandboxq.queue.schedulers import Repeat
from tests.cluster.monitor import Monitor
from tests.conftest import run_async, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.queue import SyncQueue
    from tests.cluster.servers import Cluster

PREFIX = "{bull}"
PROCESSOR = Path(__file__).parents[1] / "processors_for_tests.py"
# Beyond what goes the ordinary way: it is sent and read over a connection of its own.
LARGE = 2 << 20


def test_every_operation_keeps_to_one_slot(small_cluster: Cluster, queue_name: str) -> None:
    """A single key elsewhere would stop a script in the middle, on some day, on some cluster."""
    with Monitor(small_cluster) as monitor:
        _operate(small_cluster.url, queue_name)

    keys = monitor.keys(small_cluster.nodes[0])
    slot = slot_of_key(PREFIX)
    elsewhere = {key: by for key, by in keys.items() if slot_of_key(key) != slot}
    assert not elsewhere
    # What scripts build was seen, not only what they are given.
    assert any("lua HGETALL" in by or "lua HMGET" in by for by in keys.values())
    assert len(keys) > 50


def _operate(url: str, name: str) -> None:
    with Queue.sync(name, url=url, prefix=PREFIX) as queue:
        _change(queue)
        _move(queue)
        _limit(queue)
        _schedule(queue)
        _deduplicate(queue)
        _flow(url, queue)
        _run(url, queue)
        _read(queue)
        _tidy(queue)


def _change(queue: SyncQueue) -> None:
    job = queue.add("n", {"a": 1}, priority=2)
    job.change_priority(5)
    job.update_data({"do": "echo", "value": 1})
    job.update_progress(10)
    assert job.log("row") == 1
    assert job.logs() == ["row"]
    job.clear_logs()
    late = queue.add("n", {}, delay=60)
    late.change_delay(90)
    late.promote()
    assert queue.add("n", {}, lifo=True).remove()


def _move(queue: SyncQueue) -> None:
    queue.add_bulk([("n", {}, {"delay": 60}), ("n", {}, {"priority": 1}), ("n", {}, {})])
    assert queue.promote_jobs() == 1
    queue.pause()
    assert queue.is_paused()
    queue.resume()
    assert queue.count() == 5
    assert queue.drain(delayed=True) == 5


def _limit(queue: SyncQueue) -> None:
    queue.set_global_concurrency(2)
    queue.set_global_rate_limit(100, 1)
    assert not queue.is_maxed()
    queue.rate_limit(0.1)
    assert queue.rate_limit_ttl() > 0
    queue.remove_rate_limit_key()
    queue.remove_global_concurrency()
    queue.remove_global_rate_limit()


def _schedule(queue: SyncQueue) -> None:
    queue.upsert_scheduler("s", Repeat(every=60), data={"do": "echo"})
    queue.upsert_scheduler("s", Repeat(cron="0 0 3 * * *"), data={"do": "echo"})
    assert queue.count_schedulers() == 1
    assert queue.get_scheduler("s") is not None
    assert len(queue.get_schedulers()) == 1
    assert queue.remove_scheduler("s")


def _deduplicate(queue: SyncQueue) -> None:
    job = queue.add("n", {}, deduplication=Deduplication("d"))
    assert queue.add("n", {}, deduplication=Deduplication("d")).id == job.id
    assert queue.deduplication_job_id("d") == job.id
    assert queue.remove_deduplication_key("d")
    queue.drain()


def _flow(url: str, queue: SyncQueue) -> None:
    def tree(**child: Any) -> Any:
        opts = {"delay": 60}
        children = [{"name": "c", "queue": queue.name, "opts": opts, **child} for _ in range(3)]
        return {"name": "p", "queue": queue.name, "children": children}

    with FlowProducer.sync(url, prefix=PREFIX) as flows:
        flow = flows.add(**tree())
        first, *_ = flow.children
        parent = flow.job
        assert parent.state() == "waiting-children"
        assert parent.dependencies_count()["unprocessed"] == 3
        assert not parent.children_values()
        assert first.job.remove_child_dependency()
        assert parent.remove_unprocessed_children() == 2
        assert flows.get_flow(queue.name, parent.id) is not None
        flows.add_bulk([tree(), tree(on_failure="ignore")])
    queue.obliterate(force=True)


def _run(url: str, queue: SyncQueue) -> None:
    with (
        QueueEvents.sync(queue.name, url, prefix=PREFIX, last_id="0-0") as events,
        _worker(url, queue.name),
    ):
        good = queue.add("n", {"do": "echo", "value": 7})
        assert good.result(60) == 7
        assert events.read(5) is not None
        bad = queue.add("n", {"do": "fail"}, attempts=2)
        wait_until(lambda: bad.state() == "failed")
        bad.retry()
        wait_until(lambda: bad.state() == "failed")
        assert queue.retry_jobs() == 1
        wait_until(lambda: bad.state() == "failed")
        sleeper = queue.add("n", {"do": "sleep", "seconds": 20})
        wait_until(lambda: sleeper.state() == "active")
        sleeper.cancel("enough", grace=0)
        wait_until(lambda: sleeper.state() == "failed")
        queue.upsert_scheduler("quick", Repeat(every=0.2, limit=2), data={"do": "echo", "value": 1})
        wait_until(lambda: queue.get_completed_count() >= 3)
        wait_until(lambda: len(queue.get_workers()) == 1)


def _read(queue: SyncQueue) -> None:
    assert queue.counts()["failed"] == 2
    assert len(queue.get_jobs(["completed", "failed"])) >= 5
    queue.publish_event("mine", {"a": "b"})
    queue.counts_per_priority([0, 1])
    queue.get_meta()
    queue.get_metrics()
    queue.usage()
    queue.version()
    assert "bullmq_job_count" in queue.export_prometheus_metrics()


def _tidy(queue: SyncQueue) -> None:
    queue.trim_events(5)
    assert len(queue.clean(0, "failed")) == 2
    assert not queue.remove_orphaned_jobs()
    queue.obliterate(force=True)
    assert not queue.get_jobs(["completed"])


@contextlib.contextmanager
def _worker(url: str, name: str) -> Iterator[None]:
    started: list[Worker] = []

    async def work() -> None:
        async with Worker(name, str(PROCESSOR), url=url, prefix=PREFIX, procs=1) as worker:
            started.append(worker)
            await worker.run()

    thread = threading.Thread(target=lambda: run_async(work()))
    thread.start()
    wait_until(lambda: started)
    try:
        yield
    finally:
        started[0].stop()
        thread.join(60)


def test_large_values_find_their_node(small_cluster: Cluster, queue_name: str) -> None:
    """They go over connections of their own, and follow their slot as everything else does."""
    array = np.arange(LARGE, dtype=np.uint8)
    # A tag of its own: nobody else's slot is moved.
    tag = f"{{{queue_name}}}"
    with Queue.sync(tag, url=small_cluster.url) as queue:
        first = queue.add("n", {"value": array})
        to = small_cluster.other_master(small_cluster.owner(tag))
        small_cluster.begin_to_move(tag, to=to)
        moving = threading.Timer(0.3, small_cluster.end_move, [tag], {"to": to})
        moving.start()
        second = queue.add("n", {"value": array})
        moving.join()
        for job in (first, second):
            assert np.array_equal(job.array(), array)
            assert job.remove()


def test_large_values_are_read_where_they_are_now(small_cluster: Cluster, queue_name: str) -> None:
    """Whoever slept through the move asks the old node first."""
    array = np.arange(LARGE, dtype=np.uint8)
    tag = f"{{{queue_name}}}"
    with Queue.sync(tag, url=small_cluster.url) as queue:
        job = queue.add("n", {"value": array})
        to = small_cluster.other_master(small_cluster.owner(tag))
        small_cluster.begin_to_move(tag, to=to)
        small_cluster.end_move(tag, to=to)
        assert np.array_equal(job.array(), array)


def test_an_executor_on_a_cluster(small_cluster: Cluster, queue_name: str) -> None:
    """Functions and their results take the same way as jobs."""
    secret = "of-the-cluster-tests"  # noqa: S105 - signs functions of this test only
    command = [sys.executable, "-m", "sandboxq", "run", "sandboxq.functions", "--procs", "1"]
    place = ["--queue", queue_name, "--url", small_cluster.url, "--prefix", PREFIX]
    process = subprocess.Popen([*command, *place], env={**os.environ, "SANDBOXQ_SECRET": secret})
    try:
        url = small_cluster.url
        with SandboxExecutor(queue_name, url, secret=secret, prefix=PREFIX) as executor:
            assert list(executor.map(pow, [2, 3], [5, 2])) == [32, 9]
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    "command",
    ["stats Q --json", "pause Q", "resume Q", "promote Q", "drain Q", "jobs Q waiting --json"],
)
def test_commands(small_cluster: Cluster, queue_name: str, command: str) -> None:
    """The command line takes the URL of a cluster and a prefix with a tag."""
    place = ["--url", small_cluster.url, "--prefix", PREFIX]
    with Queue.sync(queue_name, url=small_cluster.url, prefix=PREFIX) as queue:
        job = queue.add("n", {})
        words = [*command.replace("Q", queue_name).split(), *place]
        whole = [sys.executable, "-m", "sandboxq", *words]
        done = subprocess.run(whole, check=False, capture_output=True, text=True, timeout=30)
        queue.obliterate(force=True)
    assert done.returncode == 0, done.stderr
    assert "--json" not in words or job.id in json.dumps(json.loads(done.stdout))
