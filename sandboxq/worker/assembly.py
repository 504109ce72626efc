"""The parts of a worker that runs jobs, connected but not yet started.

Redis ──claim──► Claimer ──call──► Pool ──► children
  ▲                                 │ outcome, progress, log
  ├──────settle, report────── Settler ◄
  └──────extend────── LockRenewer   (for as long as a job is held)
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import LockLost
from sandboxq.pool.placement import Ahead
from sandboxq.pool.pool import Pool
from sandboxq.pool.watch.recycler import Recycling
from sandboxq.worker.attempt import end_span
from sandboxq.worker.blob_transfer import BlobTransfer
from sandboxq.worker.claimer import Claimer
from sandboxq.worker.counters import UsageRecorder
from sandboxq.worker.job_adds import JobAdds, allowed_queues
from sandboxq.worker.listener import Answers, WorkerListener
from sandboxq.worker.locks import LockRenewer, StalledChecker
from sandboxq.worker.profiles import WorkerProfiles
from sandboxq.worker.settler import LARGE_ONES, Settler
from sandboxq.worker.shutdown import Shutdown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from sandboxq.config import WorkerSettings
    from sandboxq.pool.kinds import Kind
    from sandboxq.sandbox.policy import Policy
    from sandboxq.sandbox.support import Part
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import HeldJobs, WorkerContext
    from sandboxq.worker.messages import Messages


class ChildrenOptions(NamedTuple):
    """Which children a worker has: what they run, how many, under which policy, of which kind."""

    processor: str
    procs: int
    policy: Policy
    kind: Kind
    withholds_redis: bool  # from jobs in threads too: its URL was an argument
    part: Part | None  # of the machine, when several workers share it


# Without these a worker must stop: claimed jobs would never end, or run twice. The claimer, which
# the worker starts, is another such part.
VITAL = frozenset({"settler", LARGE_ONES, "lock renewer"})


class Assembly(NamedTuple):
    """The parts, each with its loop if it has one: see ``loops``."""

    pool: Pool
    settler: Settler
    answers: Answers
    adds: JobAdds
    blobs: BlobTransfer
    claimer: Claimer
    stopping: Shutdown
    lock_renewer: LockRenewer
    stalled_checker: StalledChecker
    usage_recorder: UsageRecorder
    messages: Messages
    profiles: WorkerProfiles

    def loops(self, settings: WorkerSettings) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return what is to run in the background from the start, by name."""
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            **self.settler.loops(),
            "answers": self.answers.run,
            "adds of jobs": self.adds.run,
            "blob transfer": self.blobs.run,
            "lock renewer": self.lock_renewer.run,
            "lost claims": self.claimer.claims.lost.run,
            "stalled checker": self.stalled_checker.run,
            "usage totals": self.usage_recorder.run,
        }
        if settings.skip_lock_renewal:
            del loops["lock renewer"]
        if settings.skip_stalled_check:
            del loops["stalled checker"]
        return loops


def assemble(
    context: WorkerContext,
    options: ChildrenOptions,
    *,
    room: asyncio.Event,
    secret: bytes | None,
) -> Assembly:
    """Make the parts of one worker.

    ``room`` is set whenever the pool may take another call. With a ``secret`` only jobs signed with
    it are run.
    """
    settler = Settler(context)
    answers = Answers(context)
    adds = JobAdds(context, allowed_queues(options.policy.name, options.policy.add_to))
    listener = WorkerListener(context, settler=settler, answers=answers, adds=adds, room=room)
    pool = _pool(context, options, listener)
    settler.is_rushed, listener.is_stocked = pool.is_rushed, pool.is_stocked
    on_lost = partial(_give_up_lost, pool, context.held)
    listener.blobs = blobs = BlobTransfer(context, settler, deliver=pool.submit)
    claimer = Claimer(
        context,
        pool=pool,
        blobs=blobs,
        settler=settler,
        room=room,
        on_lost=on_lost,
        secret=secret,
    )
    return Assembly(
        pool,
        settler,
        answers,
        adds,
        blobs,
        claimer,
        Shutdown(pool, settler, context.held, room=room),
        LockRenewer(context, on_lost=on_lost, in_transit=claimer.claims.in_transit),
        StalledChecker(context),
        UsageRecorder(context),
        listener.messages,
        WorkerProfiles(context, pool, claimer, blobs),
    )


def _pool(context: WorkerContext, options: ChildrenOptions, listener: WorkerListener) -> Pool:
    settings = context.settings
    return Pool(
        options.processor,
        size=options.procs,
        listener=listener,
        queue_name=context.keys.qualified_name,
        concurrency=settings.concurrency,
        policy=options.policy,
        telemetry=context.telemetry,
        recycling=Recycling(
            settings.max_jobs_per_child, settings.max_rss_per_child, settings.max_child_age
        ),
        # A value that Redis would not take is refused in the child, with an error that says so.
        max_result=min(settings.max_result, context.broker.value_limit),
        budgets=settings.budgets,
        max_block=settings.max_block,
        ahead=Ahead(settings.claim_ahead_jobs, settings.claim_ahead_ms / 1000),
        kind=options.kind,
        withholds_redis=options.withholds_redis,
        part=options.part,
    )


def _give_up_lost(pool: Pool, held: HeldJobs, attempt: Attempt) -> None:
    """End a run whose job belongs to somebody else."""
    is_running = held.lost(attempt)
    if attempt.span is not None:
        end_span(attempt)
    if is_running and attempt.call is not None:
        job_id = attempt.job.id.decode(errors="replace")
        message = f"renewal of the lock of job {job_id} was refused: another worker owns it now"
        pool.end_call(attempt.call, LockLost(message))
