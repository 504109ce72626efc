"""Writing outside, filling the disk, hoarding descriptors."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from sandboxq.model.outcome import Completed
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.escape.room import attempt
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pool.caller import Caller

_WRITE = """
def attack(path):
    return open(path, "w").write("x")
"""
_MODE = """
def attack(path):
    os.chmod(path, 0o640)
"""
_TRUNCATE = """
def attack(path):
    os.truncate(path, 0)
"""
_FILL = """
def attack(_):
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
"""
_HOARD = """
def attack(_):
    kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(600)]
    return len(kept)
"""
_DEEP = """
def attack(_):
    os.chdir(tempfile.gettempdir())
    for _ in range(3000):
        os.mkdir("deep")
        open("file", "w").close()
        os.chdir("deep")
    return 3000
"""
_SCRATCH = """
def attack(_):
    folder, own = os.path.split(tempfile.gettempdir())
    return [own, os.listdir(folder)]
"""
_INTO_SIBLING = """
import errno, os

def process(job):
    own = os.environ["TMPDIR"]
    if job.data is None:
        return own
    (sibling,) = set(job.data) - {own}
    try:
        open(f"{sibling}/file", "w").close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "worked"
"""


def test_writing_elsewhere(tmp_path: Path) -> None:
    """A job that may write anywhere can replace the worker's own code."""
    target = tmp_path / "target"
    assert attempt(tmp_path, "limits", _WRITE, str(target)) == ["worked", 1]
    assert attempt(tmp_path, "strict", _WRITE, str(target)) == ["refused", "EACCES"]
    granted = Policy("strict", write=[str(tmp_path)])
    assert attempt(tmp_path, granted, _WRITE, str(target)) == ["worked", 1]


def test_what_is_kept_beside_the_content(tmp_path: Path) -> None:
    """Landlock does not see modes: seccomp refuses to change them, and to cut a file by path."""
    target = tmp_path / "target"
    target.write_text("precious")
    for attack in (_MODE, _TRUNCATE):
        assert attempt(tmp_path, "strict", attack, str(target)) == ["refused", "EPERM"]
    assert target.read_text() == "precious"
    assert attempt(tmp_path, "limits", _MODE, str(target))[0] == "worked"


def test_one_file_that_fills_the_disk(tmp_path: Path) -> None:
    """`limits` ends it at the size it grants."""
    assert attempt(tmp_path, "none", _FILL)[0] == "worked"
    for name in ("limits", "strict"):
        assert attempt(tmp_path, Policy(name, file_size=8 << 20), _FILL) == ["refused", "EFBIG"]


def test_hoarding_descriptors(tmp_path: Path) -> None:
    """A leak ends as an error of the job that leaks."""
    assert attempt(tmp_path, "none", _HOARD) == ["worked", 600]
    for name in ("limits", "strict"):
        assert attempt(tmp_path, Policy(name, files=100), _HOARD) == ["refused", "EMFILE"]


def test_private_directories_of_siblings(tmp_path: Path) -> None:
    """Their names cannot be guessed, and under `strict` not be seen either."""
    (result, (own, seen)) = attempt(tmp_path, "limits", _SCRATCH)
    assert (result, seen) == ("worked", [own])
    assert re.fullmatch("[0-9a-f]{24}", own)
    assert attempt(tmp_path, "strict", _SCRATCH) == ["refused", "EACCES"]


def test_writing_into_the_directory_of_a_sibling(tmp_path: Path) -> None:
    """What a child was granted first, the next child must not be granted too.

    The jobs are told the names of the directories: guessing them is another test's.
    """
    code = tmp_path / "code"
    code.mkdir()
    path = processor_file(code, _INTO_SIBLING)

    async def main(policy: str) -> list[Any]:
        async with open_pool(path, policy=policy) as caller:
            await caller.pool.resize(2)
            folders = await _of_each(caller)
            return await _of_each(caller, folders)

    assert run_async(main("limits")) == ["worked", "worked"]
    assert run_async(main("strict")) == ["EACCES", "EACCES"]


async def _of_each(caller: Caller, data: Any = None) -> list[Any]:
    """Return what a job in each of two children that have nothing to do returns."""
    calls = [caller.submit(data), caller.submit(data)]
    outcomes = [await caller.outcome(call) for call in calls]
    assert all(isinstance(outcome, Completed) for outcome in outcomes), outcomes
    return [json.loads(outcome.value) for outcome in outcomes]  # type: ignore[union-attr]  # see above


def test_folders_too_deep_to_be_removed_by_recursion(tmp_path: Path) -> None:
    """They would stay for ever, or end the coordinator with a RecursionError."""
    assert attempt(tmp_path, "limits", _DEEP) == ["worked", 3000]
