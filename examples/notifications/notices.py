"""Notifications: an announcement becomes one push for each subscriber; alerts overtake them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.request import Request, urlopen

from sandboxq import current_job, task

GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:8002/")
SUBSCRIBERS = Path(os.environ.get("SUBSCRIBERS", "subscribers.txt")).absolute()
# The lowest number goes first; alerts have 1.
NEWS_PRIORITY = 10


@task(queue="notifications")
def announce(text: str) -> int:
    """Add a push for each subscriber; return how many there are."""
    job = current_job()
    assert job is not None  # noqa: S101 - it adds jobs, so it is one
    names = SUBSCRIBERS.read_text().split()
    # The id: when the announcement is tried again, nobody gets it twice.
    push.using(priority=NEWS_PRIORITY, attempts=5, backoff=1).enqueue_many(
        (push.data(name, text), {"job_id": f"{job.id}-{name}"}) for name in names
    )
    return len(names)


@task(queue="notifications", timeout=30)
def push(to: str, text: str) -> None:
    """Hand a notification to the gateway."""
    body = json.dumps({"to": to, "text": text}).encode()
    request = Request(GATEWAY, body, {"Content-Type": "application/json"})  # noqa: S310 - ours
    urlopen(request, timeout=10).close()  # noqa: S310 - the same
