"""Charges each customer once a month, whatever crashes, and however often it is tried."""

from __future__ import annotations

import csv
import os
import signal
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import bank as the_bank

from sandboxq import Backoff, Deduplication, Repeat, current_job, task

ZONE = "Europe/Berlin"
# Three at night where the customers live, in summer and in winter.
NIGHTLY = Repeat(cron="0 3 * * *", tz=ZONE)
# Longer than a month, so that the last night of it adds nothing either.
KNOWN = timedelta(days=40)


@task(queue="billing", attempts=5, backoff=Backoff.exponential(1))
def nightly(customers: Path, bank: Path) -> str:
    """Have each customer of a table charged for this month; return the month."""
    month = f"{datetime.now(ZoneInfo(ZONE)):%Y-%m}"
    with customers.open() as file:
        for name, cents in csv.reader(file):
            # A second night, or a second attempt at this one, adds what is missing and no more.
            once = Deduplication(f"{month}-{name}", ttl=KNOWN)
            charge.using(deduplication=once).enqueue(bank, name, int(cents), month)
    return month


@task(queue="billing", attempts=5, backoff=Backoff.exponential(1), timeout=30)
def charge(bank: Path, customer: str, cents: int, month: str) -> int:
    """Charge a customer for a month; return the number of the charge."""
    # The key is the same in each attempt: the bank takes the money once.
    number = the_bank.charge(str(bank), f"{month}-{customer}", customer, cents)
    crash_if_wanted(customer)
    return number


def crash_if_wanted(customer: str) -> None:
    """Crash at the worst moment, once: the money is taken, and nobody knows."""
    job = current_job()
    if os.environ.get("BILLING_CRASH") == customer and job is not None and not job.attempts_made:
        os.kill(os.getpid(), signal.SIGKILL)
