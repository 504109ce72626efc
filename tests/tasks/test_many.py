"""Many jobs of a task at once: from a producer, and from a job by its worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import InvalidArguments, Queue, UsageError
from sandboxq.child.values import MOST_JOBS
from tests.conftest import run_async
from tests.tasks.test_tasks import serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULE = """
from sandboxq import task

@task(queue=QUEUE, attempts=2)
def double(n: int, *, by: int = 2) -> int:
    return n * by
"""
FAN_OUT = """
@task(queue=QUEUE)
def fan_out(many: int) -> list[str]:
    added = double.enqueue_many(double.data(n) for n in range(many))
    return [added[0].id, added[-1].id]
"""
ASYNC_FAN_OUT = FAN_OUT.replace("def fan", "async def fan").replace(
    "double.enqueue", "await double.aenqueue"
)


def test_they_are_added_in_order_with_the_options_of_the_task(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str
) -> None:
    """What `data` made, plain objects of arguments and those of a generator alike."""
    path, module = module_of(MODULE)
    urgent = module.double.using(priority=3)
    first = urgent.enqueue_many(module.double.data(n) for n in range(3))
    second = run_async(
        module.double.aenqueue_many([({"n": 5, "by": 3}, {"attempts": 7}), {"by": 1, "n": 4}])
    )
    assert module.double.enqueue_many([]) == []

    with Queue.sync(queue_name, server_url) as queue:
        jobs = [queue.read_job(each.id) for each in [*first, *second]]
        assert [job.data["n"] for job in jobs] == [0, 1, 2, 5, 4]
        assert [job.priority for job in jobs] == [3, 3, 3, 0, 0]
        assert [job.opts.attempts for job in jobs] == [2, 2, 2, 7, 2]
    serve(queue_name, path, server_url)

    async def results() -> list[int]:
        return [await each.result(60) for each in second]

    assert [each.result(60) for each in first] == [0, 2, 4]
    assert run_async(results()) == [15, 4]


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([{"n": 1}, {"n": "two"}], "call 1: task 'double': argument n must be int, not 'two'"),
        ([{}], "call 0: task 'double': argument n is missing; it takes n, by"),
        ([{"n": 1, "m": 1}], "call 0: task 'double': argument m is unknown"),
        ([[1]], "call 0: task 'double': the job's data must be an object of arguments, not list"),
        ({"n": 1}, "call 0: task 'double': the job's data must be an object of arguments, not str"),
        ([({"n": 1},)], "call 0: it must be data or (data, options)"),
        ([({"n": 1}, 5)], "call 0: it must be data or (data, options)"),
        ([({"n": 1}, {"attempt": 5})], "attempt"),
        ("n", "calls must be a list, not 'n'"),
        (None, "calls must be a list, not None"),
    ],
    ids=str,
)
def test_one_that_does_not_fit_is_told_by_its_number(
    module_of: Callable[[str], tuple[Path, Any]],
    server_url: str,
    queue_name: str,
    calls: Any,
    message: str,
) -> None:
    """And nothing is added, also of those before it."""
    _, module = module_of(MODULE)
    for enqueue in (
        module.double.enqueue_many,
        lambda given: run_async(module.double.aenqueue_many(given)),
    ):
        with pytest.raises(UsageError) as refused:
            enqueue(calls)
        assert message in str(refused.value)
        assert isinstance(refused.value, InvalidArguments) == message.startswith("call ")
    with Queue.sync(queue_name, server_url) as queue:
        assert sum(queue.counts().values()) == 0


@pytest.mark.parametrize("text", [FAN_OUT, ASYNC_FAN_OUT], ids=["def", "async"])
def test_a_job_adds_more_than_one_question_may(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str, text: str
) -> None:
    """Its worker takes so many at once; the task need not know."""
    path, module = module_of(MODULE + text)
    many = MOST_JOBS + 20
    fan = module.fan_out.enqueue(many)

    serve(queue_name, path, server_url)

    with Queue.sync(queue_name, server_url) as queue:
        assert queue.counts()["completed"] == many + 1
        first, last = fan.result(60)
        assert (queue.read_job(first).data, queue.read_job(last).data) == (
            {"n": 0},
            {"n": many - 1},
        )
        assert queue.read_job(last).opts.attempts == 2


def test_a_def_task_on_an_event_loop_is_told_what_to_write(
    module_of: Callable[[str], tuple[Path, Any]], server_url: str, queue_name: str
) -> None:
    """Where another task of the queue is async, the worker cannot be asked without await."""
    nap = "\n@task(queue=QUEUE)\nasync def nap() -> None: ...\n"
    path, module = module_of(MODULE + FAN_OUT + nap)
    fan = module.fan_out.enqueue(2)

    serve(queue_name, path, server_url)

    with pytest.raises(Exception, match="aenqueue_many, in an `async def` task"):
        fan.result(60)
