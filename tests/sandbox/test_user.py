"""Another user's identity for children: with an interpreter that this user can read, or refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import sandboxq
from sandboxq.errors import ChildStartFailed
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

_PROCESSOR = """
import os, tempfile
def process(job):
    import colorsys  # not before: it is read as that user
    with tempfile.NamedTemporaryFile() as file:
        own = os.stat(file.name).st_uid
    return [os.getresuid(), os.getresgid(), os.getgroups(), own]
"""
_COORDINATOR = """
import asyncio, json, sys
from sandboxq.child.frames import encode_call
from sandboxq.pool.pool import Call, Pool
from sandboxq.sandbox.policy import Policy
from sandboxq.observe.telemetry import Telemetry

class Listener:
    def on_outcome(self, call, outcome, seconds): ended.set_result(outcome)
    def __getattr__(self, name): return lambda *_: None

async def main():
    global ended
    ended = asyncio.get_running_loop().create_future()
    pool = Pool(sys.argv[1], size=1, listener=Listener(), queue_name="q", telemetry=Telemetry(),
                policy=Policy("strict", user="nobody"))
    await pool.start(20)
    pool.submit(Call(b"1", encode_call(job_id=b"1", name=b"n", data=b"null")))
    outcome = await ended
    print(getattr(outcome, "value", outcome))
    await pool.stop(timeout=5)

asyncio.run(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder that everybody may read; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="sandboxq-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_interpreter_that_everybody_can_read(open_folder: Path) -> None:
    """The child is that user for good, reads modules as that user, and has a directory of its own.

    A copy of this interpreter's standard library stands for one under /usr.
    """
    library = Path(sysconfig.get_path("stdlib"))
    unused = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "config-*")
    home = open_folder / "python"
    shutil.copytree(library, home / "lib" / library.name, ignore=unused, symlinks=True)
    (home / "bin").mkdir()
    python = shutil.copy2(Path(sys.executable).resolve(), home / "bin" / "python3")
    package = Path(sandboxq.__file__).parent
    shutil.copytree(package, open_folder / "code" / "sandboxq")
    environment = {**os.environ, "PYTHONHOME": str(home), "PYTHONPATH": str(open_folder / "code")}
    path = str(processor_file(open_folder, _PROCESSOR))

    done = subprocess.run(
        [python, "-c", _COORDINATOR, path],
        env=environment,
        cwd=open_folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    nobody = 65534
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"b'[{[nobody] * 3},{[nobody] * 3},[],{nobody}]'".replace(" ", "")


def test_sources_that_this_user_cannot_read(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each import of a job would fail: refused at the start, with what would help."""
    closed = open_folder / "private"
    closed.mkdir(0o700)
    monkeypatch.syspath_prepend(str(closed))
    path = processor_file(open_folder, _PROCESSOR)

    async def main() -> None:
        async with open_pool(path, policy=Policy("strict", user="nobody")):
            pass

    with pytest.raises(ChildStartFailed, match=r"cannot read .*What helps: an interpreter"):
        run_async(main())
