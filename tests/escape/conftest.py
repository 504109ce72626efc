"""After each attack the machine is as it was before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.sandbox.mechanisms.cgroup import own_groups
from sandboxq.sandbox.processes import descendants_of
from tests.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


def _traces() -> set[str]:
    """Return processes, abstract sockets, shared memory, private directories and cgroups of ours.

    Other test runs beside this one have theirs: only what is younger counts.
    """
    found = {f"process {pid}" for pid in descendants_of(os.getpid())}
    sockets = Path("/proc/net/unix").read_text().split()
    found |= {word for word in sockets if word.startswith("@sandboxq-attack")}
    found |= {str(path) for path in Path("/dev/shm").glob("sandboxq-attack*")}
    found |= {str(path) for path in Path(tempfile.gettempdir()).glob("sandboxq-attack*")}
    return found | set(own_groups())


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """See that no process, socket, shared memory, file or cgroup outlives the attack."""
    private = tmp_path / "tmp"
    private.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    before = _traces()
    yield
    wait_until(lambda: _traces() <= before)
    assert not list(private.glob("sandboxq-*"))
