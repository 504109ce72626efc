"""Run in a process of its own: a real Django project, its test client, and a real worker.

    python tests/integrations/django_run/django_project.py FOLDER

Django's settings are one of a process; FOLDER gets the database and the embedded server.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "examples" / "django"
FOLDER = Path(sys.argv[1])
WAIT_SECONDS = 60.0

sys.path[:0] = [str(PROJECT), str(Path(__file__).parent)]
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "shop.settings",
    "SHOP_DATABASE": str(FOLDER / "shop.sqlite3"),
    "PYTHONPATH": os.pathsep.join(sys.path[:2]),
}
os.chdir(FOLDER)

import django  # noqa: E402 - after the settings are named
import pytest  # noqa: E402 - the same

django.setup()

import tasks_for_tests as tasks  # noqa: E402 - after setup()
from asgiref.sync import async_to_sync  # noqa: E402 - after setup()
from django.contrib.auth.models import User  # noqa: E402 - after setup()
from django.core.management import call_command  # noqa: E402 - after setup()
from django.db import connection, transaction  # noqa: E402 - after setup()
from django.test import Client, override_settings  # noqa: E402 - after setup()
from django.utils import timezone  # noqa: E402 - after setup()
from shop.models import Report, Sale  # noqa: E402 - after setup()
from shop.tasks import build_report, task  # noqa: E402 - after setup()

from sandboxq import JobFailed, Queue  # noqa: E402 - after setup()
from sandboxq.integrations.django.backend import backends_of_project  # noqa: E402 - after setup()


def main() -> None:
    """Run all."""
    call_command("migrate", verbosity=0)
    check_settings()
    before_there_is_a_worker()
    worker = start_worker()
    try:
        for check in CHECKS:
            print(check.__name__, flush=True)  # noqa: T201 - for who reads a failure
            check()
    finally:
        worker.terminate()
        assert worker.wait(60) == 0
    a_processor_of_the_project()
    a_processor_on_an_event_loop()


def start_worker(*arguments: str) -> subprocess.Popen[bytes]:
    """Start ``manage.py sandboxq run``."""
    command = [sys.executable, str(PROJECT / "manage.py"), "sandboxq", "run", *arguments]
    return subprocess.Popen([*command, "--procs", "1"])


def finished(result: Any) -> Any:
    """Wait for a result."""
    deadline = time.monotonic() + WAIT_SECONDS
    result.refresh()
    while not result.is_finished:
        assert time.monotonic() < deadline, result
        time.sleep(0.05)
        result.refresh()
    return result


def check_settings() -> None:
    """``manage.py check`` says what is wrong with TASKS; nothing is migrated behind one's back."""
    call_command("check")
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    backend = backends_of_project()[0]
    assert backend.check() == []
    backend.options["attempts"] = "many"
    backend.options["delay"] = 3
    problems = [str(each.msg) for each in backend.check()]
    backend.options.update(attempts=2)
    del backend.options["delay"]
    assert len(problems) == 2, problems
    assert "attempts" in problems[1]
    assert "'delay' is said by each task" in problems[0]


def before_there_is_a_worker() -> None:
    """Priorities, times and commits, where nobody takes the jobs away."""
    with Queue.sync("reports") as queue:
        with transaction.atomic():
            tasks.note.enqueue("never")
            assert sum(queue.counts().values()) == 0
            async_to_sync(tasks.note.aenqueue)("never")
            assert sum(queue.counts().values()) == 0
            transaction.set_rollback(True)
        assert sum(queue.counts().values()) == 0
        with transaction.atomic():
            both = tasks.note.enqueue("sync"), async_to_sync(tasks.note.aenqueue)("async")
            assert sum(queue.counts().values()) == 0
        assert sum(queue.counts().values()) == len(both)
        queue.drain()
        low = tasks.note.using(priority=-100).enqueue("low")
        usual = tasks.note.enqueue("usual")
        high = tasks.note.using(priority=100).enqueue("high")
        later = tasks.note.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("later")
        waiting = [job.data["args"] for job in queue.get_prioritized()]
        assert waiting == [["high"], ["usual"], ["low"]], waiting
        (delayed,) = queue.get_delayed()
        assert 3590 < delayed.delay_ms / 1000 <= 3600
    for result, priority in ((low, -100), (usual, 0), (high, 100)):
        again = tasks.note.get_result(result.id)
        assert (again.status, again.task.priority) == ("READY", priority)
        assert again.task.queue_name == "reports"
    run_after = tasks.note.get_result(later.id).task.run_after
    assert run_after is not None
    assert run_after > timezone.now()


def a_view_and_its_report() -> None:
    """Ordered by the test client, built by the worker, shown by the test client."""
    Sale.objects.bulk_create([Sale(product="tea", cents=cents) for cents in (250, 300)])
    client = Client()
    ordered = client.post("/reports/", {"product": "tea"})
    assert ordered.status_code == 202, ordered.content
    result = finished(build_report.get_result(ordered.json()["task"]))
    assert result.return_value == 550
    shown = client.get(f"/reports/{ordered.json()['id']}/").json()
    assert shown == {"cents": 550, "status": "SUCCESSFUL"}
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.attempts == 1


def failures() -> None:
    """Each attempt's error is there, with its class."""
    result = finished(tasks.fail.enqueue(3))
    assert result.status == "FAILED"
    assert [each.exception_class for each in result.errors] == [LookupError, LookupError]
    assert "no 3" in result.errors[-1].traceback
    assert "tasks_for_tests.py" in result.errors[-1].traceback
    assert result.attempts == 2


