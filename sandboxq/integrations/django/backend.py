"""A task backend whose tasks are jobs: added here, run by ``manage.py sandboxq run``.

task.enqueue(…) ─► job `{"task": path, "args": […], "kwargs": {…}, "backend": alias}` ─► queue
get_result(id)  ◄─ the job as it is now
"""

from __future__ import annotations

import inspect
import uuid
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from sandboxq.broker.keys import DEFAULT_PREFIX, checked_queue_name
from sandboxq.errors import UsageError
from sandboxq.integrations.django.results import (
    BACKPORT,
    BUILT_IN,
    NotATask,
    current_job,
    job_priority,
    new_result,
    package_of_tasks,
    part,
    result_of_job,
)
from sandboxq.model.job import JobState
from sandboxq.queue.options import checked_options
from sandboxq.queue.queue import SyncQueue

APP = "sandboxq.integrations.django"
# By its name: importing it would set Django up.
PROCESSOR = "sandboxq.integrations.django.processor"
# The variable in which ``manage.py sandboxq run PROCESSOR`` passes the project's own processor.
PROCESSOR_VARIABLE = "SANDBOXQ_DJANGO_PROCESSOR"
# Options that each task sets itself, or that no task may have.
_OF_TASKS = ("delay", "priority", "job_id", "parent", "deduplication", "timestamp_ms")
_OF_BACKEND = ("url", "prefix", "on_commit")


_queues: dict[tuple[str, str | None, str | None], SyncQueue] = {}


def queue_at(name: str, url: str | None, prefix: str | None) -> SyncQueue:
    """Return a queue; all threads share it."""
    key = (name, url, prefix)
    if key in _queues:
        return _queues[key]
    # Of threads that come at once, all get the first one's; the others never connect.
    return _queues.setdefault(key, SyncQueue(name, url, prefix=prefix))


def new_backend(name: str, package: str) -> type[Any]:
    """Return a backend class for the tasks of ``package``."""
    base = part(package, "backends.base").BaseTaskBackend
    members = {"package": package, "__module__": APP, "__doc__": QueueBackend.__doc__}
    return type(name, (QueueBackend, base), members)


