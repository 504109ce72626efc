"""A module of tasks of a random queue, as a producer and as a worker have it."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import close_tasks, connect_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def module_of(
    tmp_path: Path, server_url: str, queue_name: str
) -> Iterator[Callable[[str], tuple[Path, Any]]]:
    """Write a module, import it here; QUEUE in its text is the test's queue."""
    connect_tasks(server_url)
    name = f"tasks_{queue_name.replace('-', '_')}"

    def made(text: str) -> tuple[Path, Any]:
        path = tmp_path / f"{name}.py"
        path.write_text(text.replace("QUEUE", repr(queue_name)))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look for their annotations
        spec.loader.exec_module(module)
        return path, module

    yield made
    sys.modules.pop(name, None)
    close_tasks()
    connect_tasks(None)
