"""The blocking twin of the queue."""

from __future__ import annotations

import inspect
import os
import pydoc
import threading
from typing import TYPE_CHECKING, Any

import pytest

import sandboxq
from sandboxq import Queue as PublicQueue
from sandboxq.errors import JobNotFound, UsageError
from sandboxq.model.job import JobState, StoredJob
from sandboxq.queue.blocking import portal
from sandboxq.queue.queue import Queue, SyncQueue
from tests.conftest import run_async
from tests.queue.bench import completed, finish

if TYPE_CHECKING:
    from tests.queue.bench import Bench

SECONDS = 10.0


# Every public class with a blocking half, and this: the one that ``sync`` returns; jobs have none.
HALVES: dict[type, type] = {
    each: getattr(sandboxq, inspect.signature(each.sync).return_annotation)
    for each in (getattr(sandboxq, name) for name in sandboxq.__all__)
    if hasattr(each, "sync")
} | {sandboxq.QueuedJob: sandboxq.SyncJob}
OF_ASYNC_CODE = {"__aenter__", "__aexit__", "__aiter__", "__anext__"}


def public(kind: type) -> dict[str, Any]:
    """Return the public members of a class, but its fields."""
    fields = getattr(kind, "__dataclass_fields__", {})
    members = dict(inspect.getmembers(kind))
    return {name: it for name, it in members.items() if name[0] != "_" and name not in fields}


def signature(function: Any) -> inspect.Signature:
    """Return what it takes and gives, by the names that the blocking half has for that."""
    found = inspect.signature(function)
    given = str(found.return_annotation).replace("QueuedJob", "SyncJob")
    return found.replace(return_annotation=given)


def test_all_halves_are_known() -> None:
    """They are found by what the package offers."""
    assert {each.__name__ for each in HALVES} == {
        "Queue",
        "FlowProducer",
        "QueueEvents",
        "QueuedJob",
    }


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.__name__)
def test_every_method_has_a_blocking_one(kind: type) -> None:
    """Whoever knows one of them knows the other; nothing may be forgotten when one grows."""
    blocking = public(HALVES[kind])
    wanted = {name: it for name, it in public(kind).items() if inspect.iscoroutinefunction(it)} | {
        name: it for name, it in public(StoredJob).items() if callable(it)
    }
    assert {name for name, it in blocking.items() if callable(it)} == set(wanted)
    for name, it in wanted.items():
        assert signature(blocking[name]) == signature(it), name
        assert (blocking[name].__name__, blocking[name].__doc__) == (name, it.__doc__)
        assert not inspect.iscoroutinefunction(inspect.unwrap(blocking[name])), name


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.__name__)
def test_whatever_else_has_a_blocking_half(kind: type) -> None:
    """``with`` for ``async with``, ``for`` for ``async for``, and the same arguments."""
    blocking = HALVES[kind]
    of_async = OF_ASYNC_CODE & set(dir(kind))
    assert {name.replace("__a", "__") for name in of_async} <= set(dir(blocking))
    wanted = dict(inspect.signature(kind).parameters)
    wanted.pop("broker", None)
    wanted.pop("clock", None)
    assert list(inspect.signature(blocking).parameters) == list(wanted)
    if hasattr(kind, "sync"):
        assert list(inspect.signature(kind.sync).parameters) == list(wanted)


def test_help_shows_the_real_signature_and_text() -> None:
    """In a shell too."""
    shown = pydoc.plain(pydoc.render_doc(SyncQueue.get_jobs))
    assert "get_jobs(self, states: 'str | Iterable[str]', start: 'int' = 0," in shown
    assert "-> 'list[SyncJob]'" in shown
    assert "Newest first, or oldest first when ``ascending``." in shown
    assert "async" not in shown


def test_a_wrong_argument_is_told_by_name(bench: Bench) -> None:
    """It is refused where the call stands, and nothing waits."""
    with SyncQueue(bench.name, bench.url) as queue, pytest.raises(TypeError, match=r"Queue\.add\("):
        queue.add("n")  # type: ignore[call-arg]


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
