"""One object, several event loops: in a row, after a fork, and at once in two threads."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import FlowProducer, Queue, QueueEvents, Worker
from sandboxq.broker.connect.broker import Broker
from sandboxq.errors import UsageError
from tests.conftest import run_async, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from tests.queue.bench import Bench

# Asyncio says of each transport whose event loop ended before it was closed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what is left of former event loops here, where the warnings are expected."""
    yield
    gc.collect()


def in_forked_child(body: Callable[[], Any]) -> bool:
    """Run a body in a forked child and tell whether it came to its end."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def connections(bench: Bench) -> int:
    """Return how many clients the server has."""
    return len(bench.redis.client_list())


@pytest.mark.parametrize("run", [run_async, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_queue_in_several_event_loops(
    bench: Bench, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    """Scripts and synchronous frameworks call asyncio.run for each job."""
    queue = Queue(bench.name, bench.url)
    before = connections(bench)
    for number in range(6):
        job = run(queue.add("n", number))
        assert job.id == str(number + 1)
    assert wait_until(lambda: connections(bench) <= before + 1)
    assert [job.data for job in run(queue.get_jobs("waiting", ascending=True))] == list(range(6))
    run(queue.close())
    assert wait_until(lambda: connections(bench) == before)


def test_a_result_is_waited_for_in_another_event_loop(bench: Bench) -> None:
    """The reader of results ends with its event loop; another one begins in the next."""
    queue = Queue(bench.name, bench.url)
    job = run_async(queue.add("n", 1))
    with pytest.raises(TimeoutError):
        run_async(job.result(timeout=0.05))
    with pytest.raises(TimeoutError):
        run_async(job.result(timeout=0.05))
    run_async(queue.close())


def test_a_flow_producer_in_several_event_loops(bench: Bench) -> None:
    """It is made at the import of a module, and used in each request."""
    producer = FlowProducer(bench.url)
    for _ in range(3):
        flow = run_async(producer.add(name="n", queue=bench.name, data={}))
        assert flow.job.name == "n"
    assert bench.redis.llen(bench.keys["wait"]) == 3
    run_async(producer.close())


def test_events_go_on_in_the_next_event_loop(bench: Bench) -> None:
    """None is lost or told twice between two of them."""
    queue = Queue.sync(bench.name, bench.url)
    events = QueueEvents(bench.name, bench.url, last_id="0")
    seen = []
    for number in range(3):
        queue.add("n", number)
        while (event := run_async(events.read(timeout=0.5))) is not None:
            seen.append((event.name, event.job_id))
    assert [each for each in seen if each[0] == "added"] == [("added", str(n)) for n in (1, 2, 3)]
    run_async(events.close())
    queue.close()


def test_an_async_queue_after_a_fork(bench: Bench) -> None:
    """Preforking servers make their queue before they fork; both sides must go on working."""
    queue = Queue(bench.name, bench.url)

    async def both() -> None:
        await queue.add("parent", 1)
        assert in_forked_child(lambda: run_async(queue.add("child", 2)))
        await queue.add("parent", 3)
        assert [job.data for job in await queue.get_jobs("waiting", ascending=True)] == [1, 2, 3]
        await queue.close()

    run_async(both())


def test_async_events_after_a_fork(bench: Bench) -> None:
    """The child goes on where the parent stood, and takes nothing away from it."""
    queue = Queue.sync(bench.name, bench.url)
    events = QueueEvents(bench.name, bench.url, last_id="0", names=["added"])

    async def both() -> None:
        await events.connect()
        queue.add("n", 1)

        def child() -> None:
            event = run_async(events.read(timeout=10))
            assert event is not None
            assert event.job_id == "1"

        assert in_forked_child(child)
        event = await events.read(timeout=10)
        assert event is not None
        assert event.job_id == "1"
        await events.close()

    run_async(both())
    queue.close()


@pytest.mark.parametrize("kind", ["queue", "flow", "events"])
def test_two_threads_at_once_are_told_what_to_use(bench: Bench, kind: str) -> None:
    """Its connections belong to one event loop; nothing is added before that is said."""
    used: dict[str, tuple[Any, Callable[[], Coroutine[Any, Any, Any]]]] = {}
    queue = Queue(bench.name, bench.url)
    flow = FlowProducer(bench.url)
    events = QueueEvents(bench.name, bench.url)
    used["queue"] = queue, lambda: queue.add("n", 1)
    used["flow"] = flow, lambda: flow.add(name="n", queue=bench.name)
    used["events"] = events, lambda: events.read(timeout=0.01)
    shared, use = used[kind]
    caught: list[BaseException] = []

    def other_thread() -> None:
        try:
            asyncio.run(use())
        except UsageError as error:
            caught.append(error)

    async def main() -> None:
        await shared.connect()
        before = bench.redis.llen(bench.keys["wait"])
        thread = threading.Thread(target=other_thread)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert f"{type(shared).__name__}.sync" in str(caught[0])
        assert bench.redis.llen(bench.keys["wait"]) == before
        await use()
        await shared.close()

    run_async(main())


def test_a_broker_that_was_given_says_where_it_belongs(bench: Bench) -> None:
    """Who made it must make another one: a queue cannot."""
    broker = run_async(Broker.connect(bench.url))
    queue = Queue(bench.name, broker=broker)
    with pytest.raises(UsageError, match="another event loop"):
        run_async(queue.add("n", 1))
    assert not bench.redis.exists(bench.keys["wait"])
    run_async(broker.close())


def test_with_names_what_to_write(bench: Bench) -> None:
    """The first thing that somebody without an event loop tries."""
    for kind in (Queue(bench.name, bench.url), FlowProducer(bench.url), QueueEvents(bench.name)):
        with pytest.raises(UsageError, match=rf"with {type(kind).__name__}\.sync"), kind:
            pass
    with pytest.raises(UsageError, match="async with Worker"), Worker(bench.name):
        pass
    with pytest.raises(UsageError, match="async with Queue"):
        run_async(_enter(Queue.sync(bench.name, bench.url)))


async def _enter(thing: Any) -> None:
    async with thing:
        pass


_LEFT_OPEN = """
import sys
from sandboxq import Queue
from sandboxq.cli import process

async def main():
    queue = Queue(sys.argv[2], sys.argv[1])
    await queue.connect()
    await queue.add("n", {})
    raise AssertionError("the test's own")

process.run(main())
"""


def test_a_queue_that_is_left_open_does_not_keep_its_loop_from_closing(
    server_url: str, queue_name: str
) -> None:
    """As a test does that fails, where warnings are errors: uvloop waited for ever."""
    command = [sys.executable, "-W", "error", "-c", _LEFT_OPEN, server_url, queue_name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "AssertionError: the test's own" in done.stderr
