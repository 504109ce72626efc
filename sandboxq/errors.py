"""Every exception of sandboxq, one tree, split by who can act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

# Half as many milliseconds as Lua and JavaScript count exactly: added to the present they still do.
LONGEST_SECONDS = 2**52 / 1000


class SandboxqError(Exception):
    """Root of everything sandboxq raises."""


# ── the caller can act ──────────────────────────────────────────────────────


class UsageError(SandboxqError, ValueError):
    """An argument, option or setting is wrong; nothing was written."""


class PayloadTooLarge(UsageError):
    """A function and its arguments are larger than may travel through a queue."""


class ProcessorNotLoaded(UsageError):
    """The processor file is missing, cannot be imported, or defines no ``process``."""


class UnknownTask(UsageError):
    """A job names a task that the module of its worker does not have: only that job fails."""


class WorkersFailed(SandboxqError):
    """Some workers of a group have failed, while the others did their work to the end."""


# ── Redis, or what is stored there ──────────────────────────────────────────


class QueueError(SandboxqError):
    """Redis refused, or a job is not in the state that was asked for."""


class OutcomesLost(QueueError):
    """A worker ended before the outcomes of its jobs were written; they will be run again."""


class BrokerUnavailable(QueueError):
    """Redis cannot be reached, or refuses this client (password, database, version).

    ``moved`` is how many bytes of an exchange were sent or had come when the connection was lost.
    """

    moved = 0


class TooLarge(UsageError, QueueError):
    """Data, arrays or another value are more than this Redis takes in one; nothing was written."""


class AddInterrupted(BrokerUnavailable):
    """Redis went away in the middle of an add.

    ``results`` has the job, or the error, of each entry that Redis answered, from the first on;
    ``added`` has the ids of these jobs. Of the next ``unknown`` entries all, some or none were
    added; ``unknown_ids`` has their ids, where these are not given by Redis (flows, all or none of
    which was added). The rest was not sent.
    """

    def __init__(
        self,
        results: Sequence[object],
        *,
        unknown: int,
        total: int,
        why: object,
        unknown_ids: Sequence[str] = (),
    ) -> None:
        """Say what is known of how many."""
        self.results: list[Any] = list(results)
        self.unknown = unknown
        self.unknown_ids = list(unknown_ids)
        super().__init__(
            f"{len(self.results)} of {total} jobs were answered for (see `results` and `added`), "
            f"the next {unknown} may have been added, the rest was not sent: {why}"
        )

    @property
    def added(self) -> list[str]:
        """The ids of the jobs that were added."""
        return [getattr(job, "id", job) for job in self.results if not isinstance(job, Exception)]


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
    """Another worker holds the job's lock (script code -6)."""


class ParentCannotBeReplaced(QueueError):
    """A duplicate id already belongs to another parent (script code -7)."""


class JobBelongsToScheduler(QueueError):
    """The job is the next iteration of a scheduler and cannot be removed alone (script code -8)."""


class JobHasFailedChildren(QueueError):
    """The job cannot complete because a child of it failed (script code -9)."""


class SchedulerSlotTaken(QueueError):
    """Other jobs have the next times of a scheduler (script codes -10 and -11)."""


class JobLocked(QueueError):
    """The job is being processed and cannot be removed."""


class CancelNotHeard(QueueError):
    """The job is being run, but no worker answered that it has it."""


class ProfileNotTaken(QueueError):
    """The job is being run, but its worker, or its process, cannot sample it."""


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


class BinaryMissing(QueueError):
    """The arrays and bytes of a job or result are missing in Redis, or damaged."""


class JobFailed(QueueError):
    """A job failed; the errors of children are subclasses.

    ``reason`` is the job's failed reason, ``cause`` the name of the error's class (``ValueError``,
    ``JobTimeout``; empty where a worker of Node ran it), ``stacktrace`` the trace of each attempt,
    the oldest first; ``attempts_made`` counts them. Where the job is gone, ``stacktrace`` is empty.
    Without ``job_id`` it is not of a certain job.
    """

    cause: str = ""
    job_id: str = ""
    queue_name: str = ""
    stacktrace: tuple[str, ...] = ()
    attempts_made: int = 0

    @property
    def reason(self) -> str:
        """The failed reason alone."""
        return super().__str__()

    def described(self) -> str:
        """Return class and reason, and of which job and attempt they are."""
        what = f"{self.cause or type(self).__name__}: {self.reason}"
        return f"{what} ({self._where()})" if self.job_id else what

    def _where(self) -> str:
        attempt = f", attempt {self.attempts_made}" if self.attempts_made else ""
        return f"job {self.job_id} of queue {self.queue_name!r}{attempt}"

    def __str__(self) -> str:
        """Say what ``described`` says; a traceback has the name of this class before it."""
        if not self.job_id:
            return self.reason
        is_named = self.cause in {"", type(self).__name__}
        return f"{self.reason} ({self._where()})" if is_named else self.described()


