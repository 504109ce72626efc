"""Sampling: a job that runs, and the next runs of a job name."""

from __future__ import annotations

from typing import Literal

from sandboxq.errors import ProfileNotTaken
from sandboxq.model.profile import USUAL_HERTZ
from sandboxq.web.actions import Done, Visit, action

Clock = Literal["wall", "cpu"]


@action("/queues/{queue}/jobs/{job_id}/profile")
async def profile_job(
    visit: Visit,
    queue: str,
    job_id: str,
    *,
    seconds: float = 10.0,
    hz: int = USUAL_HERTZ,
    clock: Clock = "wall",
) -> Done:
    """Sample a running job from now on, for so many seconds or until it ends."""
    found = await visit.dashboard.queue(queue)
    try:
        await found.begin_profile(job_id, seconds=seconds, hz=hz, clock=clock)
    except ProfileNotTaken as error:
        return {"message": str(error), "count": 0}
    told = f"job {job_id} is sampled for {seconds:g} s: the profile is here then, or at its end"
    return {"message": told, "count": 1}


@action("/queues/{queue}/profile")
async def profile_next(
    visit: Visit,
    queue: str,
    *,
    name: str,
    runs: int = 3,
    within: float = 3600.0,
    hz: int = USUAL_HERTZ,
    clock: Clock = "wall",
) -> Done:
    """Sample the next runs of jobs of a name, whole; 0 runs: none any more."""
    found = await visit.dashboard.queue(queue)
    workers = await found.profile_next(name, runs=runs, within=within, hz=hz, clock=clock)
    if not runs:
        return {"message": f"no more runs of {name} are sampled", "count": 0}
    told = f"workers that know of it: {workers}; those that start later do it too"
    return {"message": f"the next {runs} runs of {name} are sampled; {told}", "count": runs}
