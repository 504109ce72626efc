"""Fixtures of the broker tests: a queue on each kind of server."""

from __future__ import annotations

import shutil
import subprocess
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

import pytest

from tests.broker.case import Case
from tests.broker.servers import StoppableServer
from tests.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a private redis-server, the one that the system has."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server is installed")
    directory = tmp_path_factory.mktemp("redis")
    path = directory / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir"]
    process = subprocess.Popen([*command, str(directory)], stdout=subprocess.DEVNULL)

    def is_up() -> bool:
        with socket(AF_UNIX, SOCK_STREAM) as probe:
            return probe.connect_ex(str(path)) == 0

    try:
        wait_until(is_up)
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoppableServer]:
    """Run a server that this test may stop."""
    with StoppableServer(tmp_path) as running:
        yield running


@pytest.fixture(params=["server_url", "redis_url"], ids=["valkey", "redis"])
def case(request: pytest.FixtureRequest, queue_name: str) -> Iterator[Case]:
    """Yield an empty queue, once on Valkey and once on Redis."""
    case = Case(request.getfixturevalue(request.param), queue_name)
    yield case
    case.redis.close()
