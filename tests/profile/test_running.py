"""A job that runs is sampled in its own process, whatever its policy is, and goes on."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import JobFailed
from sandboxq.errors import JobNotFound, JobNotInState, ProfileNotTaken, UsageError
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async, wait_until_async
from tests.profile.sampling import ASYNC_JOBS, part_of, sampled

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.model.profile import JobProfile

POLICIES = ("none", "limits", "strict")


@pytest.mark.parametrize("policy", POLICIES)
def test_two_functions_have_their_parts(
    server_url: str, queue_name: str, tmp_path: Path, policy: str
) -> None:
    """By CPU time, which other processes do not touch: 30 and 70 parts of a hundred."""

    async def main() -> JobProfile:
        async with sampled(server_url, queue_name, tmp_path, policy=policy) as it:
            job = await it.begun("split")
            return await it.cpu_profile(job, 2.5)

    profile = run_async(main())
    assert (profile.ended, profile.clock, profile.hz, profile.missed) == ("end", "cpu", 100, 0)
    assert profile.samples > 20
    assert part_of(profile, "thirty", "cpu") == pytest.approx(0.3, abs=0.1)
    assert part_of(profile, "seventy", "cpu") == pytest.approx(0.7, abs=0.1)
    assert all(node.wall == 0 for node in profile.nodes)


BURST = """
from pathlib import Path

def burns(gate):
    while not Path(gate).exists():
        for _ in range(1000):
            pass

def process(job):
    if job.name == "burns":
        burns(job.data)
"""


def test_a_job_among_those_of_microseconds(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """They share a packet, and are run by a loop of their own."""
    path = tmp_path / "burst.py"
    path.write_text(BURST)

    async def main() -> JobProfile:
        async with sampled(server_url, queue_name, tmp_path, processor=str(path)) as it:
            await it.queue.pause()
            await it.queue.add_bulk([("none", None, {}) for _ in range(600)])
            job = await it.queue.add("burns", it.gate.path)
            await it.queue.resume()
            (child,) = it.worker.pool.supervisor.children

            async def runs() -> bool:
                return [call.key.decode() for call in child.running_calls()] == [job.id]

            await wait_until_async(runs)
            return await it.cpu_profile(job, 1)

    profile = run_async(main())
    assert profile.note == ""
    assert profile.samples > 10
    assert part_of(profile, "burns", "cpu") > 0.9


def test_wall_time_shows_where_a_job_waits(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Of CPU time there would be next to nothing."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            job = await it.begun("sleep")
            profile = await it.queue.profile(job.id, seconds=2)
            assert part_of(profile, "sleep") > 0.9
            assert profile.ended == "time"
            assert 1 < profile.total < profile.seconds + 1

    run_async(main())


@pytest.mark.parametrize("policy", ["limits", "strict"])
def test_threads_of_a_job_are_sampled(
    server_url: str, queue_name: str, tmp_path: Path, policy: str
) -> None:
    """While the main one waits for them; and the child is not replaced for it."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path, policy=policy) as it:
            pids = it.worker.pool.pids
            job = await it.begun("threads")
            profile = await it.cpu_profile(job, 2.5)
            names = {function.name for function in profile.functions}
            assert "thread worker-of-job" in names
            assert part_of(profile, "seventy", "cpu") == pytest.approx(0.65, abs=0.15)
            assert it.worker.pool.pids == pids

    run_async(main())


