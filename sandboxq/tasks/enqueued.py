"""Jobs of tasks, and the connections over which they are added: one set for a process.

Both ways of adding use the process's background event loop, so that any thread and any event loop
may add, one after the other or together. Inside a job they ask its worker, without Redis.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from sandboxq.child.tasks import current_job
from sandboxq.child.values import MOST_JOBS
from sandboxq.errors import InvalidArguments, UsageError
from sandboxq.model.validation import checked_many
from sandboxq.queue.blocking import portal
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from sandboxq.child.job import Job
    from sandboxq.model.job import JobState
    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.options import AddOptions

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
# The data of one job, or that with options of its own.
ManyCall = Mapping[str, Any] | tuple[Mapping[str, Any], "AddOptions"]
_Entry = tuple[str, dict[str, Any], "AddOptions"]  # as add_bulk takes it


class Enqueues(Protocol[R_co]):
    """A task, as far as it is needed here."""

    name: str
    queue: str
    options: AddOptions

    def checked(self, data: Any) -> dict[str, Any]:
        """Return the data of a job, given by name, as JSON has it. Raises: InvalidArguments."""

    def value_from(self, result: Any) -> R_co:
        """Return what the function returned, from JSON. Raises: UnexpectedResult."""


class _Where(NamedTuple):
    url: str | None = None
    prefix: str | None = None
    tracing: Tracing | None = None


_where = _Where()
_queues: dict[str, Queue] = {}


def connect_tasks(
    url: str | None = None, *, prefix: str | None = None, tracing: Tracing | None = None
) -> None:
    """Set the Redis to which this process enqueues its tasks; else it is that of the environment.

    Connections that it had are closed; new ones are made with the first job.
    """
    global _where  # noqa: PLW0603 - of the process, as its environment is
    close_tasks()
    _where = _Where(url, prefix, tracing)


def close_tasks() -> None:
    """Close the connections over which this process enqueues tasks; the next job makes new ones."""
    while _queues:
        portal().run(_queues.popitem()[1].close())


def _queue(name: str) -> Queue:
    queue = _queues.get(name)
    if queue is None:
        made = Queue(name, _where.url, prefix=_where.prefix, tracing=_where.tracing)
        queue = _queues.setdefault(name, made)  # another thread may have made it meanwhile
    return queue


class Enqueued(Generic[R]):
    """A job of a task, as it was added."""

    def __init__(self, task: Enqueues[R], job_id: str, queue: Queue | None) -> None:
        """Name it; ``queue`` is None when a job has added it."""
        self._task = task
        self.id = job_id
        self._queue = queue

    def __repr__(self) -> str:
        """Say which job it is."""
        return f"<{type(self).__name__} {self.id} {self.name!r} of {self.queue_name!r}>"

    @property
    def name(self) -> str:
        """The name of the task."""
        return self._task.name

    @property
    def queue_name(self) -> str:
        """The queue that it was added to."""
        return self._task.queue

    def _reached(self) -> Queue:
        if self._queue is None:
            message = (
                f"job {self.id} was added by a job, which cannot wait for it or ask about it: add "
                "both as a flow, where the parent gets the values of its children"
            )
            raise UsageError(message)
        return self._queue


class TaskJob(Enqueued[R]):
    """A job of a task, for code without an event loop."""

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the job, and return what the function returned.

        Raises: JobFailed, or the ChildError that ended it; ResultTimeout after ``timeout`` seconds;
        UnexpectedResult when the value is not what the function's annotation says.
        """
        return self._task.value_from(portal().run(self._reached().result(self.id, timeout)))

    def state(self) -> JobState:
        """Return the state that holds the job."""
        return portal().run(self._reached().job_state(self.id))

    def cancel(self, reason: str | None = None) -> str | None:
        """End the job wherever it is; see Queue.cancel."""
        return portal().run(self._reached().cancel(self.id, reason))


