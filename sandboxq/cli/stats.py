"""``python -m sandboxq stats``: how many jobs are in which state."""

from __future__ import annotations

import click
import uvloop
from rich.console import Console
from rich.table import Table

from sandboxq.broker.connection import Broker
from sandboxq.cli.options import echo_json, json_option, prefix_option, url_option
from sandboxq.queue.queue import Queue, queue_names


@click.command()
@click.argument("queue", required=False)
@url_option
@prefix_option
@json_option
def command(queue: str | None, *, url: str | None, prefix: str, as_json: bool) -> None:
    """Show counts by state, of every queue or of QUEUE."""
    counts = uvloop.run(_counts(queue, url=url, prefix=prefix))
    if as_json:
        echo_json(counts)
    elif not counts:
        click.echo(f"no queues under the prefix {prefix!r}")
    else:
        Console().print(_table(counts))


async def _counts(queue: str | None, *, url: str | None, prefix: str) -> dict[str, dict[str, int]]:
    broker = await Broker.connect(url)
    try:
        names = [queue] if queue else await queue_names(broker, prefix)
        return {name: await Queue(name, broker=broker, prefix=prefix).counts() for name in names}
    finally:
        await broker.close()


def _table(counts: dict[str, dict[str, int]]) -> Table:
    states = list(next(iter(counts.values())))
    table = Table("queue", *states)
    for name, row in counts.items():
        table.add_row(name, *(str(row[state]) for state in states))
    return table
