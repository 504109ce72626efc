"""``python -m sandboxq stats``: how many jobs are in which state, and what jobs have used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sandboxq.broker.commands.workers import worker_counts
from sandboxq.broker.connect.broker import Broker
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_error, echo_json
from sandboxq.cli.on_queue import check_exists
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.cli.table import table
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.queue.queue import Queue, queue_names

_MB = 1 << 20


@click.command()
@click.argument("queue", required=False)
@click.option("--usage", is_flag=True, help="What jobs have used: CPU, time, memory.")
@url_option
@prefix_option
@json_option
def command(queue: str | None, *, usage: bool, url: str | None, prefix: str, as_json: bool) -> None:
    """Show counts by state, of every queue or of QUEUE."""
    rows = process.run(_rows(queue, usage=usage, url=url, prefix=prefix))
    if as_json:
        echo_json(rows)
    elif not rows:
        echo(f"no queues under the prefix {prefix!r}")
    else:
        shown = _readable if usage else _with_notes
        echo(_table({name: shown(row) for name, row in rows.items()}))


async def _rows(
    queue: str | None, *, usage: bool, url: str | None, prefix: str
) -> dict[str, dict[str, Any]]:
    """Return a row for the queue, or for each there is; one that is spoilt is told and left out."""
    rows: dict[str, dict[str, Any]] = {}
    broker = await Broker.connect(url)
    try:
        names = [queue] if queue else await queue_names(broker, prefix)
        queues = [Queue(name, broker=broker, prefix=prefix) for name in names]
        workers = {} if usage else await _workers(broker, queues)
        for one in queues:
            try:
                if queue:
                    await check_exists(one)
                rows[one.name] = await (_usage(one) if usage else _counts(one, workers))
            except BrokerUnavailable:
                raise
            except QueueError as error:
                if queue:
                    raise
                echo_error(f"sandboxq: queue {one.name!r} is left out: {error}")
    finally:
        await broker.close()
    return rows


async def _workers(broker: Broker, queues: list[Queue]) -> dict[str, int]:
    """Return how many workers each queue has; nothing where this user may not ask."""
    try:
        return await worker_counts(broker, [queue.keys for queue in queues])
    except BrokerUnavailable:
        raise
    except QueueError:
        return {}


async def _usage(queue: Queue) -> dict[str, Any]:
    return asdict(await queue.usage())


async def _counts(queue: Queue, workers: dict[str, int]) -> dict[str, Any]:
    counts = dict(await queue.counts())
    return {**counts, "paused": await queue.is_paused(), "workers": workers.get(queue.name)}


def _with_notes(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a person is to be told of a queue instead of two more numbers."""
    notes = ["paused"] if row["paused"] else []
    notes += ["no worker"] if row["workers"] == 0 else []
    counts = {name: row[name] for name in row if name not in {"paused", "workers"}}
    return {**counts, "": ", ".join(notes)}


def _readable(row: dict[str, Any]) -> dict[str, str]:
    """Return seconds and megabytes with their units."""
    seconds = {name: f"{row[name]:,.1f} s" for name in ("wall", "cpu_user", "cpu_system")}
    return {
        "attempts": str(row["attempts"]),
        "crashes": str(row["crashes"]),
        **seconds,
        "peak_rss": f"{row['peak_rss'] // _MB} MB",
    }


def _table(counts: dict[str, dict[str, Any]]) -> str:
    header = ["queue", *next(iter(counts.values()))]
    return table(header, [[name, *row.values()] for name, row in counts.items()], ("queue", ""))
