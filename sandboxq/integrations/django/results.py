"""From a job to Django's TaskResult, in the producer and in the child.

Two packages have Django's tasks: Django itself since 6.0, and a backport for 5.2.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from sandboxq import errors as our_errors
from sandboxq.model.job import JobState

if TYPE_CHECKING:
    from sandboxq.child.job import Job
    from sandboxq.queue.job import SyncJob

BUILT_IN = "django.tasks"
BACKPORT = "django_tasks"

# The job whose task runs here; asgiref carries it into async tasks and their threads.
CURRENT: ContextVar[Job | None] = ContextVar("sandboxq_django_job", default=None)
# What the processor keeps in the data of a job whose attempt raised (see processor.py).
ERRORS = "errors"
# BullMQ's priorities: 1 goes first; Django's: 100 does. All are prioritized, or those without one
# would overtake them.
_HIGHEST = 100
_ENDED = ("SUCCESSFUL", "FAILED")
_STATUS = {
    JobState.ACTIVE: "RUNNING",
    JobState.COMPLETED: "SUCCESSFUL",
    JobState.FAILED: "FAILED",
}


def package_of_tasks() -> str:
    """Return the name of the package that this project has.

    Raises: ImportError when it has neither.
    """
    if find_spec(BUILT_IN) is not None:
        return BUILT_IN
    if find_spec(BACKPORT) is not None:
        return BACKPORT
    message = "Django before 6.0 has no tasks of its own: install the package django-tasks"
    raise ImportError(message)


def part(package: str, name: str) -> Any:
    """Return a module of the package, such as ``base`` or ``signals``."""
    return import_module(f"{package}.{name}")


def current_job() -> Job | None:
    """Return the job that this code is part of; None outside of a worker."""
    return CURRENT.get()


class NotATask(ValueError):
    """A job names what is no task: it is another producer's."""


def new_result(package: str, **members: Any) -> Any:
    """Return a TaskResult; what is not given has not happened yet."""
    base = part(package, "base")
    usual = {
        "status": base.TaskResultStatus.READY,
        "enqueued_at": None,
        "started_at": None,
        "finished_at": None,
        "last_attempted_at": None,
        "errors": [],
        "worker_ids": [],
    }
    return base.TaskResult(**{**usual, **members})


def result_of_job(package: str, job: SyncJob, state: JobState, result_id: str) -> Any:
    """Return the result of a task by its job, in the ``state`` that it had before it was read."""
    status = _STATUS.get(state, "READY")
    result = new_result(
        package,
        id=result_id,
        task=_task_of_job(job),
        status=part(package, "base").TaskResultStatus[status],
        enqueued_at=moment(job.timestamp_ms),
        started_at=moment(job.processed_on_ms),
        last_attempted_at=moment(job.processed_on_ms),
        finished_at=moment(job.finished_on_ms) if status in _ENDED else None,
        args=job.data.get("args", []),
        kwargs=job.data.get("kwargs", {}),
        backend=job.data.get("backend", "default"),
        errors=_errors(package, job, has_failed=status == "FAILED"),
        worker_ids=[job.processed_by or ""] * job.attempts_started,
    )
    if status == "SUCCESSFUL":
        set_value(result, job.returnvalue)
    return result


def set_value(result: Any, value: Any) -> None:
    """Set the value of a finished task, as backends do: a result is frozen for its readers."""
    object.__setattr__(result, "_return_value", value)


def moment(milliseconds: int | None) -> datetime | None:
    """Return a time of a job; None for none."""
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)


def _task_of_job(job: SyncJob) -> Any:
    delay = job.delay_ms
    task = import_string(job.name)
    if not hasattr(task, "get_backend") or not hasattr(task, "using"):
        raise NotATask(job.name)
    return task.using(
        queue_name=job.queue_name,
        backend=job.data.get("backend", "default"),
        priority=django_priority(job.priority),
        run_after=moment(job.timestamp_ms + delay) if delay else None,
    )


def django_priority(priority: int) -> int | None:
    """Return Django's priority, 100 to -100, for BullMQ's, 1 to 201; None where it has no form."""
    return _HIGHEST + 1 - priority if 1 <= priority <= 2 * _HIGHEST + 1 else None


def job_priority(priority: int) -> int:
    """Return BullMQ's priority, which goes first when it is 1, for Django's."""
    return _HIGHEST + 1 - priority


def _errors(package: str, job: SyncJob, *, has_failed: bool) -> list[Any]:
    """Return the errors that the processor kept, and the death of the last attempt."""
    error = part(package, "base").TaskError
    kept = job.data.get(ERRORS, [])
    found = [error(exception_class_path=each["class"], traceback=each["trace"]) for each in kept]
    if has_failed and (not kept or kept[-1]["attempt"] < job.attempts_started):
        kind = job.cause if job.cause and hasattr(our_errors, job.cause) else "JobFailed"
        text = "\n".join([*job.stacktrace[-1:], job.failed_reason or ""])
        found.append(error(exception_class_path=f"sandboxq.errors.{kind}", traceback=text))
    return found
