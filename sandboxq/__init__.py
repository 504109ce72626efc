"""sandboxq: the CPU-bound job executor for BullMQ queues, in Python."""

from __future__ import annotations

from importlib import import_module

# Not from typing: `python -m sandboxq` comes here before it has put the current folder last.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from sandboxq.broker.commands.add import Deduplication, Parent
    from sandboxq.broker.commands.schedulers import Scheduler
    from sandboxq.broker.commands.settings import Metrics, QueueMeta
    from sandboxq.child.job import Job
    from sandboxq.child.values import AddedJob, JobQueue
    from sandboxq.config import RateLimit
    from sandboxq.errors import (
        AddInterrupted,
        BinaryMissing,
        BrokerUnavailable,
        BulkAddFailed,
        CancelNotHeard,
        ChildError,
        ChildStartFailed,
        DelayedError,
        JobBelongsToScheduler,
        JobBlockedLoop,
        JobCancelled,
        JobCpuExceeded,
        JobCrashed,
        JobExited,
        JobFailed,
        JobHasFailedChildren,
        JobLocked,
        JobMemoryExceeded,
        JobNotFound,
        JobNotInState,
        JobPendingChildren,
        JobProcessesExceeded,
        JobScratchExceeded,
        JobTimeout,
        LockLost,
        LockMismatch,
        LockMissing,
        MechanismMissing,
        OptionsUnreadable,
        OutcomesLost,
        ParentCannotBeReplaced,
        ParentNotFound,
        PayloadTooLarge,
        ProcessorNotLoaded,
        QueueError,
        QueueHasActiveJobs,
        QueueNotPaused,
        RateLimitError,
        RemoteError,
        ResultTimeout,
        ResultTooLarge,
        SandboxError,
        SandboxqError,
        SandboxViolation,
        SchedulerSlotTaken,
        SignatureRefused,
        TooLarge,
        UnrecoverableError,
        UsageError,
        WaitingChildrenError,
        WaitingError,
    )
    from sandboxq.executor.executor import SandboxExecutor
    from sandboxq.model.backoff import Backoff
    from sandboxq.model.dependencies import Dependencies
    from sandboxq.model.job import (
        JobOptions,
        JobState,
        Keep,
        StoredJob,
    )
    from sandboxq.observe.metering import Metering
    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.dependencies import ChildList
    from sandboxq.queue.events import QueueEvent, QueueEvents
    from sandboxq.queue.flow import Flow, FlowProducer
    from sandboxq.queue.flow_plan import FlowNode
    from sandboxq.queue.job import QueuedJob
    from sandboxq.queue.options import AddOptions
    from sandboxq.queue.queue import Queue
    from sandboxq.queue.schedulers import Repeat, TemplateOptions
    from sandboxq.queue.sync import SyncQueue
    from sandboxq.queue.sync_events import SyncQueueEvents
    from sandboxq.queue.sync_flow import SyncFlowProducer
    from sandboxq.queue.sync_job import SyncJob
    from sandboxq.sandbox.policy import Policy
    from sandboxq.worker.manual_job import HeldJob
    from sandboxq.worker.worker import Worker

__version__ = "0.1.0"

