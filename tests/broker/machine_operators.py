"""What operators do to jobs, in the machine and in the model (protocol.md 3.20, 3.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from sandboxq.broker.commands import bulk, change_job
from sandboxq.errors import JobLocked, JobNotFound, JobNotInState
from sandboxq.model.job import JobState
from tests.broker.machine import QueueMachine, ids
from tests.broker.model import PRIORITY_SHIFT

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from tests.broker.model import ModelJob, QueueModel

# The lists or sets of each state that can be cleaned.
PLACES = {
    JobState.WAITING: ("wait", "paused"),
    JobState.ACTIVE: ("active",),
    JobState.PRIORITIZED: ("prioritized",),
    JobState.DELAYED: ("delayed",),
    JobState.COMPLETED: ("completed",),
    JobState.FAILED: ("failed",),
}


class OperatedQueueMachine(QueueMachine):
    """QueueMachine with everything that operators do."""

    @rule(number=ids)
    def remove(self, number: int) -> None:
        """Remove a job, unless it is locked."""
        job_id = self.pick(number)
        try:
            removed = self.run(change_job.remove(self.broker, self.keys, job_id))
        except JobLocked:
            assert job_id in self.model.locks
        else:
            assert removed == self.model.remove(job_id)
            assert not (removed and job_id in self.model.locks)

    @precondition(lambda self: self.model.is_paused and len(self.model.jobs) > 3)
    @rule()
    def obliterate(self) -> None:
        """Remove everything."""
        self.run(change_job.obliterate(self.broker, self.keys, force=True))
        self.model.obliterate()
        self.last_event = "0"

    @rule(number=ids)
    def promote(self, number: int) -> None:
        """Let a delayed job wait from now on."""
        job_id = self.pick(number)
        if self._may_change(change_job.promote(self.broker, self.keys, job_id), job_id, "delayed"):
            promote_in_model(self.model, job_id)

    @rule(number=ids, delay=st.sampled_from([0, 1, 20, 5000]))
    def change_delay(self, number: int, delay: int) -> None:
        """Let a delayed job wait for another time."""
        job_id, now = self.pick(number), self.model.now
        changing = change_job.change_delay(
            self.broker, self.keys, job_id, delay_ms=delay, now_ms=now
        )
        if self._may_change(changing, job_id, "delayed"):
            change_delay_in_model(self.model, job_id, delay)

    @rule(number=ids, priority=st.sampled_from([0, 1, 2, 2**21 - 1]), is_first=st.booleans())
    def change_priority(self, number: int, priority: int, *, is_first: bool) -> None:
        """Give a job another priority."""
        job_id = self.pick(number)
        changing = change_job.change_priority(
            self.broker, self.keys, job_id, priority=priority, is_first=is_first
        )
        if self._may_change(changing, job_id):
            change_priority_in_model(self.model, job_id, priority, is_first=is_first)

    @rule(
        number=ids,
        state=st.sampled_from([JobState.COMPLETED, JobState.FAILED]),
        resets=st.builds(change_job.Resets, st.booleans(), st.booleans()),
    )
    def retry(self, number: int, state: JobState, resets: change_job.Resets) -> None:
        """Let a finished job wait again."""
        finished = [*self.model.sets[state], self.pick(number)]
        job_id = finished[number % len(finished)]
        retrying = change_job.retry(self.broker, self.keys, job_id, state=state, resets=resets)
        if self._may_change(retrying, job_id, state):
            retry_in_model(self.model, job_id, state, resets)

    @rule(state=st.sampled_from(list(PLACES)), grace=st.sampled_from([-60_000, 0, 15]))
    def clean(self, state: JobState, grace: int) -> None:
        """Remove the jobs of a state, or the old ones of it."""
        newest = self.model.now - grace

        async def cleaned() -> list[str]:
            steps = bulk.clean(self.broker, self.keys, state=state, newest_ms=newest, limit=None)
            return [job_id async for step in steps for job_id in step]

        assert sorted(self.run(cleaned())) == sorted(clean_in_model(self.model, state, newest))

    def _may_change(
        self, changing: Coroutine[Any, Any, None], job_id: str, state: str | None = None
    ) -> bool:
        """Do it, or see that it is refused for the right reason."""
        try:
            self.run(changing)
        except JobNotFound:
            assert job_id not in self.model.jobs
            return False
        except JobNotInState:
            assert self.model.state_of(job_id) != state
            return False
        assert job_id in self.model.jobs
        assert state in (None, self.model.state_of(job_id))
        return True


def promote_in_model(model: QueueModel, job_id: str) -> None:
    """Let a delayed job wait."""
    del model.sets["delayed"][job_id]
    job = model.jobs[job_id]
    job.delay = 0
    model.place_waiting(job, is_lifo=False)
    model.tell("waiting", job_id, "delayed")


def change_delay_in_model(model: QueueModel, job_id: str, delay: int) -> None:
    """Let a delayed job wait so long from now."""
    del model.sets["delayed"][job_id]
    job = model.jobs[job_id]
    job.delay = delay
    model.place_delayed(job, model.now + delay)


def change_priority_in_model(
    model: QueueModel, job_id: str, priority: int, *, is_first: bool
) -> None:
    """Give a job a priority; one that waits moves."""
    job = model.jobs[job_id]
    job.priority = priority
    state = model.state_of(job_id)
    if state == "prioritized":
        del model.sets[state][job_id]
    elif state in ("wait", "paused"):
        model.lists[state].remove(job_id)
    else:
        return
    if is_first and priority:
        model.sets["prioritized"][job_id] = priority * PRIORITY_SHIFT
    else:
        model.place_waiting(job, is_lifo=is_first)


def retry_in_model(
    model: QueueModel, job_id: str, state: JobState, resets: change_job.Resets
) -> None:
    """Let a finished job wait again."""
    del model.sets[state][job_id]
    job = model.jobs[job_id]
    job.finished_on = job.processed_on = None
    if state is JobState.FAILED:
        job.reason = None
    else:
        job.value = None
    job.made = 0 if resets.attempts_made else job.made
    job.started = 0 if resets.attempts_started else job.started
    model.place_waiting(job, is_lifo=job.is_lifo)
    model.tell("waiting", job_id, state)


def clean_in_model(model: QueueModel, state: JobState, newest: int) -> list[str]:
    """Remove the jobs of a state that were touched last by then; return their ids."""
    cleaned = []
    for place in PLACES[state]:
        held = model.lists.get(place) or model.sets.get(place) or {}
        for job_id in list(held):
            is_locked = place == "active" and job_id in model.locks
            is_new = _touched(model.jobs[job_id], place) > newest
            if not is_locked and not is_new:
                cleaned.append(job_id)
                model.drop(job_id)
    return cleaned


def _touched(job: ModelJob, place: str) -> int:
    times = [job.finished_on, job.processed_on, job.timestamp]
    if place in ("completed", "failed"):
        times = times[:1]
    elif place == "prioritized":
        times = times[2:]
    elif place == "delayed":
        times = times[1:]
    return next(time for time in times if time is not None)
