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
from sandboxq.model.validation import shown
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
        self._host = _checked_host(url)  # all that is said of it: its path may be a secret
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
        for pause in (*_PAUSES, None):
            try:
                _post_once(self._url, body)
            except Exception as error:  # noqa: BLE001 - whoever is there may answer anything
                if pause is None:
                    what = f"{self._host} does not take it: {shown(str(error))}"
                    self._seldom.warn("events were not posted to the webhook", what)
                else:
                    time.sleep(pause)
            else:
                return


def _checked_host(url: str) -> str:
    """Return the host of a URL that can be posted to. Raises: UsageError, without a password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as error:
        message = f"--webhook is no URL: {error}"
        raise UsageError(message) from None
    if parts.username is not None:
        message = "--webhook must have no user or password: a secret can only be in its path"
        raise UsageError(message)
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in {"http", "https"} or not host or port == 0 or not is_plain:
        message = f"--webhook must be a URL of http or https, as %XX what is not ASCII: {url!r}"
        raise UsageError(message)
    return host


def _post_once(url: str, body: bytes) -> None:
    """Post, and read nothing of the answer but its status. Raises: OSError, HTTPException."""
    from urllib.request import HTTPRedirectHandler, Request, build_opener  # noqa: PLC0415 - seldom

    class Stay(HTTPRedirectHandler):
        """What is moved answers an error: urllib would go there with GET, without the events."""

        def redirect_request(self, *_: Any) -> None:
            """Go nowhere."""

    headers = {"Content-Type": "application/json", "User-Agent": "sandboxq"}
    request = Request(url, body, headers)  # noqa: S310 - checked to be http
    build_opener(Stay).open(request, timeout=_TIMEOUT).close()


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
