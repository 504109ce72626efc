"""The pytest plugin: fixtures for tests of code that adds jobs, and of processors.

    sandboxq           everything below, as methods: see sandboxq.integrations.pytest.testing
    sandboxq_queue     sandboxq_queue("images") is a queue on a server of the test session
    sandboxq_worker    sandboxq_worker("images", "app/resize.py") is a worker of it
    sandboxq_inline    sandboxq_inline("images", "app.resize") runs jobs where they are added

pytest imports this module in every run: it imports nothing until a fixture is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandboxq.integrations.pytest.testing import SandboxqTesting
    from sandboxq.integrations.pytest.worker import WorkerOfTest
    from sandboxq.queue.queue import SyncQueue


@pytest.fixture(scope="session")
def sandboxq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a server that lives as long as the test session, one of each xdist worker.

    It is a Valkey from a package that sandboxq depends on: nothing is to be installed.
    """
    from sandboxq.integrations.pytest.server import private_server  # noqa: PLC0415 - see above

    with private_server(tmp_path_factory.mktemp("sandboxq", numbered=True)) as url:
        yield url


@pytest.fixture
def sandboxq(sandboxq_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxqTesting]:
    """Return what a test does with queues; they are empty, and ``$SANDBOXQ_URL`` names the server.

    Code under test that opens a queue without a URL has this server.
    """
    from sandboxq.integrations.pytest.testing import SandboxqTesting  # noqa: PLC0415 - see above

    monkeypatch.setenv("SANDBOXQ_URL", sandboxq_server)
    with SandboxqTesting(sandboxq_server) as testing:
        yield testing


@pytest.fixture
def sandboxq_queue(sandboxq: SandboxqTesting) -> Callable[[str], SyncQueue]:
    """Return ``sandboxq.queue``: a blocking queue by its name."""
    return sandboxq.queue


@pytest.fixture
def sandboxq_worker(sandboxq: SandboxqTesting) -> Callable[..., WorkerOfTest]:
    """Return ``sandboxq.worker``: a real worker of a queue, by name and processor."""
    return sandboxq.worker


@pytest.fixture
def sandboxq_inline(sandboxq: SandboxqTesting) -> Callable[..., None]:
    """Return ``sandboxq.inline``: from then on, whoever adds a job gets back when it has run."""
    return sandboxq.inline
