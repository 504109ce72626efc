"""What children run in a Django project: its tasks, or a processor of its own, with connections.

Imported once by the zygote, which sets Django up. It closes what that opened (an app's
``ready()`` may ask the database): children share no connection with it and with each other.
"""

from __future__ import annotations

import os
import traceback
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import django
from asgiref.sync import sync_to_async
from django.core.cache import close_caches
from django.db import close_old_connections, connections, reset_queries
from django.utils import timezone
from django.utils.module_loading import import_string

from sandboxq.child.loader import load_processor
from sandboxq.errors import UnrecoverableError
from sandboxq.integrations.django.backend import PROCESSOR_VARIABLE, QueueBackend
from sandboxq.integrations.django.results import (
    CURRENT,
    ERRORS,
    moment,
    new_result,
    part,
    set_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandboxq.child.job import Job

# Of each task: the newest errors, each cut to so many characters.
_MOST_ERRORS = 10
_LONGEST_TRACE = 10_000

django.setup()


@contextmanager
def _connections_around(job: Job) -> Iterator[None]:
    """Close connections that are too old or broken before and after a job, as around a request."""
    _tidy()
    token = CURRENT.set(job)
    try:
        yield
    finally:
        CURRENT.reset(token)
        _tidy()


def _tidy() -> None:
    reset_queries()
    close_old_connections()


def run_task(job: Job) -> Any:
    """Run the task that a job names. What it raises fails the attempt, and is kept in the data."""
    task = _task_named(job)
    backend = task.get_backend()
    package, sender = backend.package, type(backend)
    signals = part(package, "signals")
    result = _result_of_attempt(package, job, task)
    signals.task_started.send(sender, task_result=result)
    arguments = result.args
    if task.takes_context:
        arguments = [part(package, "base").TaskContext(task_result=result), *arguments]
    try:
        value = task.call(*arguments, **result.kwargs)
    except Exception as error:
        _keep_error(package, job, result, error)
        if job.attempts_made + 1 >= int(job.opts.get("attempts", 1) or 1):
            _finish(package, result, "FAILED")
            signals.task_finished.send(sender, task_result=result)
        raise
    set_value(result, value)
    _finish(package, result, "SUCCESSFUL")
    signals.task_finished.send(sender, task_result=result)
    return value


def _task_named(job: Job) -> Any:
    data = job.data
    name = data.get("task") if isinstance(data, dict) else None
    if not isinstance(name, str):
        message = f"job {job.id} {job.name!r} of queue {job.queue_name!r} is no Django task"
        raise UnrecoverableError(message)
    try:
        task = import_string(name)
    except ImportError as error:
        message = f"job {job.id}: there is no task {name!r} here: {error}"
        raise UnrecoverableError(message) from error
    # A job names data, not code: nothing runs but a task of a backend of ours.
    if not hasattr(task, "get_backend") or not hasattr(task, "using"):
        message = f"job {job.id}: {name!r} is {type(task).__name__}, not a function with @task"
        raise UnrecoverableError(message)
    task = task.using(queue_name=job.queue_name, backend=data.get("backend", "default"))
    if not isinstance(task.get_backend(), QueueBackend):
        message = f"job {job.id}: the backend {task.backend!r} of {name!r} is none of sandboxq"
        raise UnrecoverableError(message)
    return task


def _result_of_attempt(package: str, job: Job, task: Any) -> Any:
    started = moment(job.processed_on)
    return new_result(
        package,
        id=f"{job.queue_name}.{job.id}",
        task=task,
        status=part(package, "base").TaskResultStatus.RUNNING,
        enqueued_at=moment(job.timestamp),
        started_at=started,
        last_attempted_at=started,
        args=job.data.get("args", []),
        kwargs=job.data.get("kwargs", {}),
        backend=task.backend,
        worker_ids=[str(os.getpid())] * job.attempts_started,
    )


def _keep_error(package: str, job: Job, result: Any, error: Exception) -> None:
    """Keep the class and the stack of an error where the producer finds them."""
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
    kept = {"class": path, "trace": trace, "attempt": job.attempts_started}
    job.update_data({**job.data, ERRORS: [*job.data.get(ERRORS, []), kept][-_MOST_ERRORS:]})
    result.errors.append(
        part(package, "base").TaskError(exception_class_path=path, traceback=trace)
    )


def _finish(package: str, result: Any, status: str) -> None:
    states = part(package, "base").TaskResultStatus
    object.__setattr__(result, "status", states[status])
    object.__setattr__(result, "finished_at", timezone.now())


def _with_connections(function: Callable[[Job], Any]) -> Callable[[Job], Any]:
    @wraps(function)
    def process(job: Job) -> Any:
        with _connections_around(job):
            return function(job)

    return process


def _with_async_connections(function: Callable[[Job], Any]) -> Callable[[Job], Any]:
    @wraps(function)
    async def process(job: Job) -> Any:
        await sync_to_async(_tidy)()
        token = CURRENT.set(job)
        try:
            return await function(job)
        finally:
            CURRENT.reset(token)
            await sync_to_async(_tidy)()

    return process


_named = os.environ.get(PROCESSOR_VARIABLE)
if _named:
    _loaded = load_processor(_named)
    _wrap = _with_async_connections if _loaded.is_async else _with_connections
    process = _wrap(_loaded.function)
    setup, teardown = _loaded.setup, _loaded.teardown
else:
    process = _with_connections(run_task)

# The last line: whatever was opened above must not be there when children are forked.
connections.close_all()
close_caches()
