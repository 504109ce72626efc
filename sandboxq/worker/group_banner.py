"""What several workers in one process say when they begin and when they have ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sandboxq.sandbox.environment import oversubscription
from sandboxq.worker.banner import PLURALS, banner, on_time, program, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.worker.group import WorkerGroup
    from sandboxq.worker.worker import Worker


def banner_of_group(group: WorkerGroup) -> list[str]:
    """Return what runs, line by line: of a single worker its banner, of several a line for each."""
    workers = group.serving
    if len(group.workers) == 1:
        return banner(workers[0])
    first, procs = workers[0], sum(worker.procs for worker in workers)
    lines = [
        program(),
        *(line for worker in workers for line in _of_queue(worker)),
    ]
    cores = first.cores
    return [
        *dict.fromkeys(lines),  # what holds for several is said once
        *(f"queue      {queue}: not served, see above" for queue in group.failures),
        f"cores      {cores.number} ({cores.source}), shared by {procs} children",
        *(f"cores      {note}" for note in oversubscription(procs, cores.number, os.environ)),
        f"broker     {first.broker.endpoint.safe}",
    ]


def _of_queue(worker: Worker) -> Iterator[str]:
    settings, plural = worker.settings, PLURALS[worker.kind]
    memory = worker.pool.memory
    parts = [
        f"{worker.procs} {plural} x {settings.concurrency} job at once",
        f"policy {worker.policy.name}",
        *([f"{memory >> 20} MB a child"] if memory else []),
        *(line.partition(" ")[2].strip() for line in on_time(settings)),
    ]
    yield f"queue      {worker.keys.queue}: {worker.processor}, {', '.join(parts)}"
    yield from (f"kind       {note}" for note in worker.kind_notes)
    yield from (note for note in worker.pool.notes if not note.startswith("memory "))


def summary_of_group(group: WorkerGroup) -> list[str]:
    """Return what became of the jobs, in one line a queue."""
    if len(group.workers) == 1:
        return summary(group.workers[0])
    return [
        f"{each.keys.queue}: {line}"
        for each in group.workers
        if each in group.serving or each.counters.heartbeats
        for line in summary(each)
    ]
