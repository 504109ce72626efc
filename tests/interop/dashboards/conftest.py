"""Chromium and the dashboards: one browser for all tests, the dashboards anew for each queue."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.interop.dashboards.browser import Browser
from tests.interop.node_driver import NodeDriver
from tests.interop.node_install import NodeTools, NodeUnavailable, installed_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent
# Where to keep the pictures of the pages for people; a temporary folder when it is not set.
SHOTS_VARIABLE = "SANDBOXQ_DASHBOARD_SHOTS"
# The first answer comes when Chromium is up.
START_SECONDS = 60.0
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of a Chromium, or skip."""
    for name in CHROMIUM_NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip(f"none of {', '.join(CHROMIUM_NAMES)} on PATH")


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the pictures."""
    wanted = os.environ.get(SHOTS_VARIABLE)
    folder = Path(wanted) if wanted else tmp_path_factory.mktemp("dashboards")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser_driver(
    node_tools: NodeTools,
    chromium: str,
    server_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[NodeDriver]:
    """Start Chromium under driver.mjs, or skip where its packages cannot be had."""
    try:
        modules = installed_modules(node_tools, FOLDER)
    except NodeUnavailable as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("chromium")
    script, socket_path = str(FOLDER / "driver.mjs"), server_url.removeprefix("unix://")
    places = [str(modules), socket_path, chromium, str(folder / "profile")]
    driver = NodeDriver([node_tools.node, script, *places], folder / "driver.log")
    yield driver
    driver.close()


@pytest.fixture
def browser(browser_driver: NodeDriver, queue_name: str, shots: Path) -> Iterator[Browser]:
    """Return the browser, with both dashboards showing this test's queue."""
    port = browser_driver.ask("open", queues=[queue_name]).result(START_SECONDS)
    yield Browser(browser_driver, port, shots)
    browser_driver.ask("leave").result(START_SECONDS)
