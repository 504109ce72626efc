"""``run --webhook URL``: what somebody should look at is posted to a URL, as JSON.

    telemetry ─tell─► queue, bounded ─► thread: POST, tried three times ─► URL

The worker never waits for it. What finds no room, or cannot be posted, is logged as lost.
"""

from __future__ import annotations

import json
import logging
import queue
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sandboxq.errors import UsageError
from sandboxq.observe.log import row_from_event
from sandboxq.observe.telemetry import (
    AttemptFailed,
    CircuitOpened,
    Event,
    JobsStalled,
    LocksLost,
    WorkerFailed,
)
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("sandboxq.cli")

# What is posted: of failures those that are final.
KINDS: tuple[type[Event], ...] = (
    AttemptFailed, CircuitOpened, JobsStalled, LocksLost, WorkerFailed,
)  # fmt: skip
# Events that wait to be posted.
MOST_WAITING = 1000
# Events of one POST.
MOST_AT_ONCE = 100
# Of each text in it.
_MOST_CHARACTERS = 8000
_TIMEOUT = 5.0
_PAUSES = (0.5, 2.0)
# What is left at the end may take so long.
_LAST_SECONDS = 5.0


class Webhook:
    """Posts events in a thread of its own."""

    def __init__(self, url: str) -> None:
        """Check the URL; nothing is posted yet. Raises: UsageError."""
        self._url = url
        self._host = _host_of(url)  # all that is said of it: its path may be a secret
        self._seldom = Seldom()
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="sandboxq-webhook", daemon=True)
        self._thread.start()

    def teller(self, queue_name: str) -> Callable[[Event], None]:
        """Return what posts the events of a queue."""

        def tell(event: Event) -> None:
            if not isinstance(event, AttemptFailed) or event.is_final:
                self._put(_row(event, queue_name))

        return tell

    def close(self) -> None:
        """Post what is left, for a bounded time."""
        self._put(None)
        self._thread.join(_LAST_SECONDS)

    def _put(self, row: dict[str, Any] | None) -> None:
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self._seldom.warn("an event was not posted to the webhook", "too many wait")

    def _run(self) -> None:
        is_over = False
        while not is_over:
            rows = [self._waiting.get()]
            while len(rows) < MOST_AT_ONCE and not self._waiting.empty():
                rows.append(self._waiting.get())
            is_over = None in rows
            events = [row for row in rows if row is not None]
            if events:
                self._post(json.dumps({"events": events}, default=str).encode())

    def _post(self, body: bytes) -> None:
        from http.client import HTTPException  # noqa: PLC0415 - only where it is used
        from urllib.request import Request, urlopen  # noqa: PLC0415 - as above

        headers = {"Content-Type": "application/json", "User-Agent": "sandboxq"}
        request = Request(self._url, body, headers)  # noqa: S310 - checked to be http
        for pause in (*_PAUSES, None):
            try:
                with urlopen(request, timeout=_TIMEOUT):  # noqa: S310 - as above
                    return
            except (OSError, ValueError, HTTPException) as error:
                if pause is None:
                    what = f"{self._host} does not take it: {error}"
                    self._seldom.warn("events were not posted to the webhook", what)
                else:
                    time.sleep(pause)


def _host_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in {"http", "https"} and parts.port != 0 else None
    except ValueError:  # the port is none, or a bracket is missing
        host = None
    if not host or not url.isprintable() or " " in url:
        message = f"--webhook must be a URL of http or https, not {url!r}"
        raise UsageError(message)
    return host


def _row(event: Event, queue_name: str) -> dict[str, Any]:
    """Return an event as it is posted: the fields of its line in a log of JSON."""
    if isinstance(event, WorkerFailed):
        level, name, message, fields = "ERROR", "worker-failed", event.reason, dict[str, Any]()
    else:
        level, name, message, fields = row_from_event(event)
    row = {"event": name, "level": level.lower(), "message": message, "queue": queue_name, **fields}
    short = {
        key: value[:_MOST_CHARACTERS] if isinstance(value, str) else value
        for key, value in row.items()
    }
    return {"time": time.time(), "host": socket.gethostname(), **short}
