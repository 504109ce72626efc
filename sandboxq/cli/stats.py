"""``python -m sandboxq stats``: how many jobs are in which state, and what jobs have used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sandboxq.broker.connect.broker import Broker
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_error, echo_json
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.payload.printable import printable_line
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
        echo(_table({name: _readable(row) for name, row in rows.items()} if usage else rows))


async def _rows(
    queue: str | None, *, usage: bool, url: str | None, prefix: str
) -> dict[str, dict[str, Any]]:
    """Return a row for the queue, or for each there is; one that is spoilt is told and left out."""
    rows: dict[str, dict[str, Any]] = {}
    broker = await Broker.connect(url)
    try:
        for name in [queue] if queue else await queue_names(broker, prefix):
            one = Queue(name, broker=broker, prefix=prefix)
            try:
                rows[name] = asdict(await one.usage()) if usage else dict(await one.counts())
            except BrokerUnavailable:
                raise
            except QueueError as error:
                if queue:
                    raise
                echo_error(f"sandboxq: queue {name!r} is left out: {error}")
    finally:
        await broker.close()
    return rows


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
    """Return rows of queues and columns, as wide as they are: for eyes and for `awk`."""
    rows = [["queue", *next(iter(counts.values()))]]
    rows += [[printable_line(name), *map(str, row.values())] for name, row in counts.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join(lines)
