"""Which queues a processor serves when none is named: those of its tasks, or of its own name.

A process of its own imports the module to find out: this one, which keeps the locks, runs no code
of users. A module with a processor is not imported: its text shows that it has one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from sandboxq.child.loader import LoadFailed, tasks_of
from sandboxq.child.sources import is_path, missing_text
from sandboxq.child.tasks import names_by_queue
from sandboxq.errors import ProcessorNotLoaded

_PROCESSOR = re.compile(
    r"^(?:async )?def process\b|^process\b.*=|^from .* import .*\bprocess\b", re.MULTILINE
)
_TASK = re.compile(r"\btask\b")
# Not -m: that puts the current folder first, where a json.py is another one's.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[2]); from sandboxq.cli.task_queues import main; main()"
)
# An import that takes longer is left to the worker, which says what is wrong with it.
_IMPORT_SECONDS = 60.0


def queues_served(processor: str) -> list[str]:
    """Return the queues that are served when none is named: of its tasks, or of its own name.

    Raises: ProcessorNotLoaded.
    """
    return queues_from_tasks(processor) or [queue_from_processor(processor)]


def queue_from_processor(processor: str) -> str:
    """Return the queue that a processor serves when none is named: its file's or module's stem.

    Raises:
        ProcessorNotLoaded: it can be neither, such as ``.``.
    """
    place = processor.partition(":")[0]
    if not place.strip(f".{os.sep}") or (is_path(place) and Path(place).is_dir()):
        raise ProcessorNotLoaded(missing_text(place))
    return Path(place).stem if is_path(place) else place.rpartition(".")[2]


def queues_from_tasks(processor: str) -> list[str]:
    """Return the queues of a module's tasks; none when it has none or cannot be imported."""
    return sorted(_names_by_queue(processor)) if _may_have_tasks(processor) else []


def _may_have_tasks(processor: str) -> bool:
    place, _, attribute = processor.partition(":")
    source = _source_of(place)
    if source is None:
        return True
    if attribute:
        return _TASK.search(source) is not None
    return _PROCESSOR.search(source) is None


def _source_of(place: str) -> str | None:
    """Return the text of a file or module, found without an import; None when it is not found."""
    if is_path(place):
        candidates = [Path(place)]
    else:
        parts = Path(*place.split("."))
        folders = [Path(folder) / parts for folder in sys.path]
        candidates = [
            each for at in folders for each in (at / "__init__.py", at.with_suffix(".py"))
        ]
    for each in candidates:
        try:
            if not each.is_file():  # a pipe would be waited for, a device has no end
                continue
            return each.read_text("utf-8", "replace")
        except (OSError, ValueError):
            continue
    return None


def _names_by_queue(processor: str) -> dict[str, list[str]]:
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as answer:  # noqa: PTH123 - a descriptor
        order = json.dumps({"path": sys.path, "processor": processor, "answer": writer})
        command = [sys.executable, "-P", "-c", _PROGRAM, order, str(Path(__file__).parents[2])]
        with subprocess.Popen(  # noqa: S603 - this module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writer],
        ) as process:
            os.close(writer)
            try:
                process.wait(_IMPORT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return {}
        # What it started may hold the pipe open: only what is there is read.
        os.set_blocking(reader, False)
        return _checked(answer.readline())


def _checked(text: str) -> dict[str, list[str]]:
    try:
        names: dict[str, list[str]] = json.loads(text)
    except ValueError:
        return {}
    return names


def main() -> None:
    """Import what the order names, and answer with the names of its tasks by their queue."""
    order = json.loads(sys.argv[1])
    sys.path[:] = order["path"]
    try:
        names = names_by_queue(tasks_of(order["processor"]))
    except LoadFailed:
        names = {}
    os.write(order["answer"], json.dumps(names).encode() + b"\n")
    os._exit(0)  # threads that the import has started do not keep it
