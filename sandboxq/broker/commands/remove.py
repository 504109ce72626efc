"""Removes one job, or a whole queue (protocol.md 3.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.commands.usage import forget_usage
from sandboxq.broker.connect.script import load
from sandboxq.errors import (
    JobBelongsToScheduler,
    JobLocked,
    QueueError,
    QueueHasActiveJobs,
    QueueNotPaused,
)

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# So many removals take Redis a few milliseconds, in which it answers nobody else.
_JOBS_PER_CALL = 250


async def remove(
    broker: Broker, keys: QueueKeys, job_id: str, *, with_children: bool = True
) -> bool:
    """Remove a job wherever it is; False means that there is none.

    Raises: JobLocked, JobBelongsToScheduler; nothing was removed then.
    """
    code = await broker.script(load("remove"), [keys.base], [job_id, int(with_children)])
    match code:
        case 1:
            return True
        case -1:
            return False
        case 0:
            message = f"Job {job_id} could not be removed because it is locked by another worker"
            raise JobLocked(message)
        case -8:
            message = f"Job {job_id} belongs to a job scheduler and cannot be removed directly"
            raise JobBelongsToScheduler(message)
        case _:
            message = f"Job {job_id} was not removed: script code {code}"
            raise QueueError(message)


async def obliterate(broker: Broker, keys: QueueKeys, *, force: bool) -> None:
    """Remove a paused queue; ``force`` removes active jobs too. Jobs in waiting-children stay.

    Raises: QueueNotPaused, QueueHasActiveJobs.
    """
    script = load("obliterate")
    while code := await broker.script(script, [keys.base], [_JOBS_PER_CALL, int(force)]):
        if code == -1:
            message = f"Cannot obliterate non-paused queue {keys.queue}"
            raise QueueNotPaused(message)
        if code == -2:  # noqa: PLR2004 - a script code
            message = f"Cannot obliterate queue {keys.queue} with active jobs"
            raise QueueHasActiveJobs(message)
    await forget_usage(broker, keys)
