"""A job that lies, blocks, replaces or writes over what is sampled harms its own profile alone."""

from __future__ import annotations

import os
import random
import zlib
from typing import TYPE_CHECKING

import pytest

from sandboxq.child.profile_page import HEAD, HEAD_SIZE, NODE_SIZE, SIZE, packed_from_page
from sandboxq.errors import ProfileNotTaken
from sandboxq.model.profile import MOST_STORED, profile_from_stored
from sandboxq.pool.profile_table import MOST_PACKED, Stuck, profile_from_packed
from tests.conftest import run_async
from tests.profile.sampling import part_of, sampled

if TYPE_CHECKING:
    from pathlib import Path

META = {
    "id": "x", "job_id": "1", "name": "n", "attempt": 1, "worker": "w", "pid": 1, "at": 1.0,
    "clock": "wall", "hz": 100, "seconds": 1.0, "ended": "end", "note": "",
}  # fmt: skip


@pytest.mark.parametrize("policy", ["none", "strict"])
@pytest.mark.parametrize("fill", ["ff" * 8, "00" * 8, "01" + "00" * 7, "7f4100ff09000a3b", "0a"])
def test_rubbish_over_the_samples(
    server_url: str, queue_name: str, tmp_path: Path, fill: str, policy: str
) -> None:
    """The job goes on, its value arrives, and the next job is sampled as ever."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path, policy=policy) as it:
            job = await it.begun("scribbles", fill=fill)
            profile = await it.queue.profile(job.id, seconds=1)
            assert len(profile.nodes) <= 4096
            it.gate.open()
            # Under `strict` a job cannot name what it has open by /proc.
            assert await job.result(timeout=60) in {0, 1}
            it.gate.close()
            after = await it.begun("split")
            profile = await it.cpu_profile(after, 0.4)
            assert part_of(profile, "split", "cpu") > 0.9

    run_async(main())


@pytest.mark.parametrize("do", ["alarms", "recurses", "forks", "names", "deep"])
def test_odd_jobs_go_on(server_url: str, queue_name: str, tmp_path: Path, do: str) -> None:
    """Signals and timers of its own, the limit of recursion, forks, names that are none."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path, policy="none") as it:
            pids = it.worker.pool.pids
            job = await it.begun(do)
            profile = await it.queue.profile(job.id, seconds=3, hz=500)
            it.gate.open()
            value = await job.result(timeout=60)
            assert value is None or value > 0
            assert profile.samples > 10
            assert all(len(function.name) <= 200 for function in profile.functions)
            assert all(function.name.isprintable() for function in profile.functions)
            assert profile.speedscope()["profiles"][0]["samples"]
            assert it.worker.pool.pids == pids

    run_async(main())


def test_the_page_cannot_be_made_shorter(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """It is sealed: a job cannot."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path, policy="none") as it:
            job = await it.begun("shrinks")
            await it.queue.begin_profile(job.id, seconds=1)
            await it.profiles(job)
            it.gate.open()
            await job.result(timeout=60)
            it.gate.close()
            after = await it.begun("split")
            profile = await it.cpu_profile(after, 0.4)
            assert part_of(profile, "split", "cpu") > 0.9

    run_async(main())


@pytest.mark.parametrize("do", ["blocks_signals", "handles_it", "replaces_program"])
def test_who_takes_no_samples_is_told_of(
    server_url: str, queue_name: str, tmp_path: Path, do: str
) -> None:
    """At once, or in the profile; no signal ends a program that does not know it."""

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path, policy="none") as it:
            job = await it.begun(do)
            if do == "replaces_program":
                await it.has_exec()
            if do == "blocks_signals":
                profile = await it.queue.profile(job.id, seconds=1)
                assert (profile.samples, "took no samples" in profile.note) == (0, True)
            else:
                with pytest.raises(ProfileNotTaken, match="SIGRTMAX-2"):
                    await it.queue.profile(job.id, seconds=1)
            it.gate.open()
            if do == "replaces_program":
                with pytest.raises(Exception, match=r"exit|code 3"):
                    await job.result(timeout=60)
            else:
                assert await job.result(timeout=60) is None

    run_async(main())


def test_random_tables_make_profiles_or_nothing() -> None:
    """Nothing that a child can write raises, is large, or cannot be read again."""
    chance = random.Random(7)
    for turn in range(400):
        page = bytearray(SIZE)
        for _ in range(chance.randrange(40)):
            at = chance.choice([0, 0, 0, HEAD, HEAD, chance.randrange(SIZE - 64)])
            at += 8 * chance.randrange(8)
            size = chance.choice([1, 2, 4, 8, 64])
            page[at : at + size] = chance.randbytes(size)
        if turn % 2:  # a plausible head
            page[16:24] = chance.randrange(5000).to_bytes(8, "little")
            page[24:32] = chance.randrange(200_000).to_bytes(8, "little")
        packed = packed_from_page(bytes(page[:SIZE]))
        stuck = [Stuck('  File "a", line 3 in f\n' * chance.randrange(5), 3)]
        stored = profile_from_packed(packed, META, stuck, (chance.randrange(10**9), 5))
        assert len(stored) <= MOST_STORED
        profile = profile_from_stored(stored)
        assert profile is not None
        profile.folded()
        profile.speedscope()


def test_tables_of_every_length() -> None:
    """Cut anywhere, too long, all of ones."""
    whole = packed_from_page(os.urandom(SIZE))
    lengths = [0, 1, 7, HEAD_SIZE - 1, HEAD_SIZE, HEAD_SIZE + 5, HEAD_SIZE + NODE_SIZE, len(whole)]
    for raw in (whole, b"\xff" * (MOST_PACKED + 8), bytes(MOST_PACKED)):
        for length in (*lengths, len(raw)):
            assert profile_from_stored(profile_from_packed(raw[:length], META)) is not None
    assert packed_from_page(b"") == b""
    assert profile_from_stored(zlib.compress(b"{}")) is None
