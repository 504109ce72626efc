"""``python -m sandboxq workers``: which workers there are, and what each does."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import click

from sandboxq.broker.commands.queues import queue_names
from sandboxq.broker.commands.workers import ask_for_facts, worker_counts
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.cli.table import table
from sandboxq.errors import BrokerUnavailable, QueueError

_HEADER = (
    "queue", "worker", "host", "pid", "version", "children", "busy", "load", "policy", "state",
    "since",
)  # fmt: skip
_LEFT = ("queue", "worker", "host", "version", "policy", "state")


class Workers(NamedTuple):
    """What workers answered, and how many of each queue are connected and do not answer."""

    answers: list[dict[str, Any]]
    silent: dict[str, int]


@click.command()
@click.argument("queue", required=False)
@url_option
@prefix_option
@json_option
def command(queue: str | None, *, url: str | None, prefix: str, as_json: bool) -> None:
    """List the running workers of every queue, or of QUEUE.

    Load is the number of jobs that a worker holds for each that it can run at once. Workers of
    Node.js are counted: they do not answer.
    """
    found = process.run(_found(queue, url=url, prefix=prefix))
    if as_json:
        echo_json({"workers": found.answers, "others": found.silent})
        return
    if found.answers:
        echo(table(_HEADER, [_cells(each) for each in found.answers], _LEFT))
    for name, number in found.silent.items():
        echo(f"queue {name!r}: {number} more connected, of Node.js or not answering")
    if not found.answers and not found.silent:
        where = f"queue {queue!r} has" if queue else f"the queues under the prefix {prefix!r} have"
        echo(f"{where} no running worker; start one with 'run'")


async def _found(queue: str | None, *, url: str | None, prefix: str) -> Workers:
    broker = await Broker.connect(url)
    try:
        names = [queue] if queue else await queue_names(broker, prefix=prefix)
        queues = [QueueKeys(name, prefix) for name in names]
        answers = await ask_for_facts(broker, queues) if queues else []
        answers.sort(key=lambda row: (str(row["queue"]), str(row["host"]), str(row["pid"])))
        return Workers(answers, await _silent(broker, queues, answers))
    finally:
        await broker.close()


async def _silent(
    broker: Broker, queues: list[QueueKeys], answers: list[dict[str, Any]]
) -> dict[str, int]:
    """Return how many more workers of each queue are connected, as far as this user may ask."""
    try:
        connected = await worker_counts(broker, queues) if queues else {}
    except BrokerUnavailable:
        raise
    except QueueError:
        return {}
    heard = [row["queue"] for row in answers]
    more = {name: number - heard.count(name) for name, number in connected.items()}
    return {name: number for name, number in more.items() if number > 0}


def _cells(row: dict[str, Any]) -> list[object]:
    return [
        row["queue"],
        row["worker"],
        row["host"],
        row["pid"],
        row.get("version", "?"),
        row["procs"],
        row["busy"],
        row.get("load", "?"),
        row.get("policy", "?"),
        state_of(row),
        _moment(row.get("since")),
    ]


def state_of(row: dict[str, Any]) -> str:
    """Return in a word or two what a worker does."""
    circuit = row.get("circuit", "closed")
    return str(row.get("state", "?")) if circuit == "closed" else f"circuit {circuit}"


def _moment(since: object) -> str:
    """Return a time of the worker's clock as one of here."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(since)))  # type: ignore[arg-type]  # or it is none
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"
