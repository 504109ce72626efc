"""docs/how-to/queues.md, run from top to bottom: it prints what it says."""

from __future__ import annotations

import ast
import inspect
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import run_async

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "queues.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAYS = re.compile(r"^ *print\(.*?\) +# (.*)$", re.MULTILINE)


def blocks() -> list[str]:
    """Return the page's examples."""
    return BLOCK.findall(PAGE.read_text())


async def run_block(text: str, names: dict[str, Any]) -> None:
    """Run one as ``python -m asyncio`` would."""
    code = compile(text, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(code, CodeType)
    result: Coroutine[Any, Any, None] | None = eval(code, names)  # noqa: S307 - our own page
    if inspect.iscoroutine(result):
        await result


async def run_all(examples: list[str]) -> list[tuple[str, list[str]]]:
    """Run them; return each with what it printed."""
    printed: list[str] = []
    names: dict[str, Any] = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    seen = []
    for text in examples:
        printed.clear()
        await run_block(text, names)
        seen.append((text, list(printed)))
    return seen


@contextmanager
def worker_beside(directory: Path) -> Iterator[None]:
    """Run the page's worker, in a process of its own: the blocking examples stop this loop."""
    command = [sys.executable, "-m", "sandboxq", "run", "images.py", "--procs", "1"]
    process = subprocess.Popen(command, cwd=directory)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.mark.timeout(120)
def test_every_example_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the embedded server, with nothing set up, as a reader would."""
    monkeypatch.chdir(tmp_path)
    for name in ("SANDBOXQ_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    processor, *examples = blocks()
    (tmp_path / "images.py").write_text(processor)

    with worker_beside(tmp_path):
        seen = run_async(run_all(examples))

    for text, printed in seen:
        assert printed == SAYS.findall(text), text