# Loaded on first use: a child that imports one error must not pay for asyncio and Redis.
_HOMES = {
    "AddOptions": "sandboxq.queue.options",
    "Backoff": "sandboxq.model.backoff",
    "BinaryMissing": "sandboxq.errors",
    "BrokerUnavailable": "sandboxq.errors",
    "AddInterrupted": "sandboxq.errors",
    "AddedJob": "sandboxq.child.values",
    "BulkAddFailed": "sandboxq.errors",
    "CancelNotHeard": "sandboxq.errors",
    "ChildError": "sandboxq.errors",
    "ChildList": "sandboxq.queue.dependencies",
    "ChildStartFailed": "sandboxq.errors",
    "Deduplication": "sandboxq.broker.commands.add",
    "DelayedError": "sandboxq.errors",
    "Dependencies": "sandboxq.model.dependencies",
    "Flow": "sandboxq.queue.flow",
    "FlowNode": "sandboxq.queue.flow_plan",
    "FlowProducer": "sandboxq.queue.flow",
    "HeldJob": "sandboxq.worker.manual_job",
    "Job": "sandboxq.child.job",
    "JobBelongsToScheduler": "sandboxq.errors",
    "JobCancelled": "sandboxq.errors",
    "JobCpuExceeded": "sandboxq.errors",
    "JobCrashed": "sandboxq.errors",
    "JobExited": "sandboxq.errors",
    "JobFailed": "sandboxq.errors",
    "JobHasFailedChildren": "sandboxq.errors",
    "JobLocked": "sandboxq.errors",
    "JobMemoryExceeded": "sandboxq.errors",
    "JobProcessesExceeded": "sandboxq.errors",
    "JobScratchExceeded": "sandboxq.errors",
    "JobNotFound": "sandboxq.errors",
    "JobNotInState": "sandboxq.errors",
    "JobOptions": "sandboxq.model.job",
    "JobPendingChildren": "sandboxq.errors",
    "JobQueue": "sandboxq.child.values",
    "JobState": "sandboxq.model.job",
    "JobBlockedLoop": "sandboxq.errors",
    "JobTimeout": "sandboxq.errors",
    "Keep": "sandboxq.model.job",
    "LockLost": "sandboxq.errors",
    "LockMismatch": "sandboxq.errors",
    "LockMissing": "sandboxq.errors",
    "MechanismMissing": "sandboxq.errors",
    "Metering": "sandboxq.observe.metering",
    "Metrics": "sandboxq.broker.commands.settings",
    "OptionsUnreadable": "sandboxq.errors",
    "OutcomesLost": "sandboxq.errors",
    "Parent": "sandboxq.broker.commands.add",
    "ParentCannotBeReplaced": "sandboxq.errors",
    "ParentNotFound": "sandboxq.errors",
    "PayloadTooLarge": "sandboxq.errors",
    "Policy": "sandboxq.sandbox.policy",
    "ProcessorNotLoaded": "sandboxq.errors",
    "Queue": "sandboxq.queue.queue",
    "QueueError": "sandboxq.errors",
    "QueueEvent": "sandboxq.queue.events",
    "QueueEvents": "sandboxq.queue.events",
    "QueueHasActiveJobs": "sandboxq.errors",
    "QueueMeta": "sandboxq.broker.commands.settings",
    "QueueNotPaused": "sandboxq.errors",
    "QueuedJob": "sandboxq.queue.job",
    "RateLimit": "sandboxq.config",
    "RateLimitError": "sandboxq.errors",
    "RemoteError": "sandboxq.errors",
    "Repeat": "sandboxq.queue.schedulers",
    "ResultTimeout": "sandboxq.errors",
    "ResultTooLarge": "sandboxq.errors",
    "SandboxError": "sandboxq.errors",
    "SandboxExecutor": "sandboxq.executor.executor",
    "SandboxViolation": "sandboxq.errors",
    "SandboxqError": "sandboxq.errors",
    "Scheduler": "sandboxq.broker.commands.schedulers",
    "SchedulerSlotTaken": "sandboxq.errors",
    "SignatureRefused": "sandboxq.errors",
    "StoredJob": "sandboxq.model.job",
    "SyncFlowProducer": "sandboxq.queue.sync_flow",
    "SyncJob": "sandboxq.queue.sync_job",
    "SyncQueue": "sandboxq.queue.sync",
    "SyncQueueEvents": "sandboxq.queue.sync_events",
    "TemplateOptions": "sandboxq.queue.schedulers",
    "TooLarge": "sandboxq.errors",
    "Tracing": "sandboxq.observe.tracing",
    "UnrecoverableError": "sandboxq.errors",
    "UsageError": "sandboxq.errors",
    "WaitingChildrenError": "sandboxq.errors",
    "WaitingError": "sandboxq.errors",
    "Worker": "sandboxq.worker.worker",
}

__all__ = [
    "AddInterrupted",
    "AddOptions",
    "AddedJob",
    "Backoff",
    "BinaryMissing",
    "BrokerUnavailable",
    "BulkAddFailed",
    "CancelNotHeard",
    "ChildError",
    "ChildList",
    "ChildStartFailed",
    "Deduplication",
    "DelayedError",
    "Dependencies",
    "Flow",
    "FlowNode",
    "FlowProducer",
    "HeldJob",
    "Job",
    "JobBelongsToScheduler",
    "JobBlockedLoop",
    "JobCancelled",
    "JobCpuExceeded",
    "JobCrashed",
    "JobExited",
    "JobFailed",
    "JobHasFailedChildren",
    "JobLocked",
    "JobMemoryExceeded",
    "JobNotFound",
    "JobNotInState",
    "JobOptions",
    "JobPendingChildren",
    "JobProcessesExceeded",
    "JobQueue",
    "JobScratchExceeded",
    "JobState",
    "JobTimeout",
    "Keep",
    "LockLost",
    "LockMismatch",
    "LockMissing",
    "MechanismMissing",
    "Metering",
    "Metrics",
    "OptionsUnreadable",
    "OutcomesLost",
    "Parent",
    "ParentCannotBeReplaced",
    "ParentNotFound",
    "PayloadTooLarge",
    "Policy",
    "ProcessorNotLoaded",
    "Queue",
    "QueueError",
    "QueueEvent",
    "QueueEvents",
    "QueueHasActiveJobs",
    "QueueMeta",
    "QueueNotPaused",
    "QueuedJob",
    "RateLimit",
    "RateLimitError",
    "RemoteError",
    "Repeat",
    "ResultTimeout",
    "ResultTooLarge",
    "SandboxError",
    "SandboxExecutor",
    "SandboxViolation",
    "SandboxqError",
    "Scheduler",
    "SchedulerSlotTaken",
    "SignatureRefused",
    "StoredJob",
    "SyncFlowProducer",
    "SyncJob",
    "SyncQueue",
    "SyncQueueEvents",
    "TemplateOptions",
    "TooLarge",
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
