"""Every code block of every page is run, or says why not."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from sandboxq import close_tasks
from sandboxq.errors import MechanismMissing
from sandboxq.sandbox.policy import Policy
from sandboxq.sandbox.support import require
from tests.broker.servers import StoppableServer
from tests.conftest import run_async
from tests.docs.pages import ROOT, Block, blocks, pages
from tests.examples.runner import Node, PageRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def is_run(block: Block) -> bool:
    """Tell whether the runner does something with a block."""
    return block.why_not is None and not block.is_shown


def is_named(file: str, block: Block) -> bool:
    """Tell whether a block uses a file: by its name, or as a module."""
    return re.search(rf"\b{re.escape(file.partition('.')[0])}\b", block.text) is not None


def name_of(page: Path) -> str:
    """Return what a page is called in the names of tests."""
    return str(page.relative_to(ROOT))


def photographs(directory: Path) -> None:
    """Lay there what the page about pictures takes for granted."""
    from PIL import Image

    for folder in ("photos", "thumbs"):
        (directory / folder).mkdir()
    Image.new("RGB", (64, 48), "orange").save(directory / "a.jpg")


# What readers have of their own.
BESIDE: dict[str, Callable[[Path], None]] = {
    "README.md": photographs,
    "docs/index.md": photographs,
}
RUN = [page for page in pages() if any(map(is_run, blocks(page)))]


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Node]]:
    """Return a function that returns what Node programs need, or skips."""
    from tests.interop.node_install import NodeUnavailable, find_tools, installed_modules

    with ExitStack() as opened:

        def ready() -> Node:
            try:
                tools = find_tools()
                modules = installed_modules(tools)
            except NodeUnavailable as error:
                pytest.skip(str(error))
            server = StoppableServer(tmp_path_factory.mktemp("redis"))
            server.start()
            opened.callback(server.stop)
            return Node(tools.node, modules / "node_modules", server.url)

        yield ready


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_blocks_do_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Callable[[], Node]
) -> None:
    """On the embedded server, with nothing set up, as a reader would."""
    found = blocks(page)
    if any("--policy strict" in block.text for block in found if is_run(block)):
        try:
            require(Policy("strict"))
        except MechanismMissing as missing:
            pytest.skip(str(missing))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("SANDBOXQ_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    if name_of(page) in BESIDE:
        BESIDE[name_of(page)](tmp_path)
    try:
        run_async(PageRunner(tmp_path, monkeypatch.setenv, node).run(found))
    finally:
        close_tasks()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_no_block_is_left_out_in_silence(page: Path) -> None:
    """A file that no command runs is not tried by being written."""
    found = [block for block in blocks(page) if is_run(block)]
    unused = [
        str(block)
        for block in found
        if block.name and not any(is_named(block.name, each) for each in found if each is not block)
    ]
    assert unused == []
    assert [str(block) for block in blocks(page) if block.why_not == ""] == []
