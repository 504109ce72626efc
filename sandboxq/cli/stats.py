"""``python -m sandboxq stats``: how many jobs are in which state."""

from __future__ import annotations

import click
import uvloop

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
        click.echo(_table(counts))


async def _counts(queue: str | None, *, url: str | None, prefix: str) -> dict[str, dict[str, int]]:
    broker = await Broker.connect(url)
    try:
        names = [queue] if queue else await queue_names(broker, prefix)
        return {name: await Queue(name, broker=broker, prefix=prefix).counts() for name in names}
    finally:
        await broker.close()


def _table(counts: dict[str, dict[str, int]]) -> str:
    """Return rows of queues and columns of states, as wide as they are: for eyes and for `awk`."""
    rows = [["queue", *next(iter(counts.values()))]]
    rows += [[name, *map(str, row.values())] for name, row in counts.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join(lines)
