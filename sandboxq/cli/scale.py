"""``python -m sandboxq scale``: change the number of children of running workers."""

from __future__ import annotations

from typing import Any

import click

from sandboxq.broker.commands.control import ask_to_scale
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import QueueError


@click.command()
@click.argument("queue")
@click.argument("procs", type=click.IntRange(1, 1024))
@url_option
@prefix_option
@json_option
def command(queue: str, procs: int, *, url: str | None, prefix: str, as_json: bool) -> None:
    """Have PROCS children in each running worker of QUEUE."""
    answers = process.run(_scale(QueueKeys(queue, prefix), procs, url=url))
    if not answers:
        message = f"no running worker of queue {queue!r} answered; start one with 'run'"
        raise QueueError(message)
    if as_json:
        echo_json(answers)
        return
    for answer in answers:
        echo(f"{answer['worker']}: {answer['procs']} children")


async def _scale(keys: QueueKeys, procs: int, *, url: str | None) -> list[dict[str, Any]]:
    broker = await Broker.connect(url)
    try:
        return await ask_to_scale(broker, keys, procs)
    finally:
        await broker.close()
