"""The scripts that others wrote are those that were fetched, each with its licence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.web.vendor import FOLDERS, checksum, manifest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("folder", FOLDERS, ids=["shipped", "for tests"])
def test_files_are_those_that_were_fetched(folder: Path) -> None:
    """A file that was changed by hand, or came from elsewhere, is found here."""
    packages = manifest(folder)
    files = [each for package in packages for each in package["files"]]

    assert {each["file"]: checksum(folder / each["file"]) for each in files} == {
        each["file"]: each["sha256"] for each in files
    }
    assert {path.name for path in folder.iterdir()} == {
        "vendor.json",
        *(each["file"] for each in files),
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=["shipped", "for tests"])
def test_each_package_brings_its_licence(folder: Path) -> None:
    """What is passed on names the terms under which it may be."""
    for package in manifest(folder):
        assert package["licence"]
        assert any(each["file"].endswith(".LICENSE") for each in package["files"])
