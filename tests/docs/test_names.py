"""What the pages about the inside name exists: files, classes, functions, sections."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, prose, texts

CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w/]+\.(?:py|lua)")
CLASS = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)*")
FUNCTION = re.compile(r"(?:[a-z_]\w*\.)?([a-z_]\w*)\(\)")
# A name in a module: ``outcome.decide``.
MEMBER = re.compile(r"([a-z_]+)\.([a-z_]+)")
SECTION = re.compile(r"protocol\.md (\d+(?:\.\d+)?)")
PACKAGE = ROOT / "sandboxq"
BASES = [ROOT, PACKAGE, PACKAGE / "broker", PACKAGE / "broker" / "lua"]
# Of BullMQ, or of Python.
FOREIGN = {"MemoryError", "AssertionError", "ProcessPoolExecutor"}
INSIDE = [page for page in sorted((DOCS / "internals").glob("*.md")) if page.name != "protocol.md"]


def sources() -> str:
    """Return all of the package's source."""
    return "\n".join(
        text for path, text in texts().items() if path.is_relative_to(ROOT / "sandboxq")
    )


def is_file(name: str) -> bool:
    """Tell whether a page names a file: from the top, from the package, or from its scripts."""
    return any((base / name).is_file() for base in BASES)


def is_member(module: str, name: str) -> bool:
    """Tell whether a module has such a name; what is no module of ours may have any."""
    modules = list(PACKAGE.rglob(f"{module}.py"))
    return not modules or any(re.search(rf"\b{name}\b", each.read_text()) for each in modules)


@pytest.mark.parametrize("page", INSIDE, ids=lambda page: page.name)
def test_names_exist(page: Path) -> None:
    """Somebody looks for them next."""
    source = sources()
    missing = []
    for code in CODE.findall(prose(page)):
        if FILE.fullmatch(code):
            missing += [] if is_file(code) else [code]
        elif CLASS.fullmatch(code):
            is_there = code in FOREIGN or re.search(rf"class {code}\b", source)
            missing += [] if is_there else [code]
        elif found := FUNCTION.fullmatch(code):
            missing += [] if re.search(rf"def {found[1]}\b", source) else [code]
        elif found := MEMBER.fullmatch(code):
            missing += [] if is_member(*found.groups()) else [code]
    assert missing == []


def test_files_of_the_protocol_page_exist() -> None:
    """It names scripts and modules between the names of keys."""
    page = DOCS / "internals" / "protocol.md"
    files = {code for code in CODE.findall(prose(page)) if FILE.fullmatch(code)}
    assert {each for each in files if not is_file(each)} == set()


def test_sections_that_the_code_names_exist() -> None:
    """Each script says which section of the protocol it is."""
    headings = re.findall(
        r"^#+ (\d+(?:\.\d+)?)[. ]", (DOCS / "internals" / "protocol.md").read_text(), re.MULTILINE
    )
    named = {
        (section, path.name)
        for path, text in texts().items()
        for section in SECTION.findall(text)
        if path != Path(__file__)
    }
    assert named
    assert {each for each in named if each[0] not in headings} == set()


def test_texts_of_code_name_pages_that_exist() -> None:
    """Nothing refers to a document that is not in the repository."""
    pages = {page.name for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]}
    named = {
        name
        for path, text in texts().items()
        if path.is_relative_to(ROOT / "sandboxq")
        for name in re.findall(r"\b([a-z][\w-]*\.md)\b", text)
    }
    assert named <= pages
