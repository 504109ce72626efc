"""Deadlines against a model: whatever is sent, answered or cancelled when, each ends on time."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.model.outcome import Outcome

    _Job = tuple[int, int, int | None, int | None]  # as the strategy below

_PROCESSOR = """
import asyncio

async def process(job):
    await asyncio.sleep(job.data)
    return "done"
"""

# The timeouts lie between the multiples of a step: the machine may be late, and which of two comes
# first must not be a matter of luck. A busy machine is given another try with longer steps.
_STEPS = (0.06, 0.25, 1.0)
_job = st.tuples(
    st.integers(0, 4),  # when it is submitted
    st.integers(1, 5),  # how long it runs
    st.none() | st.integers(1, 5),  # its timeout
    st.none() | st.integers(1, 5),  # when it is cancelled, after it was submitted
)


def expected(run: int, timeout: int | None, cancelled: int | None) -> str:
    """Return how a job ends: by what comes first, 0.33 of a step apart."""
    ends = [(float(run), "done")]
    ends += [(timeout + 0.33, "JobTimeout")] if timeout is not None else []
    ends += [(cancelled + 0.66, "JobCancelled")] if cancelled is not None else []
    return min(ends)[1]


def seen(outcome: Outcome) -> str:
    """Return how a job ended."""
    if isinstance(outcome, Completed):
        return str(json.loads(outcome.value))
    assert isinstance(outcome, Failed), outcome
    return outcome.cause


@pytest.mark.timeout(300)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(jobs=st.lists(_job, min_size=1, max_size=12))
def test_each_job_ends_by_what_comes_first(tmp_path: Path, jobs: list[_Job]) -> None:
    """One timer serves all calls of a pool: none is forgotten, none ends for another's sake."""
    path = processor_file(tmp_path, _PROCESSOR)
    ends = [expected(*job[1:]) for job in jobs]
    *shorter, longest = _STEPS
    if not any(run_async(_ends(path, jobs, step)) == ends for step in shorter):
        assert run_async(_ends(path, jobs, longest)) == ends


async def _ends(path: Path, jobs: list[_Job], step: float) -> list[str]:
    """Return how each of these jobs ends when a step has so many seconds."""
    async with open_pool(path, concurrency=12) as caller:
        await caller.value(0)

        async def one(start: int, run: int, timeout: int | None, cancelled: int | None) -> str:
            await asyncio.sleep(start * step)
            limit = None if timeout is None else (timeout + 0.33) * step
            call = caller.submit(run * step, timeout=limit, grace=5)
            if cancelled is not None:
                await asyncio.sleep((cancelled + 0.66) * step)
                if call.key not in caller.outcomes:
                    caller.pool.cancel_call(call, JobCancelled("not wanted"), grace=5)
            return seen(await caller.outcome(call))

        return await asyncio.gather(*(one(*job) for job in jobs))