class QueueBackend:
    """Adds tasks to BullMQ queues.

    ``OPTIONS`` may have ``url`` and ``prefix`` of the Redis, ``on_commit`` (True, or the alias of a
    database: tasks are added when its transaction is committed), and defaults of jobs, by the names
    of ``Queue.add``: attempts, backoff, timeout, remove_on_complete, …
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True
    package: str

    # As the base class, which is of one package or the other, sets them.
    alias: str
    queues: set[str]
    options: dict[str, Any]

    def queue(self, name: str) -> SyncQueue:
        """Return the queue of that name."""
        return queue_at(name, self.url, self.options.get("prefix"))

    @property
    def url(self) -> str | None:
        """Where its Redis is; None: as the environment says."""
        url: str | None = self.options.get("url") or getattr(settings, "SANDBOXQ_URL", None)
        return url

    # ── adding ──────────────────────────────────────────────────────────────

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Add a job for the task; return its result, which is still to come."""
        result = self._new_result(task, args, kwargs)
        if not self._is_left_to_commit(result):
            self._add_and_tell(result)
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Do as ``enqueue``; the event loop goes on meanwhile.

        A transaction is that of the thread in which this context's database work is done.
        """
        result = self._new_result(task, args, kwargs)
        if self._waits_for_commit and await sync_to_async(self._is_left_to_commit)(result):
            return result
        added = await sync_to_async(self._add, thread_sensitive=False)(result)
        if inspect.isawaitable(added):
            await added
        await part(self.package, "signals").task_enqueued.asend(type(self), task_result=result)
        return result

    @property
    def _waits_for_commit(self) -> bool:
        return bool(self.options.get("on_commit", False))

    def _is_left_to_commit(self, result: Any) -> bool:
        """Have a task added when the transaction that is open here is committed, if one is."""
        option = self.options.get("on_commit", False)
        using = DEFAULT_DB_ALIAS if option is True else option
        if not using or not transaction.get_connection(using).in_atomic_block:
            return False
        transaction.on_commit(lambda: self._add_and_tell(result), using=using)
        return True

    def _new_result(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.validate_task(task)  # type: ignore[attr-defined]  # of the base class
        result_id = f"{task.queue_name}.{uuid.uuid4().hex}"
        return new_result(
            self.package,
            task=task,
            id=result_id,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            enqueued_at=datetime.now(UTC),
        )

    def _add_and_tell(self, result: Any) -> None:
        added = self._add(result)
        if inspect.iscoroutine(added):
            added.close()
            message = (
                f"task {result.task.name!r} was not added: this job runs on an event loop, write "
                f"`await {result.task.name}.aenqueue(…)`, outside of a transaction"
            )
            raise UsageError(message)
        part(self.package, "signals").task_enqueued.send(type(self), task_result=result)

    def _add(self, result: Any) -> Any:
        """Add a job; return what is to be awaited where a job on an event loop adds it."""
        task = result.task
        data = {
            "task": task.module_path,
            "args": result.args,
            "kwargs": result.kwargs,
            "backend": self.alias,
        }
        options = {
            **self._job_defaults(),
            "job_id": _parts(result.id)[1],
            "priority": job_priority(task.priority),
            "delay": _seconds_until(task.run_after),
        }
        job = current_job()
        if job is not None:
            # A task adds through its worker: it needs no way to Redis, which a policy may deny.
            return job.queue(task.queue_name).add(task.module_path, data, **options)
        return self.queue(task.queue_name).add(task.module_path, data, **options)

    def _job_defaults(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name not in _OF_BACKEND}

    # ── results ─────────────────────────────────────────────────────────────

    def get_result(self, result_id: str) -> Any:
        """Return the result of a task so far. Raises: TaskResultDoesNotExist."""
        queue_name, job_id = _parts(result_id)
        job, state = None, JobState.UNKNOWN
        if queue_name and job_id and (not self.queues or queue_name in self.queues):
            queue = self.queue(queue_name)
            # In this order: the value of a job that has completed is there when it is read.
            state, job = queue.job_state(job_id), queue.get_job(job_id)
        if job is None or not isinstance(job.data, dict) or job.data.get("task") != job.name:
            raise part(self.package, "exceptions").TaskResultDoesNotExist(result_id)
        try:
            return result_of_job(self.package, job, state, result_id)
        except (ImportError, NotATask) as error:
            raise part(self.package, "exceptions").TaskResultDoesNotExist(result_id) from error

    async def aget_result(self, result_id: str) -> Any:
        """Do as ``get_result``; the event loop goes on meanwhile."""
        return await sync_to_async(self.get_result, thread_sensitive=False)(result_id)

    # ── checks ──────────────────────────────────────────────────────────────

    def check(self, **_: Any) -> list[checks.CheckMessage]:
        """Say what is wrong with the settings; nothing is connected to."""
        where = f"TASKS[{self.alias!r}]"
        found: list[checks.CheckMessage] = [
            checks.Error(f"{where}: {problem}", id="sandboxq.E001") for problem in self._problems()
        ]
        if APP not in settings.INSTALLED_APPS:
            found.append(
                checks.Warning(
                    f"{where} adds jobs, and this project has no `manage.py sandboxq`.",
                    hint=f"Add {APP!r} to INSTALLED_APPS.",
                    id="sandboxq.W001",
                )
            )
        return found

    def _problems(self) -> list[str]:
        problems = []
        try:
            for name in self.queues:
                checked_queue_name(name)
        except UsageError as error:
            problems.append(f"QUEUES: {error}")
        defaults = self._job_defaults()
        of_tasks = sorted(defaults.keys() & set(_OF_TASKS))
        if of_tasks:
            problems.append(f"OPTIONS: {of_tasks[0]!r} is said by each task, not here")
        try:
            checked_options(defaults, prefix=DEFAULT_PREFIX)
            queue_at("default", self.url, self.options.get("prefix"))
        except UsageError as error:
            problems.append(f"OPTIONS: {error}")
        if not isinstance(self.options.get("on_commit", False), bool | str):
            problems.append("OPTIONS: on_commit must be a bool or the alias of a database")
        return problems


def _parts(result_id: str) -> tuple[str, str]:
    """Return queue and job id; the queue is empty where the id is none of ours."""
    queue, _, job_id = str(result_id).rpartition(".")
    return queue, job_id


def _seconds_until(moment: datetime | None) -> float:
    if moment is None:
        return 0.0
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    return max(0.0, (moment - timezone.now()).total_seconds() if settings.USE_TZ else _left(moment))


def _left(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


def backends_of_project() -> list[Any]:
    """Return the backends of sandboxq in the project's ``TASKS``, one for each alias."""
    try:
        handler = import_module(_package()).task_backends
    except ImportError:
        return []  # no tasks, only processors of its own
    return [backend for backend in handler.all() if isinstance(backend, QueueBackend)]


def _package() -> str:
    if find_spec(BUILT_IN) is not None and not apps.is_installed(BACKPORT):
        return BUILT_IN
    return BACKPORT if find_spec(BACKPORT) is not None else package_of_tasks()
