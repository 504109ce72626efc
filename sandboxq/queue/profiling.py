"""Where the time of jobs goes: samples of one that runs, or of the next runs of a name."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from sandboxq.broker.commands import profiles
from sandboxq.broker.commands.jobs import state_of
from sandboxq.broker.commands.profiles import NextRuns
from sandboxq.broker.commands.workers import ProfileRequest, ask_for_profile, tell_of_profiles
from sandboxq.errors import JobNotFound, JobNotInState, ProfileNotTaken
from sandboxq.model.job import JobState
from sandboxq.model.profile import (
    LONGEST_PROFILE,
    LONGEST_REQUEST,
    MOST_HERTZ,
    MOST_RUNS,
    USUAL_HERTZ,
    Sampling,
    checked_clock,
)
from sandboxq.model.validation import checked_text, checked_whole, positive_seconds
from sandboxq.queue.base import QueueBase
from sandboxq.queue.blocking import blocking

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.model.profile import Clock, JobProfile

# Seconds: how often it is looked whether a profile is there, and how long after its time.
_LOOK_SECONDS = 0.1
_PATIENCE = 30.0


class QueueProfiling(QueueBase):
    """What is sampled of the jobs of a queue."""

    async def profile(
        self,
        job_id: str,
        *,
        seconds: float | timedelta = 10.0,
        hz: int = USUAL_HERTZ,
        clock: Clock = "wall",
    ) -> JobProfile:
        """Sample a running job from now on, for so many seconds or until it ends.

        Return the profile, which is kept with the job, too. ``hz`` samples are taken a second of
        ``clock``: ``wall`` shows what it waits for, ``cpu`` only what it computes.
        Raises: JobNotFound; JobNotInState when it does not run; ProfileNotTaken when its worker or
        its process cannot do it.
        """
        profile_id = await self.begin_profile(job_id, seconds=seconds, hz=hz, clock=clock)
        deadline = asyncio.get_running_loop().time() + positive_seconds("seconds", seconds)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for profile in await self.job_profiles(job_id):
                if profile.id == profile_id:
                    return profile
            if asyncio.get_running_loop().time() > deadline + _PATIENCE:
                message = f"the profile of job {job_id} did not come: its worker has ended"
                raise ProfileNotTaken(message)

    async def begin_profile(
        self,
        job_id: str,
        *,
        seconds: float | timedelta = 10.0,
        hz: int = USUAL_HERTZ,
        clock: Clock = "wall",
    ) -> str:
        """Begin what ``profile`` does, and return at once the id that the profile will have."""
        checked_text("job_id", job_id)
        sampling = _checked_sampling(hz, clock)
        time = positive_seconds("seconds", seconds, most=LONGEST_PROFILE)
        broker = await self._connected()
        request = ProfileRequest(job_id, uuid.uuid4().hex, sampling, max(0.1, time))
        answer = await ask_for_profile(broker, self._keys, request)
        if answer is None:
            raise await self._not_taken(job_id)
        if answer["error"]:
            message = f"job {job_id} of queue {self.name} cannot be sampled: {answer['error']}"
            raise ProfileNotTaken(message)
        return request.profile_id

    async def profile_next(
        self,
        name: str,
        *,
        runs: int = 1,
        within: float | timedelta = 3600.0,
        hz: int = USUAL_HERTZ,
        clock: Clock = "wall",
    ) -> int:
        """Have the next runs of jobs of this name sampled, whole, by whichever worker runs them.

        That holds for ``within`` seconds (a day at most), also for workers that start meanwhile; a
        second request of the same name takes the place of the first, 0 ``runs`` end it. Return how
        many workers know of it. Jobs shorter than the time between two samples show nothing.
        Raises: QueueError when this was asked for 20 names already.
        """
        checked_text("name", name)
        count = checked_whole("runs", runs, limit=MOST_RUNS)
        seconds = positive_seconds("within", within, most=LONGEST_REQUEST)
        sampling = _checked_sampling(hz, clock)
        broker = await self._connected()
        ends_ms = await broker.now_ms() + round(seconds * 1000)
        wanted = NextRuns(count, ends_ms, sampling)
        await profiles.want_next(broker, self._keys, name, wanted, seconds=seconds)
        return await tell_of_profiles(broker, self._keys)

    async def profiles_wanted(self) -> dict[str, int]:
        """Return how many runs are still to be sampled, by job name."""
        wanted = await profiles.next_wanted(await self._connected(), self._keys)
        return {name.decode(errors="replace"): it.runs for name, it in wanted.items()}

    async def job_profile(self, job_id: str) -> JobProfile | None:
        """Return the newest profile of a job, None when it has none. Raises: JobNotFound."""
        return next(iter(await self.job_profiles(job_id)), None)

    async def job_profiles(self, job_id: str) -> list[JobProfile]:
        """Return the last profiles of a job, the newest first. Raises: JobNotFound.

        Five at most, of the last hundred jobs that were sampled, for a week; removed with the job.
        """
        checked_text("job_id", job_id)
        return await profiles.read_profiles(await self._connected(), self._keys, job_id)

    async def _not_taken(self, job_id: str) -> Exception:
        """Return why no worker has answered."""
        state = await state_of(await self._connected(), self._keys, job_id)
        if state is JobState.UNKNOWN:
            return JobNotFound(f"job {job_id} does not exist in queue {self.name}")
        if state is not JobState.ACTIVE:
            message = f"job {job_id} of queue {self.name} is {state.value}: nothing runs"
            return JobNotInState(message)
        message = (
            f"job {job_id} of queue {self.name} is active, but no worker of sandboxq says that it "
            "has it: Node's run it, or its worker has died"
        )
        return ProfileNotTaken(message)


class SyncQueueProfiling:
    """The same for code without an event loop."""

    profile = blocking(QueueProfiling.profile)
    begin_profile = blocking(QueueProfiling.begin_profile)
    profile_next = blocking(QueueProfiling.profile_next)
    profiles_wanted = blocking(QueueProfiling.profiles_wanted)
    job_profile = blocking(QueueProfiling.job_profile)
    job_profiles = blocking(QueueProfiling.job_profiles)


def _checked_sampling(hz: int, clock: Clock) -> Sampling:
    return Sampling(checked_whole("hz", hz, least=1, limit=MOST_HERTZ), checked_clock(clock))
