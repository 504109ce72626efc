"""What commands say to somebody who tries them for the first time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sandboxq import FlowProducer, Queue, Repeat, UsageError
from tests.commands import run_command
from tests.conftest import run_async
from tests.lifecycle.test_run import RunningWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def _run(url: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, "--url", url, stdin=stdin)


def _with_queue(url: str, name: str, body: Callable[[Queue], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        async with Queue(name, url) as queue:
            return await body(queue)

    return run_async(main())


def test_stats_says_why_nothing_runs(server_url: str, queue_name: str) -> None:
    """A queue that is paused, or that no worker serves, is not only numbers."""
    unknown = _run(server_url, "stats", queue_name)
    assert (unknown.returncode, "there is no queue" in unknown.stderr) == (1, True)
    assert _run(server_url, "resume", queue_name).returncode == 1
    _run(server_url, "add", queue_name, "x")
    assert _run(server_url, "stats", queue_name).stdout.rstrip().endswith("0  no worker")
    _run(server_url, "pause", queue_name)
    assert _run(server_url, "stats", queue_name).stdout.rstrip().endswith("paused, no worker")
    row = json.loads(_run(server_url, "stats", "--json").stdout)[queue_name]
    assert (row["waiting"], row["paused"], row["workers"]) == (1, True, 0)
    assert "runs again; 1 job to claim" in _run(server_url, "resume", queue_name).stdout
    assert "was not paused; 1 job" in _run(server_url, "resume", queue_name).stdout
    worker = RunningWorker(server_url, queue_name, "--procs", "1")
    try:
        worker.wait_until_ready()
        assert "worker" not in _run(server_url, "stats", queue_name).stdout
    finally:
        worker.process.terminate()
        worker.wait()
        assert worker.process.stdout is not None
        worker.process.stdout.close()


def test_waiting_without_a_worker(server_url: str, queue_name: str) -> None:
    """Silence would look like a hang."""
    wait = ("add", queue_name, "x", "--wait", "--wait-timeout", "0.1")
    said = _run(server_url, *wait).stderr
    assert f"no worker serves queue {queue_name!r}: waiting for one" in said
    _run(server_url, "pause", queue_name)
    assert "is paused: waiting until it is resumed" in _run(server_url, *wait).stderr


def test_where_data_comes_from(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """A shell is no place for large JSON."""
    (tmp_path / "data.json").write_text('{"from": "a file"}')
    _run(server_url, "add", queue_name, "x", f"@{tmp_path / 'data.json'}")
    _run(server_url, "add", queue_name, "x", "-", stdin='{"from": "stdin"}')
    jobs = _with_queue(server_url, queue_name, lambda queue: queue.get_jobs("waiting"))
    assert [job.data for job in jobs] == [{"from": "stdin"}, {"from": "a file"}]
    missing = _run(server_url, "add", queue_name, "x", f"@{tmp_path / 'none'}")
    assert missing.returncode == 2
    assert f"cannot be read from {tmp_path / 'none'}: No such file" in missing.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """The script calls the command, which names its subcommands."""
    command = [str(Path(sys.executable).parent / "sandboxq")]
    script = subprocess.run(
        [*command, "completion", shell], capture_output=True, text=True, check=True
    )
    assert f"_SANDBOXQ_COMPLETE={shell}_complete" in script.stdout
    words = {"COMP_WORDS": "sandboxq sta", "COMP_CWORD": "sta" if shell == "fish" else "1"}
    env = {**os.environ, "_SANDBOXQ_COMPLETE": f"{shell}_complete", **words}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "stats" in done.stdout


def test_a_job_is_one_line(server_url: str, queue_name: str) -> None:
    """In a terminal and in a log, whatever its data; in a notebook a table."""
    data = {"text": "a\nb<script>" * 1000, "numbers": list(range(1000))}
    job = _with_queue(server_url, queue_name, lambda queue: queue.add("resize", data))
    shown = repr(job)
    assert shown.startswith(f"<QueuedJob {job.id} of queue {queue_name!r}, name='resize', data={{")
    assert "\n" not in shown
    assert len(shown) < 300
    assert f"<th>queue</th><td>&#x27;{queue_name}&#x27;</td>" in job._repr_html_()
    assert "<script>" not in job._repr_html_()
    arrays = {"pixels": np.zeros((50, 50))}
    job = _with_queue(server_url, queue_name, lambda queue: queue.add("array", arrays))
    assert "\n" not in repr(job)


def test_options_by_both_words(server_url: str, queue_name: str) -> None:
    """Node says opts, and people paste."""

    async def body(queue: Queue) -> list[tuple[int, float]]:
        jobs = [
            await queue.add("a", {}, attempts=2, options={"delay": 5}),
            await queue.add("b", {}, attempts=2, opts={"delay": 5}),
            await queue.add("c", {}, opts={"delay": 5, "attempts": 2}, options=None),
        ]
        jobs += await queue.add_bulk([("d", {}, {"opts": {"attempts": 2, "delay": 5}})])
        async with FlowProducer(server_url) as producer:
            node: Any = {"name": "e", "queue": queue.name, "options": {"attempts": 2, "delay": 5}}
            (flow,) = await producer.add_bulk([node])
            jobs.append(flow.job)
        with pytest.raises(UsageError, match="must be a dict"):
            await queue.add("f", {}, opts=3)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="no option 'dealy'"):
            await queue.add("f", {}, options={"dealy": 3})
        return [(job.options.attempts, job.opts.delay) for job in jobs]

    assert _with_queue(server_url, queue_name, body) == [(2, 5.0)] * 5


@pytest.mark.parametrize("pattern", ["5", "* *", "0 12 * *", "* * * * * * *"])
def test_patterns_of_the_wrong_length(pattern: str) -> None:
    """'5' would run at second 0 of every minute on Fridays, which nobody means."""
    with pytest.raises(UsageError, match="cron must have 5 fields"):
        Repeat(cron=pattern)
    assert Repeat(cron="@daily").cron == "@daily"


def test_a_working_directory_that_was_removed_is_no_crash(server_url: str, tmp_path: Path) -> None:
    """As where a deployment was replaced: there are no settings, and Redis is named."""
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"rmdir '{gone}' && exec '{sys.executable}' -m sandboxq stats --url {server_url}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=gone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
