"""The next runs of a job name are sampled whole, wherever they run, and no more than was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import JobFailed, Queue
from sandboxq.errors import QueueError, UsageError
from tests.conftest import run_async
from tests.profile.sampling import sampled

if TYPE_CHECKING:
    from pathlib import Path


def test_so_many_runs_and_no_more(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Of this name alone; two workers share them; one that starts later knows of them."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            assert await queue.profile_next("split", runs=3) == 0
            assert await queue.profiles_wanted() == {"split": 3}
        async with (
            sampled(server_url, queue_name, tmp_path, procs=2) as it,
            sampled(server_url, queue_name, tmp_path),
        ):
            data = {"do": "split", "gate": it.gate.path}
            it.gate.open()
            others = [await it.queue.add("other", data) for _ in range(3)]
            jobs = [await it.queue.add("split", data) for _ in range(8)]
            for job in (*jobs, *others):
                await job.result(timeout=60)
            counts = [len(await it.queue.job_profiles(job.id)) for job in jobs]
            assert sorted(counts) == [0, 0, 0, 0, 0, 1, 1, 1]
            assert [await it.queue.job_profile(job.id) for job in others] == [None] * 3
            assert await it.queue.profiles_wanted() == {}

    run_async(main())


@pytest.mark.parametrize("policy", ["limits", "strict"])
def test_each_attempt_has_its_own(
    server_url: str, queue_name: str, tmp_path: Path, policy: str
) -> None:
    """Of a job that fails and is tried again; they go when it is removed."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path, policy=policy) as it:
            await it.want_next("fails", runs=5, hz=200)
            it.gate.open()
            data = {"do": "fails", "gate": it.gate.path, "long": True}
            job = await it.queue.add("fails", data, attempts=2)
            with pytest.raises(JobFailed):
                await job.result(timeout=60)
            newest, first = await it.queue.job_profiles(job.id)
            assert (newest.attempt, first.attempt, newest.hz) == (2, 1, 200)
            assert (newest.ended, newest.name) == ("end", "fails")
            assert await it.queue.profiles_wanted() == {"fails": 3}
            await it.want_next("fails", runs=0)
            assert await it.queue.profiles_wanted() == {}
            assert await it.queue.remove(job.id)
            assert await _left(it.queue) == []

    run_async(main())


async def _left(queue: Queue) -> list[bytes]:
    """Return the keys of profiles that there are."""
    broker = await queue._connected()
    pattern = f"{queue.keys.prefix}::sandboxq:profile*:{queue.name}*"
    return list(await broker.command("KEYS", pattern))


def test_what_is_kept_is_bounded(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Five of a job, a hundred jobs, a week; twenty names, until their time."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            queue = it.queue
            broker = await queue._connected()
            await queue.pause()
            jobs = await queue.add_bulk([("job", {})] * 103)
            for job in (*jobs, *[jobs[-1]] * 6):
                await _keep(queue, job.id)
            assert await broker.command("LLEN", queue.keys.profile(jobs[-1].id)) == 5
            assert await broker.command("EXISTS", *(queue.keys.profile(j.id) for j in jobs)) == 100
            assert await broker.command("EXISTS", queue.keys.profile(jobs[0].id)) == 0
            ttl = await broker.command("PTTL", queue.keys.profile(jobs[-1].id))
            assert 0 < ttl <= 7 * 86_400_000
            await queue.drain()
            assert await _left(queue) == []
            for number in range(20):
                await queue.profile_next(f"name {number}", within=50)
            with pytest.raises(QueueError, match="too many"):
                await queue.profile_next("one more")
            await queue.profile_next("name 3", runs=7, within=50)
            assert (await queue.profiles_wanted())["name 3"] == 7
            assert 0 < await broker.command("PTTL", queue.keys.profile_next) <= 50_000
            wrongs: tuple[dict[str, Any], ...] = ({"runs": -1}, {"runs": 101}, {"within": 90_000})
            for wrong in wrongs:
                with pytest.raises(UsageError):
                    await queue.profile_next("name", **wrong)

    run_async(main())


async def _keep(queue: Queue, job_id: str) -> None:
    from sandboxq.broker.commands.attempts import Report, report

    broker = await queue._connected()
    assert await report(broker, queue.keys, [Report(job_id.encode(), b"0", "profile", b"x")]) == [0]


def test_only_the_holder_of_the_lock_writes(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A profile of a run that was lost is not written, nor one of a job that is gone."""
    from sandboxq.broker.commands.attempts import Report, report

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            job = await it.begun("split")
            broker = await it.queue._connected()
            rows = [
                Report(job.id.encode(), b"another", "profile", b"x"),
                Report(b"none", b"0", "profile", b"x"),
            ]
            assert await report(broker, it.queue.keys, rows) == [-6, -1]
            assert await _left(it.queue) == []

    run_async(main())


def test_a_key_of_another_type_harms_nobody(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Where nothing can be read nothing is asked for; workers hear of all else."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            broker = await queue._connected()
            await broker.command("SET", queue.keys.profile_next, "a string")
        async with sampled(server_url, queue_name, tmp_path) as it:
            job = await it.begun("split")
            profile = await it.queue.profile(job.id, seconds=1)
            assert profile.id
            with pytest.raises(QueueError):
                await it.queue.profile_next("split")
            await it.queue.cancel(job.id, grace=0.1)

    run_async(main())


def test_rubbish_in_the_requests_is_ignored(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Anybody may write there, and publish; a job of such a name runs as ever."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            broker = await it.queue._connected()
            key = it.queue.keys.profile_next
            rubbish = (
                "x",
                "-1 5 100 wall",
                "1 2",
                "9" * 40 + " 9 100 wall",
                "1 9 0 wall",
                "3 99 5 sun",
            )
            for number, text in enumerate(rubbish):
                await broker.command("HSET", key, f"split{number}", text)
            await broker.command("HSET", key, b"\xff\x00", "3 9999999999999 100 wall")
            await it.want_next("other")
            it.gate.open()
            data = {"do": "split", "gate": it.gate.path}
            jobs = [await it.queue.add(f"split{number}", data) for number in range(len(rubbish))]
            for job in jobs:
                await job.result(timeout=60)
                assert await it.queue.job_profiles(job.id) == []
            await broker.command("DEL", key)
            await broker.command("SET", key, "a string")
            with pytest.raises(QueueError):
                await it.queue.profile_next("other")

    run_async(main())
