"""Runs the code blocks of one page from top to bottom, as a reader would.

# name.py, // name.mjs   a file, written beside the others
python                   as in ``python -m asyncio``: one session for the page; of
                         ``print(…)  # text`` it is compared what is printed
sh                       line by line; workers run in the background until the page ends
                         ``npm install`` links those packages, which npm has installed before
js                       by Node, with BullMQ from npm; a page's Redis by TCP is a real one
after <!-- prints -->    what the block before has printed
after <!-- not run: why -->, and drawings, answers, data: not at all
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import signal
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.docs.pages import Block

# A page's commands take seconds; a machine under load needs many more.
COMMAND_SECONDS = 120
SAYS = re.compile(r"^ *print\(.*\) +# (.*)$")
WORKER = re.compile(r"^(?:\w+=\S+ )*python -m sandboxq run (?!.*--burst)")
EXPORT = re.compile(r"^export (\w+)=(\S+)")
# The last line of what a worker says at its start.
STARTED = " locks "
# Where a page's programs find Redis by TCP.
NODE_URL = "redis://localhost:6379"


class Node(NamedTuple):
    """What Node programs need: the program, installed packages, and a server by TCP."""

    program: str
    modules: Path
    url: str


class PageRunner:
    """One page in a directory of its own, on the embedded server there."""

    def __init__(
        self, directory: Path, set_variable: Callable[[str, str], None], node: Callable[[], Node]
    ) -> None:
        """``set_variable`` sets one for this process too, until the test ends."""
        self._directory = directory
        self._set_variable = set_variable
        self._find_node = node
        self._workers: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._printed: list[tuple[int, str]] = []
        self._output = ""
        self._names: dict[str, Any] = {"__name__": "__main__", "print": self._print}

    async def run(self, blocks: list[Block]) -> None:
        """Run them, and end what was started."""
        try:
            for block in blocks:
                await self._run_block(block)
            self._end_workers()
        finally:
            for process, _ in self._workers:
                process.kill()
                process.wait()

    async def _run_block(self, block: Block) -> None:
        if block.is_output:
            assert self._output == block.text, str(block)
        elif block.why_not is not None or block.is_shown:
            pass
        elif block.name is not None:
            (self._directory / block.name).write_text(self._here(block.text))
        elif block.language == "python":
            await self._run_python(block)
        elif block.language == "sh":
            self._run_shell(block)
        elif block.language == "js":
            self._run_node(block)
        else:
            message = f"{block}: nothing runs blocks of the language {block.language!r}"
            raise AssertionError(message)

    def _print(self, *values: object) -> None:
        self._printed.append((sys._getframe(1).f_lineno, " ".join(map(str, values))))

    async def _run_python(self, block: Block) -> None:
        self._printed.clear()
        text = "\n" * (block.line - 1) + block.text
        code = compile(text, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert isinstance(code, CodeType)
        result = eval(code, self._names)  # noqa: S307 - our own page
        if inspect.iscoroutine(result):
            await result
        self._output = "".join(f"{text}\n" for _, text in self._printed)
        for number, line in enumerate(block.text.splitlines(), block.line):
            if says := SAYS.match(line):
                printed = [text for at, text in self._printed if at == number]
                assert printed == [says[1]], f"{block}: line {number}"

    def _run_shell(self, block: Block) -> None:
        self._output = ""
        for line in self._here(block.text).replace("\\\n", "").splitlines():
            if line.startswith("npm install "):
                self._link_packages(line.split()[2:])
            elif export := EXPORT.match(line):
                self._set_variable(export[1], export[2])
            elif WORKER.match(line):
                self._start_worker(line)
            else:
                done = subprocess.run(
                    ["bash", "-c", line], cwd=self._directory, env=self._environment(), text=True,
                    capture_output=True, timeout=COMMAND_SECONDS, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{block}: {line}\n{done.stdout}{done.stderr}"
                self._output += done.stdout

    def _here(self, text: str) -> str:
        """Return the text with the address of the server that there is."""
        return text.replace(NODE_URL, self._node.url) if NODE_URL in text else text

    @cached_property
    def _node(self) -> Node:
        return self._find_node()

    def _link_packages(self, names: Iterable[str] = ()) -> None:
        packages = self._directory / "node_modules"
        if not packages.exists():
            packages.symlink_to(self._node.modules)
        assert all((packages / name).is_dir() for name in names), names

    def _environment(self) -> dict[str, str]:
        programs = os.path.dirname(sys.executable)  # noqa: PTH120 - a link must stay one
        if (self._directory / "node_modules").exists():
            programs = f"{programs}:{Path(self._node.program).parent}"
        return os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}

    def _start_worker(self, line: str) -> None:
        log = self._directory / f"worker-{len(self._workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"{re.sub('python -m', 'exec python -m', line, count=1)}"],
                cwd=self._directory, env=self._environment(), stdout=output, stderr=output,
            )  # fmt: skip
        self._workers.append((process, log))
        wait_until(lambda: process.poll() is not None or STARTED in log.read_text())
        assert process.poll() is None, log.read_text()

    def _end_workers(self) -> None:
        """Stop them as Ctrl-C does."""
        for process, log in self._workers:
            process.send_signal(signal.SIGINT)
            assert process.wait(COMMAND_SECONDS) == 0, log.read_text()

    def _run_node(self, block: Block) -> None:
        self._link_packages()
        program = self._directory / f"line-{block.line}.mjs"
        program.write_text(self._here(block.text))
        done = subprocess.run(
            [self._node.program, str(program)], cwd=self._directory, text=True, capture_output=True,
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        self._output = done.stdout