class SignatureRefused(JobFailed):
    """A job for a worker of functions was not signed with the worker's secret."""


class RemoteError(JobFailed):
    """A function raised an exception that is not built in.

    ``type_name`` is its class, ``traceback`` the text that the child wrote.
    """

    def __init__(self, message: str, *, type_name: str = "", traceback: str = "") -> None:
        """Keep the facts."""
        self.type_name = type_name
        self.traceback = traceback
        super().__init__(f"{type_name}: {message}" if type_name else message)


class UnexpectedResult(QueueError):
    """A job of a task completed, and its value is not what the task's annotation says."""


class ResultTimeout(QueueError, TimeoutError):
    """The job did not finish within the time that its caller wanted to wait."""


# ── a child died or ran out of something ────────────────────────────────────


class ChildError(JobFailed):
    """An attempt ended by what happened to its child, not by what its processor raised.

    ``facts`` are stored with the job, in its ``sq:`` fields.
    """

    facts: Mapping[str, str] | None = None


class JobCrashed(ChildError):
    """A signal ended the child while it ran the job."""


class JobExited(ChildError):
    """The child left with an exit code while it ran the job."""


class JobTimeout(ChildError):
    """The job ran longer than it may."""


class JobBlockedLoop(JobTimeout):
    """The job blocked the event loop of its child, so that others could not be ended."""


class JobMemoryExceeded(ChildError):
    """The job used more memory than its policy grants."""


class JobCpuExceeded(ChildError):
    """The job used more CPU time than its policy grants."""


class JobProcessesExceeded(ChildError):
    """The job started more processes than its policy grants."""


class JobScratchExceeded(ChildError):
    """The job kept more temporary files than its policy grants."""


class JobCancelled(ChildError):
    """The job was cancelled."""


class LockLost(ChildError):
    """Renewal of the job's lock was refused, so this run was ended: another worker has the job."""


class ResultTooLarge(ChildError):
    """The value that the processor returned is larger than may be stored."""


class ChildStartFailed(SandboxqError):
    """A child ended before it was ready; no job was touched."""


# ── kernel or policy ────────────────────────────────────────────────────────


class SandboxError(SandboxqError):
    """The kernel or the policy prevents it."""


class MechanismMissing(SandboxError):
    """The machine lacks a mechanism that the policy needs; it is never silently skipped."""


class SandboxViolation(SandboxError, ChildError):
    """The job tried what its policy forbids, or its child broke the protocol with its worker."""


# ── raised by processors, to steer the worker ───────────────────────────────


class UnrecoverableError(SandboxqError):
    """Raised by a processor: fail the job now, whatever attempts remain."""


class InvalidArguments(UnrecoverableError, UsageError):
    """Arguments do not fit the function of a task; the text names the argument.

    Raised where a job is enqueued, and nothing is added; else it fails the job for good.
    """


class DelayedError(SandboxqError):
    """Raised by a processor: run the job again in ``seconds`` (or a timedelta); no attempt counts.

    Raises: UsageError unless that is a number from 0.
    """

    def __init__(self, seconds: float | timedelta) -> None:
        """Keep the duration in ``seconds``."""
        self.seconds = _plain_seconds(type(self).__name__, seconds)
        super().__init__(f"the job asks to run again in {self.seconds:g} s")


class WaitingError(SandboxqError):
    """Raised by a processor: put the job back in front of its queue; no attempt counts."""


class WaitingChildrenError(SandboxqError):
    """Raised by a processor: run the job again when its children are done; no attempt counts.

    When all of them are done already, it runs again at once; when one has failed, the job fails.
    """


class RateLimitError(SandboxqError):
    """Raised by a processor: no job of the queue is claimed for ``seconds`` (or a timedelta).

    The job goes back in front of its queue, and no attempt counts.
    Raises: UsageError unless that is a number from 0.
    """

    def __init__(self, seconds: float | timedelta) -> None:
        """Keep the duration in ``seconds``."""
        self.seconds = _plain_seconds(type(self).__name__, seconds)
        super().__init__(f"the job asks for no claim from its queue for {self.seconds:g} s")


def _plain_seconds(what: str, value: Any) -> float:
    seconds = value.total_seconds() if hasattr(value, "total_seconds") else value
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not (is_number and 0 <= seconds <= LONGEST_SECONDS):
        message = f"{what} takes seconds from 0, or a timedelta, not {value!r}"
        raise UsageError(message)
    return float(seconds)
