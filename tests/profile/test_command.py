"""`python -m sandboxq profile`, and the blocking twins."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from sandboxq import Queue
from tests.commands import run_command
from tests.conftest import run_async
from tests.profile.sampling import sampled

if TYPE_CHECKING:
    from pathlib import Path


async def command(*words: str, code: int = 0) -> str:
    """Run the command and return what it prints."""
    done = await asyncio.to_thread(run_command, "profile", *words)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_running_job_by_the_command(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """A table for people, a file for tools; afterwards what was kept; what is wrong is said."""
    url = ("--url", server_url)

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            job = await it.begun("split")
            file = tmp_path / "out.speedscope.json"
            words = (queue_name, job.id, "--seconds", "2", "-o", str(file), *url)
            shown = await command(*words)
            assert f"job {job.id}, attempt 1: " in shown
            assert "seventy" in shown
            assert json.loads(file.read_text())["exporter"] == "sandboxq"
            it.gate.open()
            await job.result(timeout=60)
            folded = tmp_path / "out.txt"
            shown = await command(queue_name, job.id, "-o", str(folded), *url)
            assert "completed: nothing runs; this is the newest profile that was kept" in shown
            assert "split (jobs.py)" in folded.read_text()
            assert "seventy" in await command(queue_name, job.id, "--last", *url)
            told = await command(queue_name, "--name", "split", "--runs", "2", *url)
            assert "the next 2 runs of 'split' are sampled; workers that know of it: 1" in told
            assert "does not exist" in await command(queue_name, "none", *url, code=1)
            assert "name a job, or give --name" in await command(queue_name, *url, code=2)
            nowhere = str(tmp_path / "none" / "x.json")
            said = await command(queue_name, job.id, "--last", "-o", nowhere, *url, code=2)
            assert "cannot be written" in said

    run_async(main())


def test_blocking_twins(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """In code without an event loop."""

    def look(job_id: str) -> None:
        with Queue.sync(queue_name, server_url) as queue:
            profile = queue.profile(job_id, seconds=1, hz=50)
            kept = queue.job_profile(job_id)
            assert kept is not None
            assert (profile.id, profile.hz) == (kept.id, 50)
            assert [each.id for each in queue.job_profiles(job_id)] == [kept.id]
            assert queue.profile_next("split", runs=2) == 1
            assert queue.profiles_wanted() == {"split": 2}

    async def main() -> None:
        async with sampled(server_url, queue_name, tmp_path) as it:
            job = await it.begun("split")
            await asyncio.to_thread(look, job.id)

    run_async(main())
