"""The tasks of a module in the place of one processor: each job runs the task that it names."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from sandboxq.errors import InvalidArguments, UnknownTask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandboxq.child.job import Job

# By which a class says that its objects are tasks: this side imports nothing of them.
MARK = "is_sandboxq_task"

_running: ContextVar[Job | None] = ContextVar("sandboxq_running_job", default=None)


class Runs(Protocol):
    """What is known here of a task."""

    name: str
    queue: str
    is_async: bool
    function: Callable[..., Any]

    def arguments_from(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the function. Raises: InvalidArguments."""

    def plain(self, value: Any) -> Any:
        """Return what the function returned as JSON has it."""


class Clash(ValueError):
    """Two tasks of a queue have one name."""


def current_job() -> Job | None:
    """Return the job whose task runs here; None where a task is called as a plain function.

    For its progress, log, cancellation and queues: all that a processor's job offers.
    """
    return _running.get()


def is_task(value: object) -> TypeGuard[Runs]:
    """Tell whether a value is a task."""
    return getattr(type(value), MARK, None) is True


def tasks_in(values: Mapping[str, Any]) -> list[Runs]:
    """Return the tasks among the values of a module, each once.

    Raises: Clash.
    """
    found: dict[tuple[str, str], Runs] = {}
    for value in values.values():
        if is_task(value):
            known = found.setdefault((value.queue, value.name), value)
            if known.function is not value.function:
                message = (
                    f"two tasks of queue {value.queue!r} are called {value.name!r}: give one of "
                    'them another name, as in @task(queue=…, name="…")'
                )
                raise Clash(message)
    return list(found.values())


def names_by_queue(tasks: Sequence[Runs]) -> dict[str, list[str]]:
    """Return the names of tasks, by their queue."""
    names: dict[str, list[str]] = {}
    for each in tasks:
        names.setdefault(each.queue, []).append(each.name)
    return names


def told(names: Mapping[str, Sequence[str]]) -> str:
    """Return the queues and their tasks, for a message."""
    return ", ".join(f"{queue!r} ({', '.join(sorted(each))})" for queue, each in names.items())


def runner_of(tasks: Sequence[Runs], place: str) -> tuple[Callable[[Job], Any], bool]:
    """Return a processor that runs these tasks of one queue, and whether it is ``async``.

    It is when one of them is: the others run on the event loop beside it.
    """
    known = {each.name: each for each in tasks}

    def find(job: Job) -> Runs:
        task = known.get(job.name)
        if task is None:
            message = (
                f"job {job.id} names the task {job.name!r}, which {place} does not have for queue "
                f"{job.queue_name!r}; it has {', '.join(sorted(known))}"
            )
            raise UnknownTask(message)
        return task

    def process(job: Job) -> Any:
        task = find(job)
        args, kwargs = _arguments(task, job)
        token = _running.set(job)
        try:
            return task.plain(task.function(*args, **kwargs))
        finally:
            _running.reset(token)

    async def process_async(job: Job) -> Any:
        task = find(job)
        args, kwargs = _arguments(task, job)
        _running.set(job)  # each job has its own context
        value = task.function(*args, **kwargs)
        return task.plain(await value if task.is_async else value)

    is_async = any(each.is_async for each in tasks)
    return (process_async if is_async else process), is_async


def _arguments(task: Runs, job: Job) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        return task.arguments_from(job.with_parts(job.data))
    except InvalidArguments as error:
        raise error.with_traceback(None) from None  # where it was found says nothing to users
