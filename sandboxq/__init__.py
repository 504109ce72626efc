"""sandboxq: the CPU-bound job executor for BullMQ queues, in Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandboxq.backoff import Backoff
    from sandboxq.broker.relations import Deduplication, Parent
    from sandboxq.errors import (
        BrokerUnavailable,
        BulkAddFailed,
        ChildError,
        JobCrashed,
        JobExited,
        JobFailed,
        LockLost,
        QueueError,
        ResultTimeout,
        SandboxError,
        SandboxqError,
        UnrecoverableError,
        UsageError,
    )
    from sandboxq.job import JobOptions, JobState, Keep
    from sandboxq.queue.queue import Queue
    from sandboxq.worker.worker import Worker

__version__ = "0.1.0"

# Loaded on first use: a child that imports one error must not pay for asyncio and Redis.
_HOMES = {
    "Backoff": "sandboxq.backoff",
    "BrokerUnavailable": "sandboxq.errors",
    "BulkAddFailed": "sandboxq.errors",
    "ChildError": "sandboxq.errors",
    "Deduplication": "sandboxq.broker.relations",
    "JobCrashed": "sandboxq.errors",
    "JobExited": "sandboxq.errors",
    "JobFailed": "sandboxq.errors",
    "JobOptions": "sandboxq.job",
    "JobState": "sandboxq.job",
    "Keep": "sandboxq.job",
    "LockLost": "sandboxq.errors",
    "Parent": "sandboxq.broker.relations",
    "ResultTimeout": "sandboxq.errors",
    "Queue": "sandboxq.queue.queue",
    "QueueError": "sandboxq.errors",
    "SandboxError": "sandboxq.errors",
    "SandboxqError": "sandboxq.errors",
    "UnrecoverableError": "sandboxq.errors",
    "UsageError": "sandboxq.errors",
    "Worker": "sandboxq.worker.worker",
}

__all__ = [
    "Backoff",
    "BrokerUnavailable",
    "BulkAddFailed",
    "ChildError",
    "Deduplication",
    "JobCrashed",
    "JobExited",
    "JobFailed",
    "JobOptions",
    "JobState",
    "Keep",
    "LockLost",
    "Parent",
    "Queue",
    "QueueError",
    "ResultTimeout",
    "SandboxError",
    "SandboxqError",
    "UnrecoverableError",
    "UsageError",
    "Worker",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first asked for."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'sandboxq' has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
