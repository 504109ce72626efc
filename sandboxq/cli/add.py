"""``python -m sandboxq add``: put a job into a queue."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_error, echo_json
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import QueueError, UsageError
from sandboxq.model.backoff import Backoff
from sandboxq.model.validation import shown, waiting_seconds
from sandboxq.queue.queue import Queue

_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,18})?|\.[0-9]{1,18})"
_BACKOFF = re.compile(rf"(?:(fixed|exponential):)?{_NUMBER}(?::{_NUMBER})?")


def backoff_from_text(text: str | None) -> Backoff | None:
    """Return the back-off of ``SECONDS``, ``fixed:SECONDS`` or ``exponential:SECONDS[:JITTER]``.

    Raises:
        UsageError: the text is none of these.

    """
    if text is None:
        return None
    match = _BACKOFF.fullmatch(text)
    if match is None:
        message = (
            f"--backoff must look like 5, fixed:5 or exponential:1:0.5 (jitter), not {shown(text)}"
        )
        raise UsageError(message)
    kind, delay, jitter = match.groups()
    make = Backoff.exponential if kind == "exponential" else Backoff.fixed
    return make(float(delay), jitter=float(jitter or 0))


def data_from_text(text: str) -> Any:
    """Return the job data given as JSON: itself, ``@FILE``, or ``-`` for what comes on stdin.

    Raises:
        UsageError: the text is not JSON, or the file cannot be read.

    """
    try:
        return json.loads(_text_from(text))
    except OSError as error:
        message = f"the data cannot be read from {text.removeprefix('@')}: {error.strerror}"
        raise UsageError(message) from error
    except (ValueError, RecursionError) as error:
        message = f"the data must be JSON, such as '{{\"width\": 320}}': {error}"
        raise UsageError(message) from error


def _text_from(text: str) -> str | bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text


async def _say_what_is_missing(queue: Queue) -> None:
    """Say that no worker will run the job for now; nothing where this user may not ask."""
    with contextlib.suppress(QueueError):
        if await queue.is_paused():
            echo_error(f"sandboxq: queue {queue.name!r} is paused: waiting until it is resumed")
        if not await queue.get_workers():
            echo_error(f"sandboxq: no worker serves queue {queue.name!r}: waiting for one")


@click.command()
@click.argument("queue")
@click.argument("name")
@click.argument("data", default="{}")
@click.option("--delay", type=float, default=0.0, help="Seconds before it may run. Default: 0.")
@click.option("--priority", type=int, default=0, help="1 runs first, 0 before all. Default: 0.")
@click.option("--attempts", type=int, default=0, help="Number of attempts. Default: 1.")
@click.option(
    "--backoff",
    help="Time before the next attempt: SECONDS, fixed:SECONDS or exponential:SECONDS[:JITTER]. "
    "Default: none.",
)
@click.option("--timeout", type=float, help="Seconds of one attempt. Default: the worker's.")
@click.option("--job-id", help="An id of your own. A job with an id that exists is not added.")
@click.option("--lifo", is_flag=True, help="Run it before the jobs that wait.")
@click.option("--wait", is_flag=True, help="Wait until the job has ended and print its value.")
@click.option("--wait-timeout", type=float, help="Seconds to wait at most. Default: no limit.")
@url_option
@prefix_option
@json_option
def command(  # noqa: PLR0913 - one parameter for each option of the interface
    queue: str, name: str, data: str, *, backoff: str | None, wait: bool,
    wait_timeout: float | None, url: str | None, prefix: str, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Add a job NAME to QUEUE. DATA is JSON, @FILE with JSON, or - for stdin."""
    options["backoff"] = backoff_from_text(backoff)
    job_data = data_from_text(data)
    if wait_timeout is not None:
        waiting_seconds("--wait-timeout", wait_timeout)

    async def add() -> tuple[str, Any]:
        async with Queue(queue, url=url, prefix=prefix) as jobs:
            job = await jobs.add(name, job_data, **options)
            if not wait:
                return job.id, None
            await _say_what_is_missing(jobs)
            return job.id, await job.result(timeout=wait_timeout)

    job_id, value = process.run(add())
    if as_json:
        echo_json({"id": job_id, "value": value} if wait else {"id": job_id})
    elif wait:
        echo_json(value)
    else:
        echo(job_id)
