"""Fetches the scripts that others wrote and the page ships as files: ``poe vendor``.

The versions stand in ``vendor.json`` beside the files, with the checksum of each; a version that is
changed there is fetched by the next call, which writes the new checksums. ``test_vendor`` compares
them. axe-core is used by the browser tests only and lies beside those.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
FOLDERS = (_ROOT / "sandboxq/web/static/vendor", _ROOT / "tests/web/browser/vendor")


def manifest(folder: Path) -> list[dict[str, Any]]:
    """Return what lies in a folder: package, version, licence, and its files with checksums."""
    packages: list[dict[str, Any]] = json.loads((folder / "vendor.json").read_text())
    return packages


def checksum(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Fetch every package again, and write its files, its licence and their checksums."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("this needs npm")
    for folder in FOLDERS:
        packages = manifest(folder)
        for package in packages:
            _fetch(npm, package, folder)
        (folder / "vendor.json").write_text(json.dumps(packages, indent=2) + "\n")


def _fetch(npm: str, package: dict[str, Any], folder: Path) -> None:
    name = f"{package['package']}@{package['version']}"
    with tempfile.TemporaryDirectory() as work:
        command = [npm, "pack", "--silent", "--pack-destination", work, name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(work).glob("*.tgz")
        with tarfile.open(archive) as unpacked:
            for each in package["files"]:
                member = unpacked.extractfile(f"package/{each['from']}")
                assert member is not None, f"{name} has no {each['from']}"
                path = folder / each["file"]
                path.write_bytes(member.read())
                each["sha256"] = checksum(path)
    print(name, *(each["file"] for each in package["files"]))  # noqa: T201


if __name__ == "__main__":
    main()
