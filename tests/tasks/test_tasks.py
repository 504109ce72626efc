"""Tasks from the call in a producer to the value it gets back, in every kind of child."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import (
    FlowProducer,
    InvalidArguments,
    JobFailed,
    Queue,
    Repeat,
    UsageError,
    Worker,
    current_job,
    task,
)
from tests.conftest import run_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULE = """
from __future__ import annotations
from dataclasses import dataclass
from sandboxq import current_job, task

@dataclass
class Size:
    width: int
    height: int = 1

@task(queue=QUEUE, attempts=2)
def grow(path: str, *, size: Size, by: float = 2, labels: tuple[str, ...] = ()) -> Size:
    job = current_job()
    if job is not None:
        job.update_progress(50)
        job.log(f"{path} {labels}")
    return Size(round(size.width * by), size.height)

@task(queue=QUEUE)
def add(a: int, /, b: int, **more: int) -> int:
    return a + b + sum(more.values())

@task(queue=QUEUE, name="chain-link")
def chain(n: int) -> list[str]:
    return [chain.enqueue(n - 1).id, grow.enqueue("x", size=Size(n)).id] if n else []

@task(queue=QUEUE)
def blob(raw: bytes) -> bytes:
    return raw[::-1]
"""

ASYNC = """
import asyncio
from sandboxq import current_job, task

@task(queue=QUEUE)
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    job = current_job()
    return job.id if job is not None else "here"

@task(queue=QUEUE)
async def chain(n: int) -> str:
    return (await chain.aenqueue(n - 1)).id if n else "last"
"""

MIXED = (
    ASYNC
    + """
@task(queue=QUEUE)
def double(n: int) -> int:
    return 2 * n
