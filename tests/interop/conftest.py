"""Fixtures of the interop tests: a Node driver for each supported BullMQ, and async test bodies."""

from __future__ import annotations

import inspect
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_async
from tests.interop.node_driver import NodeDriver, NodeSide
from tests.interop.node_install import (
    NODE_FOLDER,
    NodeTools,
    NodeUnavailable,
    find_tools,
    installed_modules,
)
from tests.interop.our_side import OurSide
from tests.interop.pair import Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# npm names of the packages in node/package.json, by the version that they hold.
BULLMQ_PACKAGES = {"5.81": "bullmq5", "6.7": "bullmq"}
# Those whose jobs may still lie in a queue, as a Redis is older than the code around it.
OLD_PACKAGES = {"4.18": "bullmq4", "5.1": "bullmq5old"}
# Put on a module that has no need of each supported version.
NEWEST_ONLY = pytest.mark.parametrize("bullmq_version", ["6.7"], indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that `-m "not interop"` leaves it out."""
    for item in items:
        if item.path.is_relative_to(NODE_FOLDER.parent):
            item.add_marker(pytest.mark.interop)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests of this folder on uvloop: most of them talk to two sides at once."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    run_async(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def node_tools() -> NodeTools:
    """Return node and npm, or skip."""
    try:
        return find_tools()
    except NodeUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def node_modules(node_tools: NodeTools) -> Path:
    """Return the folder with the installed npm packages, or skip."""
    try:
        return installed_modules(node_tools)
    except NodeUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=BULLMQ_PACKAGES)
def bullmq_version(request: pytest.FixtureRequest) -> str:
    """Return each supported version of BullMQ in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def new_driver(
    node_tools: NodeTools,
    node_modules: Path,
    server_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., NodeDriver]]:
    """Return a function that gives a Node process with a version of BullMQ; it is started once.

    It talks to the tests' server, unless given the ``hosts`` of a cluster.
    """
    drivers: dict[tuple[str, str], NodeDriver] = {}

    def start(version: str, *, hosts: str = "") -> NodeDriver:
        if (version, hosts) in drivers:
            return drivers[version, hosts]
        log_path = tmp_path_factory.mktemp("node") / f"driver-{version}.log"
        script, place = NODE_FOLDER / "driver.mjs", hosts or server_url.removeprefix("unix://")
        package = {**BULLMQ_PACKAGES, **OLD_PACKAGES}[version]
        command = [node_tools.node, str(script), str(node_modules), package, place]
        return drivers.setdefault((version, hosts), NodeDriver(command, log_path))

    yield start
    for driver in drivers.values():
        driver.close()


@pytest.fixture(scope="session")
def node_driver(new_driver: Callable[..., NodeDriver], bullmq_version: str) -> NodeDriver:
    """Return a running Node process with this version of BullMQ."""
    return new_driver(bullmq_version)


@pytest.fixture
def node(node_driver: NodeDriver, queue_name: str, bullmq_version: str) -> Iterator[NodeSide]:
    """Return Node's side of this test's queue; everything it opened is closed afterwards."""
    yield NodeSide(node_driver, queue_name, bullmq_version)
    node_driver.ask("leave", queue=queue_name).result(60)


@pytest.fixture
def ours(queue_name: str, server_url: str) -> OurSide:
    """Return sandboxq's side of this test's queue."""
    return OurSide(queue_name, server_url)


@pytest.fixture
def twin(node: NodeSide) -> Iterator[NodeSide]:
    """Return Node's side of a second queue, for what sandboxq does."""
    twin = NodeSide(node.driver, f"q-{uuid.uuid4().hex[:12]}", node.version)
    yield twin
    node.driver.ask("leave", queue=twin.queue_name).result(60)


@pytest.fixture
def our_twin(twin: NodeSide, server_url: str) -> OurSide:
    """Return our side of the second queue."""
    return OurSide(twin.queue_name, server_url)


@pytest.fixture
def pair(node: NodeSide, twin: NodeSide, server_url: str) -> Iterator[Pair]:
    """Return both queues together, each with a second one for children."""
    pair = Pair(node, twin, server_url)
    yield pair
    for side in (node, twin):
        node.driver.ask("leave", queue=pair.children(side).queue_name).result(60)
