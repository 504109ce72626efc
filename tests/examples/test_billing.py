"""examples/billing: two nights and a crash at the worst moment, and everybody has paid once."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from sandboxq import Queue, SyncQueue
from tests.conftest import wait_until
from tests.examples.programs import embedded_url, finished, program

EXAMPLE = Path(__file__).parents[2] / "examples" / "billing"
CUSTOMERS = EXAMPLE / "customers.csv"


@pytest.mark.timeout(180)
def test_everybody_pays_once(tmp_path: Path) -> None:
    """The bank was asked twice for the one whose process was killed, and took the money once."""
    worker = ("sandboxq", "run", str(EXAMPLE / "bills.py"), "--procs", "2")
    schedule = (EXAMPLE / "schedule.py", CUSTOMERS, "bank.db")
    with program(tmp_path, *worker, variables={"BILLING_CRASH": "eve"}):
        assert " 03:00:00+0" in finished(tmp_path, *schedule)
        finished(tmp_path, *schedule)
        with Queue.sync("billing", embedded_url(tmp_path)) as queue:
            for completed in (1 + 4, 2 + 4):
                assert queue.promote_jobs() == 1
                wait_until(partial(has_completed, queue, completed))
                assert queue.counts()["delayed"] == 1
            crashes = {job.data.get("customer"): job.crashes for job in queue.get_completed()}

    with CUSTOMERS.open() as file:
        owed = {name: int(cents) for name, cents in csv.reader(file)}
    with closing(sqlite3.connect(tmp_path / "bank.db")) as bank:
        taken = bank.execute("SELECT customer, cents, asked FROM charges").fetchall()
    assert sorted((name, cents) for name, cents, _ in taken) == sorted(owed.items())
    assert {name: asked for name, _, asked in taken} == dict.fromkeys(owed, 1) | {"eve": 2}
    assert {name for name, count in crashes.items() if count} == {"eve"}


def has_completed(queue: SyncQueue, jobs: int) -> bool:
    """Tell whether so many jobs have completed."""
    return queue.counts()["completed"] == jobs
