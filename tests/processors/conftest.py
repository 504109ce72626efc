"""Processors are loaded here as the worker loads them: by file path."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

PROCESSORS = Path(__file__).parents[2] / "processors"


@pytest.fixture
def load() -> Callable[[str], ModuleType]:
    """Return a function that loads the ready-made processor of this name."""

    def load_from_path(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(
            f"ready_made_{name}", PROCESSORS / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_from_path


@pytest.fixture
def run(load: Callable[[str], ModuleType]) -> Callable[[str, Any], Any]:
    """Return a function that calls ``process`` of a processor with a job of this data."""

    def call(name: str, data: Any) -> Any:
        return load(name).process(SimpleNamespace(data=data))

    return call