class AsyncTaskJob(Enqueued[R]):
    """A job of a task, for asynchronous code."""

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the job, and return what the function returned; see TaskJob.result."""
        found = await portal().run_for_loop(self._reached().result(self.id, timeout))
        return self._task.value_from(found)

    async def state(self) -> JobState:
        """Return the state that holds the job."""
        return await portal().run_for_loop(self._reached().job_state(self.id))

    async def cancel(self, reason: str | None = None) -> str | None:
        """End the job wherever it is; see Queue.cancel."""
        return await portal().run_for_loop(self._reached().cancel(self.id, reason))


def enqueue(task: Enqueues[R], data: dict[str, Any]) -> TaskJob[R]:
    """Add a job and wait until it is added."""
    job = current_job()
    if job is not None:
        asked = job.queue(task.queue).add(task.name, data, **task.options)
        return TaskJob(task, _answered(job, task, asked).id, None)
    queue = _queue(task.queue)
    added = portal().run(queue.add(task.name, data, **task.options))
    return TaskJob(task, added.id, queue)


async def aenqueue(task: Enqueues[R], data: dict[str, Any]) -> AsyncTaskJob[R]:
    """Add a job from asynchronous code."""
    job = current_job()
    if job is not None:
        asked = job.queue(task.queue).add(task.name, data, **task.options)
        return AsyncTaskJob(task, (await asked if inspect.isawaitable(asked) else asked).id, None)
    queue = _queue(task.queue)
    added = await portal().run_for_loop(queue.add(task.name, data, **task.options))
    return AsyncTaskJob(task, added.id, queue)


def enqueue_many(task: Enqueues[R], calls: Iterable[ManyCall]) -> list[TaskJob[R]]:
    """Add many jobs and wait until all are added."""
    entries = _entries(task, calls)
    job = current_job()
    if job is not None:
        asking = job.queue(task.queue)
        answers = [_answered(job, task, asking.add_bulk(part)) for part in _parts(entries)]
        return [TaskJob(task, each.id, None) for answer in answers for each in answer]
    queue = _queue(task.queue)
    return [TaskJob(task, each.id, queue) for each in portal().run(queue.add_bulk(entries))]


async def aenqueue_many(task: Enqueues[R], calls: Iterable[ManyCall]) -> list[AsyncTaskJob[R]]:
    """Add many jobs from asynchronous code."""
    entries = _entries(task, calls)
    job = current_job()
    if job is not None:
        ids: list[str] = []
        for part in _parts(entries):
            asked = job.queue(task.queue).add_bulk(part)
            ids += [each.id for each in (await asked if inspect.isawaitable(asked) else asked)]
        return [AsyncTaskJob(task, each, None) for each in ids]
    queue = _queue(task.queue)
    added = await portal().run_for_loop(queue.add_bulk(entries))
    return [AsyncTaskJob(task, each.id, queue) for each in added]


def _entries(task: Enqueues[Any], calls: Iterable[ManyCall]) -> list[_Entry]:
    """Return all calls as ``add_bulk`` takes them; one that does not fit is told by its number."""
    entries: list[_Entry] = []
    for place, call in enumerate(checked_many("calls", calls)):
        try:
            entries.append(_entry(task, call))
        except InvalidArguments as error:
            message = f"call {place}: {error}"
            raise InvalidArguments(message) from None
    return entries


def _entry(task: Enqueues[Any], call: Any) -> _Entry:
    if not isinstance(call, tuple):
        return task.name, task.checked(call), task.options
    match call:
        case (data, Mapping() as options):
            whole: Any = {**task.options, **options}
            return task.name, task.checked(data), whole
    message = "it must be data or (data, options), as task.data(…) and Queue.add have them"
    raise InvalidArguments(message)


def _parts(entries: list[_Entry]) -> Iterator[list[_Entry]]:
    """Divide what a job adds into questions that its worker takes."""
    for first in range(0, len(entries), MOST_JOBS):
        yield entries[first : first + MOST_JOBS]


def _answered(job: Job, task: Enqueues[Any], asked: Any) -> Any:
    """Return what the worker has added; refuse what would have to be awaited."""
    if inspect.iscoroutine(asked):
        asked.close()
        message = (
            f"job {job.id} runs on an event loop: write `await {task.name}.aenqueue(…)`, or "
            "aenqueue_many, in an `async def` task"
        )
        raise UsageError(message)
    return asked
