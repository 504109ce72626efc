"""`doctor` answers on any machine, and says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import UsageError
from sandboxq.sandbox.policy import Policy, policy_from

if TYPE_CHECKING:
    from pathlib import Path

# What macOS has not; a look-alike, since no such machine is at hand.
_LIKE_A_MAC = """
import asyncio, os, runpy, signal, socket, sys, sysconfig
sysconfig.get_config_vars()  # read now: there is no file of them for the other platform here
for module, names in ((os, ("sched_getaffinity", "pidfd_open", "memfd_create", "MFD_CLOEXEC",
                            "pipe2", "eventfd", "waitid", "splice")),
                      (signal, ("SIGRTMAX", "SIGRTMIN", "pidfd_send_signal")),
                      (socket, ("SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED"))):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"
"""
_COMMAND = """
sys.argv[0] = "sandboxq"
runpy.run_module("sandboxq", run_name="__main__")
"""
_BY_HAND = """
import sandboxq
for name in sandboxq.__all__:
    getattr(sandboxq, name)

async def main():
    url, name = sys.argv[1:]
    async with sandboxq.Queue(name, url=url) as queue, sandboxq.Worker(name, url=url) as worker:
        added = await queue.add("x", {"a": 1})
        job = await worker.get_next_job(timeout=10)
        await job.move_to_completed(job.data)
        print(await added.result(timeout=60))

asyncio.run(main())
"""


def _doctor(*words: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "sandboxq", "doctor", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def test_doctor_tells_which_variables_jobs_do_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a password of Redis is in, where nothing else says so."""
    monkeypatch.setenv("CACHE_URL", "redis://:production@127.0.0.1:1")
    monkeypatch.setenv("MQ_URL", "amqp://app:production@mq")
    monkeypatch.setenv("APP_ENV", "production")
    assert "jobs do not see MQ_URL: the password of Redis" in _doctor(cwd=tmp_path)
    assert json.loads(_doctor("--json", cwd=tmp_path))["withheld"] == ["MQ_URL"]


def test_doctor_knows_machine_and_redis(server_url: str, tmp_path: Path) -> None:
    """Each policy is told apart, and the server is asked for its version."""
    found = json.loads(_doctor("--json", "--url", server_url, cwd=tmp_path))
    assert found["policies"]["limits"] == []
    assert "landlock" in [each["name"] for each in found["mechanisms"]]
    assert "valkey" in found["redis"]["detail"]
    assert "policy strict" in _doctor("--url", server_url, cwd=tmp_path)


def test_doctor_survives_a_redis_that_is_away(tmp_path: Path) -> None:
    """Then above all it is asked for."""
    assert "missing redis" in _doctor("--url", "unix:///nowhere/at-all", cwd=tmp_path)


def test_doctor_on_a_machine_without_linux(tmp_path: Path) -> None:
    """A Mac lacks most mechanisms: that is said, and nothing crashes."""
    done = _on_a_mac(_COMMAND, "doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all("linux" in missing[0] for missing in found["policies"].values())


@pytest.mark.parametrize("flags", [(), ("--isolation", "thread", "--policy", "none")])
def test_a_worker_on_a_machine_without_linux(
    server_url: str, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Children of no kind start there: refused before anything is claimed, with the reason."""
    (tmp_path / "p.py").write_text("def process(job): pass\n")
    done = _on_a_mac(_COMMAND, "run", "p.py", "--url", server_url, *flags, cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert "children need Linux" in done.stderr


def test_jobs_by_hand_on_a_machine_without_linux(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Everything can be imported, and a queue be worked on by one's own code."""
    done = _on_a_mac(_BY_HAND, server_url, queue_name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "{'a': 1}\n"), done.stderr


def _on_a_mac(program: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _LIKE_A_MAC + program, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "safe"},
        {"memory": 0},
        {"files": True},
        {"cpu_seconds": -1},
        {"read": "/tmp"},
        {"network": True},
        {"name": "none", "memory": 1},
        {"name": "strict", "environment": "HOME"},
    ],
)
def test_policies_that_make_no_sense(settings: dict[str, object]) -> None:
    """Wrong values are refused before anything starts."""
    with pytest.raises(UsageError):
        Policy(**settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        policy_from(3)
