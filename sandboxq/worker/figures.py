"""What is so at this moment, as metrics: of a worker, of a queue in Redis, of the process."""

from __future__ import annotations

import platform
from collections import Counter
from time import process_time
from typing import TYPE_CHECKING

from sandboxq import __version__
from sandboxq.pool.children.circuit import CircuitState
from sandboxq.pool.options import ChildState

if TYPE_CHECKING:
    from sandboxq.broker.commands.load import QueueLoad
    from sandboxq.observe.exposition import Page
    from sandboxq.pool.children.child import Child
    from sandboxq.worker.watched import Watched

_CHILD_STATES = ("busy", "idle", "starting", "leaving")
_OF_WORKER = {
    "sandboxq_worker_utilization": "Part of the places of this worker that run a job, 0 to 1",
    "sandboxq_worker_paused": "1 while this worker is paused",
    "sandboxq_worker_stopping": "1 while this worker finishes what it runs and claims no more",
    "sandboxq_jobs_held": "Jobs whose locks this worker keeps",
    "sandboxq_circuit_open": "1 while nothing is claimed because jobs end children",
    "sandboxq_lock_renewal_gap_seconds": "The longest time from one renewal of all locks to the "
    "next, in the last minute or two",
    "sandboxq_lock_duration_seconds": "How long a lock lasts that is not renewed",
}


def add_worker(page: Page, watched: Watched) -> None:
    """Write what is so in a worker, if it runs."""
    worker, queue = watched.worker, watched.worker.keys.queue
    if not worker.is_running:
        return
    states = Counter(map(_state_of, worker.pool.supervisor.children))
    for state in _CHILD_STATES:
        text = "Children of this worker by state"
        page.gauge("sandboxq_children", text, states[state], queue=queue, state=state)
    at_once = worker.settings.concurrency
    running = sum(min(len(child.flying), at_once) for child in worker.pool.supervisor.ready)
    values = (
        min(1.0, running / watched.slots),
        worker.is_paused,
        worker.is_stopping,
        worker.running,
        worker.pool.circuit.state is not CircuitState.CLOSED,
        max(worker.parts.lock_renewer.seconds_since_beat, watched.measures.longest_gap),
        worker.settings.lock_duration,
    )
    for (name, text), value in zip(_OF_WORKER.items(), values, strict=True):
        page.gauge(name, text, value, queue=queue)
    if worker.pool.memory is not None:
        text = "Memory that a child may use, with all that it has started"
        page.gauge("sandboxq_child_memory_limit_bytes", text, worker.pool.memory, queue=queue)


def _state_of(child: Child) -> str:
    match child.state:
        case ChildState.STARTING:
            return "starting"
        case ChildState.READY:
            return "busy" if child.flying else "idle"
        case _:
            return "leaving"


def add_load(page: Page, queue: str, load: QueueLoad | None) -> None:
    """Write how many jobs a queue has in each state, by the names that Node's export has."""
    page.gauge("sandboxq_redis_up", "1 when Redis told of the queue", load is not None, queue=queue)
    if load is None:
        return
    for state, count in load.counts.items():
        text = "Number of jobs in the queue by state"
        page.gauge("bullmq_job_count", text, count, queue=queue, state=state)
    for kind, count in load.totals.items():
        text = f"Total number of {kind} jobs"
        page.counter(f"bullmq_job_{kind}", text, count, queue=queue)
    text = "Seconds that the oldest job waits that could be run"
    page.gauge("sandboxq_queue_oldest_waiting_seconds", text, load.oldest, queue=queue)


def add_process(page: Page) -> None:
    """Write what is of this process, whichever queues it has."""
    python = platform.python_version()
    page.gauge("sandboxq_info", "Versions", 1, version=__version__, python=python)
    page.counter("process_cpu_seconds", "CPU that this process alone has used", process_time())