def test_c_code_that_does_not_return(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Its line is read by the coordinator; the job is killed afterwards, its profile stays."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            job = await it.begun("in_c")
            profile = await it.queue.profile(job.id, seconds=5)
            assert part_of(profile, "in_c") > 0.9
            assert "C code" in profile.note
            again = await it.queue.begin_profile(job.id, seconds=60)
            await it.has_samples(1)
            await it.queue.cancel(job.id, grace=0.1)
            newest, _ = await it.profiles(job, 2)
            assert (newest.id, newest.ended) == (again, "died")

    run_async(main())


@pytest.mark.parametrize("ending", ["fails", "dies", "kill", "timeout"])
def test_a_job_that_ends_badly_keeps_its_profile(
    server_url: str, queue_name: str, tmp_path: Path, ending: str
) -> None:
    """Failed, killed by somebody, or by its deadline: what was sampled until then is there."""
    do = ending if ending in {"fails", "dies"} else "split"

    async def main() -> None:
        timeout = 12.0 if ending == "timeout" else None
        async with sampled(server_url, queue_name, tmp_path, timeout=timeout) as it:
            job = await it.begun(do)
            asked = await it.queue.begin_profile(job.id, seconds=500)
            await it.has_samples(20)
            it.gate.open() if ending in {"fails", "dies"} else None
            if ending == "kill":
                it.worker.pool.supervisor.children[0].signal(signal.SIGKILL)
            with pytest.raises(Exception, match=r".") as caught:
                await job.result(timeout=60)
            assert isinstance(caught.value, JobFailed)
            (profile,) = await it.profiles(job)
            assert profile.id == asked
            assert profile.ended == ("died" if ending in {"dies", "kill"} else "end")
            assert profile.samples > (0 if ending == "kill" else 5)
            assert part_of(profile, "split") > 0.9

    run_async(main())


def test_memory_death_keeps_the_profile(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """By its limit: in the job or from outside, the samples are not in its heap."""

    async def main() -> None:
        policy = Policy("limits", memory=150 << 20)
        async with sampled(server_url, queue_name, tmp_path, policy=policy) as it:
            await it.want_next("eats")
            job = await it.queue.add("eats", {"do": "eats", "gate": it.gate.path})
            with pytest.raises(JobFailed):
                await job.result(timeout=60)
            (profile,) = await it.profiles(job)
            assert part_of(profile, "eats") > 0.9

    run_async(main())


def test_tasks_of_an_event_loop(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Each job has its own profile, also while others share its loop."""

    async def main() -> None:
        options = {"processor": ASYNC_JOBS, "concurrency": 4}
        async with sampled(server_url, queue_name, tmp_path, **options) as it:
            waiting = await it.begun("waits_in_tasks")
            profile = await it.queue.profile(waiting.id, seconds=2)
            assert part_of(profile, "waits") > 0.5
            assert part_of(profile, "computes") == 0
            computing = await it.begun("computes")
            profile = await it.cpu_profile(computing, 2.5)
            assert part_of(profile, "computes", "cpu") > 0.9
            assert part_of(profile, "seventy", "cpu") == pytest.approx(0.65, abs=0.2)
            await waiting.result(timeout=60)

    run_async(main())


def test_what_cannot_be_sampled_is_said(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """No such job, none that runs, none twice at once, none in threads; bad numbers."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            with pytest.raises(JobNotFound):
                await it.queue.profile("nobody", seconds=1)
            with pytest.raises(JobNotFound):
                await it.queue.job_profile("nobody")
            job = await it.begun("split")
            later = await it.queue.add("split", {"do": "split", "gate": it.gate.path})
            with pytest.raises(JobNotInState, match="waiting"):
                await it.queue.profile(later.id, seconds=1)
            assert await it.queue.job_profile(later.id) is None
            await it.queue.begin_profile(job.id, seconds=100)
            with pytest.raises(ProfileNotTaken, match="already"):
                await it.queue.profile(job.id, seconds=1)
            wrongs: tuple[dict[str, Any], ...] = (
                {"hz": 0},
                {"hz": 1001},
                {"seconds": 0},
                {"seconds": 601},
            )
            for wrong in wrongs:
                with pytest.raises(UsageError):
                    await it.queue.profile(job.id, **wrong)
            with pytest.raises(UsageError, match="clock"):
                await it.queue.profile(job.id, clock="sun")  # type: ignore[arg-type]

    run_async(main())
