"""sandboxq: the CPU-bound job executor for BullMQ queues, in Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandboxq.backoff import Backoff
    from sandboxq.broker.relations import Deduplication, Parent
    from sandboxq.broker.schedulers import Scheduler
    from sandboxq.config import RateLimit
    from sandboxq.errors import (
        BinaryMissing,
        BrokerUnavailable,
        BulkAddFailed,
        CancelNotHeard,
        ChildError,
        DelayedError,
        JobCancelled,
        JobCrashed,
        JobExited,
        JobFailed,
        JobTimeout,
        LockLost,
        MechanismMissing,
        PayloadTooLarge,
        QueueError,
        RateLimitError,
        RemoteError,
        ResultTimeout,
        SandboxError,
        SandboxqError,
        SignatureRefused,
        UnrecoverableError,
        UsageError,
        WaitingChildrenError,
        WaitingError,
    )
    from sandboxq.executor import SandboxExecutor
    from sandboxq.job import JobOptions, JobState, Keep
    from sandboxq.queue.events import QueueEvent, QueueEvents
    from sandboxq.queue.flow import Flow, FlowProducer
    from sandboxq.queue.queue import Queue
    from sandboxq.queue.repeat import Repeat
    from sandboxq.sandbox.policy import Policy
    from sandboxq.tracing import Tracing
    from sandboxq.worker.worker import Worker

__version__ = "0.1.0"

# Loaded on first use: a child that imports one error must not pay for asyncio and Redis.
_HOMES = {
    "SandboxExecutor": "sandboxq.executor",
    "SignatureRefused": "sandboxq.errors",
    "RemoteError": "sandboxq.errors",
    "PayloadTooLarge": "sandboxq.errors",
    "Backoff": "sandboxq.backoff",
    "BinaryMissing": "sandboxq.errors",
    "BrokerUnavailable": "sandboxq.errors",
    "BulkAddFailed": "sandboxq.errors",
    "CancelNotHeard": "sandboxq.errors",
    "ChildError": "sandboxq.errors",
    "Deduplication": "sandboxq.broker.relations",
    "DelayedError": "sandboxq.errors",
    "Flow": "sandboxq.queue.flow",
    "FlowProducer": "sandboxq.queue.flow",
    "JobCancelled": "sandboxq.errors",
    "JobTimeout": "sandboxq.errors",
    "JobCrashed": "sandboxq.errors",
    "JobExited": "sandboxq.errors",
    "JobFailed": "sandboxq.errors",
    "JobOptions": "sandboxq.job",
    "JobState": "sandboxq.job",
    "Keep": "sandboxq.job",
    "LockLost": "sandboxq.errors",
    "MechanismMissing": "sandboxq.errors",
    "Parent": "sandboxq.broker.relations",
    "Policy": "sandboxq.sandbox.policy",
    "ResultTimeout": "sandboxq.errors",
    "Queue": "sandboxq.queue.queue",
    "QueueError": "sandboxq.errors",
    "QueueEvent": "sandboxq.queue.events",
    "QueueEvents": "sandboxq.queue.events",
    "RateLimit": "sandboxq.config",
    "RateLimitError": "sandboxq.errors",
    "Repeat": "sandboxq.queue.repeat",
    "SandboxError": "sandboxq.errors",
    "SandboxqError": "sandboxq.errors",
    "Scheduler": "sandboxq.broker.schedulers",
    "Tracing": "sandboxq.tracing",
    "UnrecoverableError": "sandboxq.errors",
    "UsageError": "sandboxq.errors",
    "WaitingChildrenError": "sandboxq.errors",
    "WaitingError": "sandboxq.errors",
    "Worker": "sandboxq.worker.worker",
}

__all__ = [
    "Backoff",
    "BinaryMissing",
    "BrokerUnavailable",
    "BulkAddFailed",
    "CancelNotHeard",
    "ChildError",
    "Deduplication",
    "DelayedError",
    "Flow",
    "FlowProducer",
    "JobCancelled",
    "JobCrashed",
    "JobExited",
    "JobFailed",
    "JobOptions",
    "JobState",
    "JobTimeout",
    "Keep",
    "LockLost",
    "MechanismMissing",
    "Parent",
    "PayloadTooLarge",
    "Policy",
    "Queue",
    "QueueError",
    "QueueEvent",
    "QueueEvents",
    "RateLimit",
    "RateLimitError",
    "RemoteError",
    "Repeat",
    "ResultTimeout",
    "SandboxError",
    "SandboxExecutor",
    "SandboxqError",
    "Scheduler",
    "SignatureRefused",
    "Tracing",
    "UnrecoverableError",
    "UsageError",
    "WaitingChildrenError",
    "WaitingError",
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
