"""One suite for every kind of children: what a pool promises, whatever its children are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from sandboxq.pool.kinds import Kind
from tests.pool.caller import open_pool

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.pool.caller import Caller


class Open(Protocol):
    """Opens a pool of the kind under test."""

    def __call__(self, processor: Path, **settings: Any) -> AbstractAsyncContextManager[Caller]:
        """Return what opens a pool of this kind of children."""


@pytest.fixture(params=list(Kind), ids=lambda kind: kind.value)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Return each kind in turn."""
    found: Kind = request.param
    if found is Kind.INTERPRETER and sys.version_info < (3, 14):
        pytest.skip("concurrent.interpreters came with Python 3.14")
    return found


@pytest.fixture
def open_kind(kind: Kind) -> Open:
    """Return what opens pools of this kind."""

    def opener(processor: Path, **settings: Any) -> AbstractAsyncContextManager[Caller]:
        return open_pool(processor, kind=kind, **settings)

    return opener
