"""Has the customers charged each night: `python schedule.py CUSTOMERS BANK`. Once is enough."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from bills import NIGHTLY, ZONE, nightly

from sandboxq import Queue

if __name__ == "__main__":
    customers, bank = (Path(each).absolute() for each in sys.argv[1:])
    with Queue.sync(nightly.queue) as queue:
        job = queue.upsert_scheduler(
            "nightly",
            NIGHTLY,
            name=nightly.name,
            data=nightly.data(customers, bank),
            options=nightly.options,
        )
    due = (job.timestamp_ms + job.delay_ms) / 1000
    print("next:", datetime.fromtimestamp(due, ZoneInfo(ZONE)))
