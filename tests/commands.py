"""Commands, each in a process of its own that is forked where all of it is imported already.

Some hundred are run: half a second of imports each would be most of what they cost. How a command
starts is tested where it is started as users start it, as in tests/cli/test_processor_names.py.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 60.0
_NAMES = ("in", "out", "err")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "tests.commands",
        "sandboxq.__main__",
        *(
            f"sandboxq.cli.{name}"
            for name in ("add", "dump", "jobs", "main", "operating", "removing", "stats")
        ),
    ]
)


def run_command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``python -m sandboxq ARGUMENTS`` and return its exit code and what it has written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").write_text(stdin)
        process = _FORKS.Process(target=_main, args=(name, arguments, dict(os.environ)))
        process.start()
        process.join(SECONDS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
        out, err = ((folder / each).read_text() for each in _NAMES[1:])
    if code is None:
        raise subprocess.TimeoutExpired(arguments, SECONDS, out, err)
    return subprocess.CompletedProcess(arguments, code, out, err)


def _main(folder: str, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """Be the command: ``folder`` has the files that are its standard streams."""
    from sandboxq import __main__

    for number, name in enumerate(_NAMES):
        flags = os.O_RDONLY if name == "in" else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        opened = os.open(f"{folder}/{name}", flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [__main__.__file__, *arguments]
    __main__.main()