"""
)

KINDS: list[dict[str, Any]] = [
    {"policy": "none"},
    {"policy": "limits"},
    {"policy": "strict"},
    {"policy": "none", "isolation": "thread"},
]
if sys.version_info >= (3, 14):
    KINDS.append({"policy": "none", "isolation": "interpreter"})


def serve(queue: str, path: Path, url: str, **options: Any) -> None:
    """Run all that waits."""

    async def burst() -> None:
        async with Worker(queue, path, url=url, procs=1, **options) as worker:
            await worker.run(burst=True)

    run_async(burst())


def reason_of(enqueued: Any) -> str:
    """Return why the job of a task failed."""
    with pytest.raises(JobFailed) as failed:
        enqueued.result(60)
    return str(failed.value)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_call_becomes_a_job_and_its_value_comes_back(
    module_of: Callable[[str], tuple[Path, Any]],
    server_url: str,
    queue_name: str,
    options: dict[str, Any],
) -> None:
    """Positional, by name, with a dataclass each way, defaults left to the function."""
    path, module = module_of(MODULE)
    grown = module.grow.enqueue("a.jpg", size=module.Size(4, 3), labels=("x", "y"))
    added = module.add.enqueue(1, 2, c=3, d=4)
    turned = module.blob.enqueue(b"abc")

    serve(queue_name, path, server_url, **options)

    assert grown.result(60) == module.Size(8, 3)
    assert added.result(60) == 10
    assert turned.result(60) == b"cba"
    with Queue.sync(queue_name, server_url) as queue:
        job = queue.read_job(grown.id)
        assert job.name == "grow"
        assert job.data == {
            "path": "a.jpg",
            "size": {"width": 4, "height": 3},
            "labels": ["x", "y"],
        }
        assert (job.opts.attempts, job.progress) == (2, 50)
        assert job.logs() == ["a.jpg ('x', 'y')"]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("text", [ASYNC, MIXED], ids=["async", "mixed"])
def test_async_tasks_run_together_on_an_event_loop(
    module_of: Callable[[str], tuple[Path, Any]],
    server_url: str,
    queue_name: str,
    text: str,
    options: dict[str, Any],
) -> None:
    """Each with its own current job; plain functions of the same queue run beside them."""
    path, module = module_of(text)

    async def enqueue() -> list[Any]:
        naps = [await module.nap.aenqueue(0.01) for _ in range(5)]
        return [*naps, await module.nap.using(priority=3).aenqueue(0)]

    naps = run_async(enqueue())
    doubled = module.double.enqueue(4) if text is MIXED else None
    serve(queue_name, path, server_url, concurrency=4, **options)

    async def results() -> list[str]:
        return [await nap.result(60) for nap in naps]

    assert run_async(results()) == [nap.id for nap in naps]
    assert doubled is None or doubled.result(60) == 8


@pytest.mark.parametrize(("text", "jobs"), [(MODULE, 7), (ASYNC, 4)], ids=["def", "async"])
def test_a_task_that_enqueues_tasks_does_so_through_its_worker(
    module_of: Callable[[str], tuple[Path, Any]],
    server_url: str,
    queue_name: str,
    text: str,
    jobs: int,
) -> None:
    """A child is not told where Redis is: the same call works in it all the same."""
    path, module = module_of(text)
    module.chain.enqueue(3)

    serve(queue_name, path, server_url)

    with Queue.sync(queue_name, server_url) as queue:
        assert queue.counts()["completed"] == jobs


def test_a_bad_job_fails_alone_and_names_its_argument(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str
) -> None:
    """Whoever wrote the job in Node reads what is wrong with it; no attempt is wasted on it."""
    path, module = module_of(MODULE)
    with Queue.sync(queue_name, server_url) as queue:
        bad = {
            "task 'grow': argument size.width must be int, not 'wide'": (
                "grow",
                {"path": "a", "size": {"width": "wide"}},
            ),
            "task 'grow': argument size is missing; it takes path, size, by, labels": (
                "grow",
                {"path": "a"},
            ),
            "task 'grow': argument sise is unknown; it takes path, size, by, labels": (
                "grow",
                {"path": "a", "size": {"width": 1}, "sise": 1},
            ),
            "task 'grow': the job's data must be an object of arguments, not list": ("grow", [1]),
        }
        jobs = {text: queue.add(*job, attempts=3) for text, job in bad.items()}
        unknown = queue.add("shrink", {})
        good = module.add.enqueue(1, 2)

        serve(queue_name, path, server_url)

        for text, job in jobs.items():
            assert text in reason_of(job)
            assert job.refresh().attempts_made == 1
            assert "sandboxq/tasks" not in "".join(job.refresh().stacktrace)
        assert "; it has add, blob, chain-link, grow" in reason_of(unknown)
        assert "'shrink'" in reason_of(unknown)
        assert good.result(60) == 3


def test_bad_arguments_are_refused_where_they_are_enqueued(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str
) -> None:
    """Nothing is added."""
    _, module = module_of(MODULE)
    for wrong in (
        module.grow.enqueue,
        lambda: module.grow.enqueue("a", size=module.Size("wide")),
        lambda: module.grow.enqueue("a", size=module.Size(1), colour="red"),
        lambda: module.grow.enqueue(17, size=module.Size(1)),
        lambda: run_async(module.add.aenqueue(1, "2")),
        lambda: module.add.using(delay=-1).enqueue(1, 2),
        lambda: module.add.using(nonsense=1).enqueue(1, 2),
        lambda: module.blob.enqueue(object()),
    ):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(InvalidArguments, match=r"argument size\.width must be int, not 'wide'"):
        module.grow.data("a", size=module.Size("wide"))
    with Queue.sync(queue_name, server_url) as queue:
        assert sum(queue.counts().values()) == 0


def test_called_a_task_is_its_function(module_of: Callable[[str], tuple[Path, Any]]) -> None:
    """So that tests and other code use it without a queue."""
    _, module = module_of(MODULE + ASYNC.replace("chain", "chain_async"))
    assert module.grow("a", size=module.Size(2)) == module.Size(4)
    assert module.grow.call("a", size=module.Size(2), by=3.0) == module.Size(6)
    assert run_async(module.nap(0)) == run_async(module.nap.call(0)) == "here"
    assert (module.grow.__name__, module.chain.name) == ("grow", "chain-link")
    assert current_job() is None


def test_options_of_one_job_change_no_other(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str
) -> None:
    """``using`` returns another task and leaves the first as it was."""
    path, module = module_of(MODULE)
    later = module.add.using(delay=60, attempts=5, job_id="mine").enqueue(1, 2)
    first = module.grow.using(priority=7).enqueue("a", size=module.Size(1))
    plain = module.add.enqueue(1, 2)
    with Queue.sync(queue_name, server_url) as queue:
        assert later.id == "mine"
        assert queue.read_job("mine").opts.attempts == 5
        assert str(later.state()) == "delayed"
        assert queue.read_job(first.id).priority == 7
        assert queue.read_job(first.id).opts.attempts == 2
        assert queue.read_job(plain.id).delay_ms == 0
    later.cancel("not needed")
    assert str(later.state()) == "failed"
    serve(queue_name, path, server_url)
    assert plain.result(60) == 3


def test_any_thread_and_any_event_loop_may_enqueue(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str
) -> None:
    """One after the other and at once, over one set of connections."""
    path, module = module_of(MODULE)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(run_async(module.add.aenqueue(n, n))))
        for n in range(4)
    ]
    for each in threads:
        each.start()
    found.append(module.add.enqueue(4, 4))
    for each in threads:
        each.join()
    serve(queue_name, path, server_url)
    with Queue.sync(queue_name, server_url) as queue:
        assert sorted(queue.result(each.id, 5) for each in found) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@task\ndef f(): ...", "write @task\\(queue="),
        ("@task(queue='')\ndef f(): ...", "needs the name of its queue"),
        ("@task(queue='q', job_id='x')\ndef f(): ...", "job_id is of one job alone"),
        ("@task(queue='q')\nclass F: ...", "@task is for functions"),
        ("@task(queue='q')\ndef f(*a): ...\nf.enqueue(1)", "takes \\*a"),
        ("@task(queue='q')\ndef f(a: 'Missing'): ...\nf.enqueue(1)", "'Missing' is not defined"),
    ],
)
def test_what_cannot_be_a_task_is_refused(text: str, message: str) -> None:
    """With what to write instead."""
    with pytest.raises(UsageError, match=message):
        exec(text, {"task": task})  # noqa: S102 - the test's own text


def test_two_tasks_of_one_name_are_refused_at_the_start(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str
) -> None:
    """Else one of them would never run."""
    path, _ = module_of(MODULE + "\n@task(queue=QUEUE, name='add')\ndef other(): ...\n")
    with pytest.raises(UsageError, match="are called 'add'"):
        serve(queue_name, path, server_url)


def test_a_node_of_a_flow_has_the_options_of_its_task(server_url: str, queue_name: str) -> None:
    """Timeout and attempts hold in a flow and for a scheduler as they do when it is enqueued."""

    @task(queue=queue_name, attempts=3)
    def resize(path: str, width: int = 320) -> str:
        return f"{path} {width}"

    urgent = resize.using(priority=2, timeout=30)
    with FlowProducer.sync(server_url) as flows, Queue.sync(queue_name, server_url) as queue:
        flow = flows.add(name="album", queue=queue_name, children=[urgent.node("a.jpg")])
        nightly = queue.upsert_scheduler(
            "nightly", Repeat(cron="0 3 * * *"), name=resize.name, options=urgent.options
        )

        child = flow.children[0].job
        assert (child.name, child.data) == ("resize", {"path": "a.jpg"})
        for job in (child, nightly):
            assert (job.options.attempts, job.priority) == (3, 2)
    with pytest.raises(InvalidArguments):
        resize.node("a.jpg", width="wide")  # type: ignore[arg-type]  # what is tested
