"""The lines that a worker logs when it begins and when it has ended."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from sandboxq import __version__
from sandboxq.pool import kinds
from sandboxq.sandbox.environment import oversubscription

if TYPE_CHECKING:
    from sandboxq.config import WorkerSettings
    from sandboxq.worker.operating import Operating

PLURALS = {
    kinds.Kind.PROCESS: "processes",
    kinds.Kind.THREAD: "threads",
    kinds.Kind.INTERPRETER: "interpreters",
}


def program() -> str:
    """Return version, process and Python, in one line."""
    return f"sandboxq {__version__}, pid {os.getpid()}, Python {sys.version.split()[0]}"


def banner(worker: Operating) -> list[str]:
    """Return what runs, line by line."""
    settings, cores = worker.settings, worker.cores
    return [
        program(),
        f"queue      {worker.keys.queue} (prefix {worker.keys.prefix})",
        f"processor  {worker.processor}",
        f"children   {children_text(worker)}, policy {worker.policy.name}",
        *(f"kind       {note}" for note in worker.kind_notes),
        *worker.pool.notes,
        *on_time(settings),
        f"cores      {cores.number} ({cores.source})",
        *(
            f"cores      {note}"
            for note in oversubscription(worker.procs, cores.number, os.environ)
        ),
        f"broker     {worker.broker.endpoint.safe}",
        f"locks      {settings.lock_duration:g} s, renewed every {settings.heartbeat_interval:g} s",
    ]


def children_text(worker: Operating) -> str:
    """Return how many children of which kind a worker has, and what each runs at once."""
    kind = worker.kind.value if worker.procs == 1 else PLURALS[worker.kind]
    concurrency = worker.settings.concurrency
    jobs = "job" if concurrency == 1 else "jobs"
    return f"{worker.procs} {kind} x {concurrency} {jobs} at once"


def on_time(settings: WorkerSettings) -> list[str]:
    """Return what ends jobs and what replaces children, where that was asked for."""
    times = []
    if settings.timeout is not None:
        times.append(f"{settings.timeout:g} s a job, killed {settings.timeout_grace:g} s later")
    if settings.max_block is not None:
        times.append(f"{settings.max_block:g} s of a blocked loop")
    ages = []
    if settings.max_jobs_per_child:
        ages.append(f"after {settings.max_jobs_per_child} jobs")
    if settings.max_rss_per_child:
        ages.append(f"above {settings.max_rss_per_child >> 20} MB")
    if settings.max_child_age:
        ages.append(f"after {settings.max_child_age:g} s")
    lines = [("timeout", times), ("recycling", ages)]
    return [f"{label:<10} {', '.join(texts)}" for label, texts in lines if texts]


def summary(worker: Operating) -> list[str]:
    """Return how many jobs it has run, in one line."""
    counters = worker.counters
    cpu = counters.usage.cpu_user + counters.usage.cpu_system
    line = (
        f"{counters.completed} completed, {counters.failed} failed, {counters.retried} retried, "
        f"{counters.handed_back} handed back; {cpu:.1f} s of CPU, longest heartbeat gap "
        f"{counters.longest_gap:.2f} s"
    )
    return [line]
