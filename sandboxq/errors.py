"""Every exception of sandboxq, one tree, split by who can act."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class SandboxqError(Exception):
    """Root of everything sandboxq raises."""


# ── the caller can act ──────────────────────────────────────────────────────


class UsageError(SandboxqError, ValueError):
    """An argument, option or setting is wrong; nothing was written."""


class ProcessorNotLoaded(UsageError):
    """The processor file is missing, cannot be imported, or defines no ``process``."""


# ── Redis, or what is stored there ──────────────────────────────────────────


class QueueError(SandboxqError):
    """Redis refused, or a job is not in the state that was asked for."""


class BrokerUnavailable(QueueError):
    """Redis cannot be reached, or refuses this client (password, database, version)."""


class JobNotFound(QueueError):
    """No hash exists for this job id (script code -1)."""


class LockMissing(QueueError):
    """The job has no lock: it finished, stalled or was removed meanwhile (script code -2)."""


class JobNotInState(QueueError):
    """The job is not in the state that this transition starts from (script code -3)."""


class JobPendingChildren(QueueError):
    """The job still waits for children (script code -4)."""


class ParentNotFound(QueueError):
    """The parent job named by an add does not exist (script code -5)."""


class LockMismatch(QueueError):
    """Somebody else holds the job's lock (script code -6)."""


class ParentCannotBeReplaced(QueueError):
    """A duplicate id already belongs to another parent (script code -7)."""


class JobBelongsToScheduler(QueueError):
    """The job is the next iteration of a scheduler and cannot be removed alone (script code -8)."""


class JobHasFailedChildren(QueueError):
    """The job cannot complete because a child of it failed (script code -9)."""


class JobLocked(QueueError):
    """The job is being processed and cannot be removed."""


class QueueNotPaused(QueueError):
    """Obliterate asks for a paused queue."""


class QueueHasActiveJobs(QueueError):
    """Obliterate without force asks for a queue with no active jobs."""


class OptionsUnreadable(QueueError):
    """A job's ``opts`` are not a JSON object, so nothing is known of how to run it."""


class BulkAddFailed(QueueError):
    """Some jobs of an ``add_bulk`` were not added; ``results`` has the job or the error of each."""

    def __init__(self, results: Sequence[object]) -> None:
        """Say how many were not added, and why the first was not."""
        self.results = list(results)
        failed = [result for result in results if isinstance(result, QueueError)]
        super().__init__(f"{len(failed)} of {len(results)} jobs were not added; first: {failed[0]}")


class JobFailed(QueueError):
    """A job ended in ``failed``; its text is the job's failed reason."""


class ResultTimeout(QueueError, TimeoutError):
    """The job did not finish within the time that its caller wanted to wait."""


# ── a child died or ran out of something ────────────────────────────────────


class ChildError(SandboxqError):
    """An attempt ended by what happened to its child, not by what its processor raised."""


class JobCrashed(ChildError):
    """A signal ended the child while it ran the job."""


class JobExited(ChildError):
    """The child left with an exit code while it ran the job."""


class JobTimeout(ChildError):
    """The job ran longer than it may."""


class JobMemoryExceeded(ChildError):
    """The job used more memory than its policy grants."""


class JobCpuExceeded(ChildError):
    """The job used more CPU time than its policy grants."""


class JobCancelled(ChildError):
    """Somebody asked for the job's end."""


class LockLost(ChildError):
    """Renewal of the job's lock was refused, so this run was ended: somebody else owns the job."""


class ResultTooLarge(ChildError):
    """The value that the processor returned is larger than may be stored."""


class ChildStartFailed(ChildError):
    """A child ended before it was ready; no job was touched."""


# ── kernel or policy ────────────────────────────────────────────────────────


class SandboxError(SandboxqError):
    """The kernel or the policy is in the way."""


class MechanismMissing(SandboxError):
    """The machine lacks a mechanism that the policy needs; it is never silently skipped."""


class SandboxViolation(SandboxError):
    """The job tried what its policy forbids."""


# ── raised by processors, to steer the worker ───────────────────────────────


class UnrecoverableError(SandboxqError):
    """Raised by a processor: fail the job now, whatever attempts remain."""
