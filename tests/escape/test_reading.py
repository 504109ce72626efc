"""Reading what is none of a job's business."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sandboxq.sandbox.policy import Policy
from tests.escape.room import attempt

if TYPE_CHECKING:
    from pathlib import Path

_READ = """
def attack(path):
    return len(open(path, "rb").read(4096))
"""
_ENVIRONMENT = """
def attack(pid):
    text = open(f"/proc/{pid or os.getppid()}/environ", "rb").read()
    return b"top-secret" in text
"""
_STATUS = """
def attack(_):
    return len(open(f"/proc/%s/status").read())
"""
_OWN = """
def attack(_):
    return [name for name, value in os.environ.items() if "-secret" in value]
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads /etc/shadow in the first place")
def test_password_file(tmp_path: Path) -> None:
    """Root's jobs read it under `limits`; not under `strict`."""
    assert attempt(tmp_path, "limits", _READ, "/etc/shadow")[0] == "worked"
    assert attempt(tmp_path, "strict", _READ, "/etc/shadow") == ["refused", "EACCES"]


def test_hidden_files_beside_the_processor(tmp_path: Path) -> None:
    """Sources are readable, .env and .sandboxq with the embedded server are not."""
    sources = tmp_path / "code"
    (sources / ".sandboxq").mkdir(parents=True)
    (sources / ".env").write_text("PASSWORD=x")
    (sources / ".sandboxq" / "data").write_text("jobs")
    (sources / "notes.txt").write_text("fine")
    for name in (".env", ".sandboxq/data"):
        assert attempt(tmp_path, "limits", _READ, str(sources / name))[0] == "worked"
        assert attempt(tmp_path, "strict", _READ, str(sources / name)) == ["refused", "EACCES"]
    assert attempt(tmp_path, "strict", _READ, str(sources / "notes.txt")) == ["worked", 4]


@pytest.mark.parametrize("whose", ["coordinator", "zygote"])
def test_environment_of_the_parents(tmp_path: Path, whose: str) -> None:
    """The coordinator's environment holds the password of Redis."""
    pid = os.getpid() if whose == "coordinator" else 0
    assert attempt(tmp_path, "strict", _ENVIRONMENT, pid) == ["refused", "EACCES"]
    if os.geteuid() == 0:
        assert attempt(tmp_path, "none", _ENVIRONMENT, pid)[0] == "worked"


def test_facts_of_the_fork_server(tmp_path: Path) -> None:
    """/proc/self is the child's own: what was opened before the fork would be the server's."""
    attack = _STATUS % "{os.getppid()}"
    assert attempt(tmp_path, "limits", attack)[0] == "worked"
    assert attempt(tmp_path, "strict", attack) == ["refused", "EACCES"]
    assert attempt(tmp_path, "strict", _STATUS % "self")[0] == "worked"


def test_secrets_in_the_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds a password of Redis reaches no job; under `strict` nothing that is not named."""
    monkeypatch.setenv("REDIS_URL", "redis://:top-secret@localhost")
    monkeypatch.setenv("SANDBOXQ_URL", "redis://top-secret")
    monkeypatch.setenv("COPY", "top-secret")  # of the password of Redis
    monkeypatch.setenv("CLOUD_TOKEN", "another-secret")
    assert attempt(tmp_path, "limits", _OWN) == ["worked", ["CLOUD_TOKEN"]]
    assert attempt(tmp_path, "strict", _OWN) == ["worked", []]
    named = Policy("strict", environment=["CLOUD_TOKEN"])
    assert attempt(tmp_path, named, _OWN) == ["worked", ["CLOUD_TOKEN"]]
