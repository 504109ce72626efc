"""Functions that are run as jobs: ``@task(queue="images")``.

Importing this does not import Redis, asyncio or the worker: those are loaded by the first enqueue.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar, overload

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Protocol, Self, Unpack

    from sandboxq.queue.flow_plan import FlowNode
    from sandboxq.queue.options import AddOptions
    from sandboxq.tasks.arguments import Arguments
    from sandboxq.tasks.enqueued import AsyncTaskJob, ManyCall, TaskJob

    class TaskOptions(AddOptions, total=False):
        """Options of every job of a task: those of ``Queue.add`` that are not of one job alone."""


P = ParamSpec("P")
R = TypeVar("R")

_CO_COROUTINE = 0x80
_CO_VARARGS = 0x04
# Of one job alone; ``using`` takes them.
_REFUSED = ("job_id", "parent", "timestamp_ms", "trace_context")


class Enqueuing(Generic[P, R]):
    """What tasks of both kinds have in common: how they become jobs. ``R`` is what they return."""

    is_sandboxq_task: ClassVar[bool] = True
    is_async: ClassVar[bool]

    def __init__(
        self, function: Callable[P, Any], *, queue: str, name: str, options: AddOptions
    ) -> None:
        """Made by ``task``."""
        functools.update_wrapper(self, function)  # type: ignore[arg-type]  # of any signature
        self.function = function
        self.queue = queue
        self.name = name
        self.options = options
        self._arguments: Arguments | None = None

    def __repr__(self) -> str:
        """Say which task it is."""
        return f"<{type(self).__name__} {self.name!r} of queue {self.queue!r}>"

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskJob[R]:
        """Add a job that calls the function with these arguments.

        Blocks; in asynchronous code ``await aenqueue(…)``.
        Raises: InvalidArguments, a UsageError, when they do not fit, and nothing is added; what
        Queue.add raises.
        """
        from sandboxq.tasks.enqueued import enqueue  # noqa: PLC0415 - asyncio and Redis, when needed

        return enqueue(self, self.data(*args, **kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> AsyncTaskJob[R]:
        """Add a job from asynchronous code; see ``enqueue``."""
        from sandboxq.tasks.enqueued import aenqueue  # noqa: PLC0415 - as above

        return await aenqueue(self, self.data(*args, **kwargs))

    def enqueue_many(self, calls: Iterable[ManyCall]) -> list[TaskJob[R]]:
        """Add many jobs at once, in order; each call is what ``data`` returns, arguments by name.

        ``resize.enqueue_many(resize.data(path, width=320) for path in paths)``; with options of
        one job, a pair: ``(resize.data(path, width=320), {"job_id": path})``. Blocks.
        Raises: InvalidArguments with the number of the first call that does not fit, and nothing is
        added; what Queue.add_bulk raises.
        """
        from sandboxq.tasks.enqueued import enqueue_many  # noqa: PLC0415 - as above

        return enqueue_many(self, calls)

    async def aenqueue_many(self, calls: Iterable[ManyCall]) -> list[AsyncTaskJob[R]]:
        """Add many jobs from asynchronous code; see ``enqueue_many``."""
        from sandboxq.tasks.enqueued import aenqueue_many  # noqa: PLC0415 - as above

        return await aenqueue_many(self, calls)

    def using(self, **options: Unpack[AddOptions]) -> Self:
        """Return this task with other options for its jobs: ``delay``, ``priority``, and so on.

        They are those of Queue.add, and override those of ``task``.
        """
        return type(self)(
            self.function,
            queue=self.queue,
            name=self.name,
            options={**self.options, **options},
        )

    def data(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """Return the data of such a job, for ``enqueue_many``, flows and schedulers.

        Raises: InvalidArguments.
        """
        return self._signature().data_from(args, kwargs)

    def node(self, *args: P.args, **kwargs: P.kwargs) -> FlowNode:
        """Return such a job as flows take it, with the options. Raises: InvalidArguments."""
        return {
            "name": self.name,
            "queue": self.queue,
            "data": self.data(*args, **kwargs),
            "options": self.options,
        }

    # ── in the child ──

    def arguments_from(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments for the function from a job's data. Raises: InvalidArguments."""
        return self._signature().arguments_from(data)

    @staticmethod
    def plain(value: Any) -> Any:
        """Return what the function returned as JSON has it."""
        if value is None:
            return None
        from sandboxq.tasks.values import plain  # noqa: PLC0415 - producers that add nothing need it not

        return plain(value)

    def checked(self, data: Any) -> dict[str, Any]:
        """Return the data of a job, given by name, as JSON has it. Raises: InvalidArguments."""
        return self._signature().checked(data)

    def value_from(self, result: Any) -> R:
        """Return what the function returned, from JSON. Raises: UnexpectedResult."""
        value: R = self._signature().value_from(result)
        return value

    def _signature(self) -> Arguments:
        if self._arguments is None:
            from sandboxq.tasks.arguments import Arguments  # noqa: PLC0415 - as above

            self._arguments = Arguments(self.function, self.name)
        return self._arguments


class Task(Enqueuing[P, R]):
    """A function that can be run as a job. Called, it runs here, as without ``@task``."""

    is_async = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here."""
        result: R = self.function(*args, **kwargs)
        return result

    def call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here."""
        return self(*args, **kwargs)


class AsyncTask(Enqueuing[P, R]):
    """An ``async def`` function that can be run as a job. Called and awaited, it runs here."""

    is_async = True

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the coroutine, which runs the function here."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Return the coroutine, which runs the function here."""
        return self(*args, **kwargs)


if TYPE_CHECKING:

    class Decorator(Protocol):
        """Makes a task of a function."""

        @overload
        def __call__(  # type: ignore[overload-overlap]  # a coroutine is any value too
            self, function: Callable[P, Coroutine[Any, Any, R]], /
        ) -> AsyncTask[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


def task(queue: str, *, name: str | None = None, **options: Unpack[TaskOptions]) -> Decorator:
    """Make a function a task: ``@task(queue="images", timeout=30)``.

    Its jobs go to ``queue`` under ``name``, or the function's own name, with these options of
    Queue.add; ``python -m sandboxq run app.tasks`` runs those of a module.
    Raises: UsageError.
    """
    named: object = queue
    if not isinstance(named, str) or not named:
        message = f'a task needs the name of its queue: write @task(queue="images"), not {queue!r}'
        raise UsageError(message)
    refused = [each for each in _REFUSED if each in options]
    if refused:
        message = f"{refused[0]} is of one job alone: give it to using({refused[0]}=…)"
        raise UsageError(message)

    def decorate(function: Callable[..., Any]) -> Any:
        code = getattr(function, "__code__", None)
        if code is None:
            message = f"@task is for functions, not {function!r}"
            raise UsageError(message)
        kind = AsyncTask if code.co_flags & _CO_COROUTINE else Task
        called = function.__name__ if name is None else name
        return kind(function, queue=queue, name=called, options=options)

    return decorate
