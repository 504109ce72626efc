"""The documentation site: built without a warning, complete, and of use without a network."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

import sandboxq
from sandboxq.cli.main import cli
from sandboxq.config import WorkerOptions
from tests.docs.pages import DOCS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTED = re.compile(r"^::: sandboxq\.(\w+)$", re.MULTILINE)
# What a browser fetches by itself, other than links that a reader follows.
FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\s\">]*")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as ``poe docs`` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(  # noqa: PLW1510 - what it says is looked at first
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_every_public_name_has_its_place() -> None:
    """Nobody reads a docstring that is on no page; twice it would be found twice."""
    pages = (page.read_text() for page in (DOCS / "reference" / "api").glob("*.md"))
    names = [name for page in pages for name in DOCUMENTED.findall(page)]
    assert sorted(names) == sorted(set(sandboxq.__all__) - {"__version__"})


@pytest.mark.timeout(300)
def test_names_and_options_are_shown(site: Path) -> None:
    """Docstrings and options come from the code."""
    api = "".join(page.read_text() for page in (site / "reference" / "api").glob("*.html"))
    for name in set(sandboxq.__all__) - {"__version__"}:
        assert re.search(rf'id="?sandboxq[.\w]*\.{name}["\s>]', api), name
    shown = html.unescape((site / "reference" / "commands.html").read_text())
    missing = [each for each in options(cli, click.Context(cli)) if f"{each}" not in shown]
    assert missing == []


@pytest.mark.timeout(300)
def test_blocking_methods_are_shown_as_methods(site: Path) -> None:
    """With the text of the asynchronous ones: in the code each of them is one line."""
    queues = html.unescape((site / "reference" / "api" / "queues.html").read_text())
    text = re.sub("<[^>]*>", "", queues)
    assert text.count("Return how many jobs are in each state, or in these") == 2
    assert "blocking(" not in text


@pytest.mark.timeout(300)
def test_every_option_of_a_worker_is_shown(site: Path) -> None:
    """They are typed apart from ``Worker``, whose signature shows none of them."""
    shown = (site / "reference" / "api" / "workers.html").read_text()
    assert [
        name for name in WorkerOptions.__annotations__ if f"<code>{name}</code>" not in shown
    ] == []


def options(command: click.Command, context: click.Context) -> list[str]:
    """Return the name of every option of a command and of those below it."""
    found = [
        name
        for each in command.params
        if isinstance(each, click.Option) and each.help != "Show the version and exit."
        for name in each.opts
    ]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += options(inner, click.Context(inner, parent=context))
    return found


@pytest.mark.timeout(300)
def test_nothing_is_fetched_from_other_hosts(site: Path) -> None:
    """It is read in trains and behind firewalls, and nobody is to learn who reads it."""
    for page in site.rglob("*.html"):
        assert FETCHED.findall(page.read_text()) == [], page
    for style in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text()) == []


@pytest.mark.timeout(300)
def test_search_needs_no_server(site: Path) -> None:
    """The index lies beside the pages, as a script too: a file: page may fetch nothing."""
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {each["location"] for each in index["docs"]}
    assert {"index.html", "reference/deaths.html", "reference/api/queues.html"} <= found
    assert (site / "search" / "search_index.js").exists()
    assert "iframe-worker.js" in (site / "index.html").read_text()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.timeout(300)
def test_a_browser_finds_words_without_a_server(site: Path, tmp_path: Path) -> None:
    """It starts no worker script from a file: page; ours runs in a frame there."""
    page = f"{(site / 'index.html').as_uri()}?q=stalled"
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
    ]
    command += ["--virtual-time-budget=20000", "--dump-dom", page]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"[1-9]\d* matching documents", done.stdout)