def context_and_retries() -> None:
    """Tell a task which attempt it is."""
    result = finished(tasks.attempt.enqueue("ab", times=2))
    assert result.return_value == [2, "abab", result.id]
    assert [each.exception_class for each in result.errors] == [ValueError]


def a_crash() -> None:
    """Have a signal end the child, and nothing else; the result says so."""
    result = finished(tasks.crash.enqueue())
    assert result.status == "FAILED"
    assert result.errors[-1].exception_class.__name__ == "JobCrashed"


def asynchronous() -> None:
    """``async def`` tasks, ``aenqueue`` and ``aget_result``."""

    async def both() -> Any:
        result = await tasks.count_async.aenqueue()
        return await tasks.count_async.aget_result(result.id)

    result = asyncio.run(both())
    assert finished(result).return_value == Sale.objects.count()


def a_task_adds_a_task() -> None:
    """By its worker, as it has no URL of Redis."""
    for outer in (tasks.nested, tasks.nested_async):
        inner_id = finished(outer.enqueue()).return_value
        assert finished(tasks.where.get_result(inner_id)).return_value["pid"] > 0


def connections() -> None:
    """Look at connections: none comes by the fork, one left in a transaction is closed."""
    first, second = (finished(tasks.where.enqueue()).return_value for _ in range(2))
    assert second["pid"] == first["pid"] != os.getpid()
    assert second["connected"]  # CONN_MAX_AGE
    finished(tasks.break_connection.enqueue())
    assert not Sale.objects.filter(product="left open").exists()
    after = finished(tasks.where.enqueue()).return_value
    assert not after["connected"]
    assert finished(tasks.note.enqueue("after")).return_value == "after"


def unknown_results() -> None:
    """Of ids that nobody has given, and of another task."""
    backend = backends_of_project()[0]
    for result_id in ("reports.nope", "nope", "other.queue", ""):
        with pytest.raises(Exception, match=result_id) as error:  # of one package or the other
            backend.get_result(result_id)
        assert error.typename == "TaskResultDoesNotExist"


def jobs_of_others() -> None:
    """Fail jobs of other producers alone, saying why; they name no code that is run."""
    with Queue.sync("reports") as queue:
        for data in ({"task": "os.abort"}, {"task": "no.such.task"}, {}, [1]):
            job = queue.add("x", data)
            with pytest.raises(JobFailed, match=f"job {job.id}"):
                job.result(timeout=WAIT_SECONDS)
        for name in ("os.abort", "no.such.task"):
            job = queue.add(name, {"task": name})
            with pytest.raises(Exception, match=job.id) as error:  # of one package or the other
                backends_of_project()[0].get_result(f"reports.{job.id}")
            assert error.typename == "TaskResultDoesNotExist"


def the_admin() -> None:
    """Show the queues in the admin, to who may see them."""
    User.objects.create_superuser("boss", password="x")  # noqa: S106 - a test's
    User.objects.create_user("clerk", password="x", is_staff=True)  # noqa: S106 - a test's
    client = Client()
    assert client.login(username="boss", password="x")  # noqa: S106 - a test's
    assert b"/admin/sandboxq/queue/" in client.get("/admin/").content
    with override_settings(SANDBOXQ_DASHBOARD="https://queues.example"):
        page = client.get("/admin/sandboxq/queue/")
    assert page.status_code == 200
    assert b"reports" in page.content
    assert b"https://queues.example" in page.content
    assert client.login(username="clerk", password="x")  # noqa: S106 - a test's
    assert client.get("/admin/sandboxq/queue/").status_code == 403


def a_processor_of_the_project() -> None:
    """``run PROCESSOR``: any processor, with Django set up and connections closed around jobs."""
    Path("counting.py").write_text(
        "from shop.models import Report\ndef process(job):\n    return Report.objects.count()\n"
    )
    worker = start_worker("counting.py")
    try:
        with Queue.sync("counting") as queue:
            assert queue.add("count", {}).result(timeout=WAIT_SECONDS) == Report.objects.count()
    finally:
        worker.terminate()
        assert worker.wait(60) == 0


def a_processor_on_an_event_loop() -> None:
    """Add tasks with ``aenqueue``; ``enqueue`` says so, and nothing is lost unsaid."""
    Path("adding.py").write_text(
        "import tasks_for_tests as tasks\n"
        "from asgiref.sync import sync_to_async\n"
        "async def process(job):\n"
        "    if job.name == 'blocking':\n"
        "        return (await sync_to_async(tasks.where.enqueue)()).id\n"
        "    return (await tasks.where.aenqueue()).id\n"
    )
    worker = start_worker("adding.py")
    try:
        with Queue.sync("adding") as queue, Queue.sync("reports") as reports:
            waiting = reports.counts()["prioritized"]
            result_id = queue.add("async", {}).result(timeout=WAIT_SECONDS)
            assert tasks.where.get_result(result_id).status == "READY"
            with pytest.raises(JobFailed, match="aenqueue"):
                queue.add("blocking", {}).result(timeout=WAIT_SECONDS)
            assert reports.counts()["prioritized"] == waiting + 1
    finally:
        worker.terminate()
        assert worker.wait(60) == 0


CHECKS: list[Callable[[], None]] = [
    a_view_and_its_report,
    failures,
    context_and_retries,
    a_crash,
    asynchronous,
    a_task_adds_a_task,
    connections,
    unknown_results,
    jobs_of_others,
    the_admin,
]

if __name__ == "__main__":
    assert callable(task)
    main()
    connection.close()
    print("all checked with Django", django.__version__)  # noqa: T201 - the caller looks for it
