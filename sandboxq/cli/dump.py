"""``python -m sandboxq dump``: where running jobs are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sandboxq.broker.commands.jobs import state_of
from sandboxq.broker.commands.queues import queue_names
from sandboxq.broker.commands.workers import ask_for_stacks
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import QueueError
from sandboxq.model.job import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("target", metavar="[JOB|WORKER]", default="")
@click.option("--queue", help="Ask the workers of this queue alone.")
@url_option
@prefix_option
@json_option
def command(target: str, *, queue: str | None, url: str | None, prefix: str, as_json: bool) -> None:
    """Show the stack of a running job, or of all jobs of a worker; of all workers without a name.

    The jobs go on. Innermost frame first.
    """
    answers = process.run(_dump(target, queue, url=url, prefix=prefix))
    if as_json:
        echo_json([job for answer in answers for job in answer["jobs"]])
        return
    for answer in answers:
        _show(answer)


async def _dump(
    target: str, queue: str | None, *, url: str | None, prefix: str
) -> list[dict[str, Any]]:
    broker = await Broker.connect(url)
    try:
        names = [queue] if queue else await queue_names(broker, prefix=prefix)
        queues = [QueueKeys(name, prefix) for name in names]
        answers = await ask_for_stacks(broker, queues, target) if queues else []
        meant = [answer for answer in answers if answer["is_meant"]]
        if not meant:
            raise QueueError(await _why_nothing(broker, queues, target, answers))
        return sorted(meant, key=lambda answer: (answer["queue"], answer["worker"]))
    finally:
        await broker.close()


async def _why_nothing(
    broker: Broker, queues: Sequence[QueueKeys], target: str, answers: list[dict[str, Any]]
) -> str:
    where = f"queue {queues[0].queue!r}" if len(queues) == 1 else "any queue"
    for keys in queues if target else ():
        state = await state_of(broker, keys, target)
        if state is JobState.ACTIVE:
            return f"job {target} of queue {keys.queue!r} is active, but no worker here has it"
        if state is not JobState.UNKNOWN:
            return f"job {target} of queue {keys.queue!r} is {state.value}: nothing runs"
    if not answers:
        return f"no running worker of {where} answered; start one with 'run'"
    workers = ", ".join(sorted({answer["worker"] for answer in answers}))
    return f"there is no job and no running worker {target!r} in {where}; workers: {workers}"


def _show(answer: dict[str, Any]) -> None:
    head = f"{answer['worker']}: queue {answer['queue']}, pid {answer['pid']}, "
    echo(f"{head}{answer['busy']} of {answer['children']} children busy")
    for job in answer["jobs"]:
        child = f"child {job['pid']}, running {job['seconds']:.1f} s" if job["pid"] else "waiting"
        echo(f"\njob {job['job_id']}: {child}")
        if job["note"]:
            echo(f"  ({job['note']})")
        if job["stack"]:
            echo(job["stack"])
