"""The blocking twin of the queue."""

from __future__ import annotations

import inspect
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import FlowProducer, QueueEvents, SyncFlowProducer, SyncQueueEvents
from sandboxq import Queue as PublicQueue
from sandboxq.errors import JobNotFound, UsageError
from sandboxq.model.job import JobState
from sandboxq.queue.job import QueuedJob
from sandboxq.queue.portal import portal
from sandboxq.queue.queue import Queue
from sandboxq.queue.sync import SyncQueue
from sandboxq.queue.sync_job import SyncJob
from tests.conftest import run_async
from tests.queue.bench import completed, finish

if TYPE_CHECKING:
    from tests.queue.bench import Bench

SECONDS = 10.0


def public(kind: type) -> dict[str, Any]:
    """Return the public methods of a class and their parameters."""
    members = inspect.getmembers(kind, inspect.isfunction)
    return {
        name: [
            (each.name, each.kind, each.default)
            for each in inspect.signature(it).parameters.values()
        ]
        for name, it in members
        if not name.startswith("_")
    }


def test_same_methods_same_parameters() -> None:
    """Whoever knows one of them knows the other; nothing may be forgotten when one grows."""
    twins = {Queue: SyncQueue, FlowProducer: SyncFlowProducer, QueueEvents: SyncQueueEvents}
    for kind, twin in twins.items():
        wanted = public(kind)
        del wanted["sync"]
        assert public(twin) == wanted
    assert public(SyncJob) == public(QueuedJob)


def test_what_was_closed_connects_again(bench: Bench) -> None:
    """As the error says."""
    queue = SyncQueue(bench.name, bench.url)
    queue.close()
    with pytest.raises(UsageError, match=r"connect\(\) again"):
        queue.count()
    queue.connect()
    assert queue.count() == 0
    queue.close()


def test_a_script_adds_and_waits(bench: Bench) -> None:
    """The short form of the documentation."""
    with PublicQueue.sync(bench.name, bench.url) as queue:
        job = queue.add("resize", {"width": 320}, priority=1)
        assert (job.id, job.state(), queue.count()) == ("1", JobState.PRIORITIZED, 1)
        run_async(finish(bench.url, bench.name, completed(b'{"ok":true}')))
        assert job.result(SECONDS) == {"ok": True}
        assert job.refresh().returnvalue == {"ok": True}


def test_every_method_works(bench: Bench) -> None:
    """Each is one line of passing on, and each such line can be wrong."""
    queue = SyncQueue(bench.name, bench.url)
    first, second = queue.add_bulk([("a", 1), ("b", 2, {"delay": 9})])
    assert queue.name == bench.name
    assert [job.name for job in queue.get_jobs(["waiting", "delayed"])] == ["a", "b"]
    assert queue.counts()["delayed"] == 1
    assert queue.job_state(second.id) is JobState.DELAYED
    found = queue.get_job(first.id)
    assert found is not None
    assert found.data == 1
    assert queue.get_job("9") is None
    with pytest.raises(JobNotFound):
        queue.read_job("9")
    with pytest.raises(JobNotFound):
        queue.result("9")
    queue.pause()
    assert queue.is_paused()
    queue.resume()
    assert (queue.logs(first.id), first.logs(), queue.get_workers()) == ([], [], [])
    assert first.remove()
    assert not queue.remove(first.id)
    queue.obliterate(force=True)
    queue.close()
    assert bench.redis.keys(bench.keys["*"]) == []


def test_many_threads_share_one_queue(bench: Bench) -> None:
    """Web servers with threads keep one queue for all of them."""
    with Queue.sync(bench.name, bench.url) as queue:
        threads = [threading.Thread(target=queue.add, args=("n", i)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(job.data for job in queue.get_jobs("waiting")) == list(range(20))


def test_a_forked_child_connects_anew(bench: Bench) -> None:
    """Preforking servers make their queue before they fork; both sides must go on working."""
    with Queue.sync(bench.name, bench.url) as queue:
        queue.add("parent", 1)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                queue.add("child", 2)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        queue.add("parent", 3)
        assert [job.data for job in queue.get_jobs("waiting", ascending=True)] == [1, 2, 3]


def test_a_blocking_call_on_its_own_loop_is_refused(bench: Bench) -> None:
    """It would wait for itself for ever."""
    queue = SyncQueue(bench.name, bench.url)

    async def wrong() -> None:
        queue.count()

    with pytest.raises(UsageError, match="event loop"):
        portal().run(wrong())
