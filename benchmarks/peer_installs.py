"""Installs the peers, each into a folder of its own under the user's cache, once per machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tests.interop.node_install import find_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

# BullMQ 6 leaves the Redis client to its user.
BULLMQ = {"bullmq": "6.7.0", "ioredis": "6.0.0"}
# The quicker parser and event loop, for every peer that can use them.
QUICK = ("hiredis==3.5.0", "uvloop==0.23.0")
# The versions of 2026-11; the first of each is the peer.
REQUIREMENTS = {
    "bullmq": ("bullmq==3.4.4", *QUICK),
    "celery": ("celery[redis]==5.7.0", *QUICK),
    "dramatiq": ("dramatiq[redis]==2.2.1", *QUICK),
    "rq": ("rq==3.0.0", *QUICK),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4", *QUICK),
    "arq": ("arq==0.28.0", *QUICK),
    # It imports typing_extensions without asking for it.
    "saq": ("saq[redis]==0.26.4", "typing_extensions", *QUICK),
    "huey": ("huey==3.5.4", "redis==8.1.0", *QUICK),
}
INSTALL_SECONDS = 600


def python_packages(peer: str) -> Path:
    """Return the ``bin`` folder of the peer's virtual environment; the first call makes it."""
    # The same Pillow as here, where it may come to resizing photographs.
    wanted = (*REQUIREMENTS[peer], f"pillow=={metadata.version('pillow')}")
    # A virtual environment cannot be moved once it is there: it is made in place, then marked.
    folder = _cache_folder() / f"{peer}-{_digest([sys.version, *wanted])}"
    mark = folder / "installed.txt"
    if not mark.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin/pip"), "install", "--quiet", *wanted])
        mark.write_text("\n".join(wanted), encoding="utf-8")
    return folder / "bin"


def node_packages() -> tuple[str, Path]:
    """Return the path of node and a ``node_modules`` folder with BullMQ in it."""
    tools = find_tools()
    folder = _cache_folder() / f"bullmq-node-{_digest([json.dumps(BULLMQ)])}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as building:
            wanted = {"private": True, "dependencies": BULLMQ}
            Path(building, "package.json").write_text(json.dumps(wanted), encoding="utf-8")
            # With the optional native parts, which come built: the quickest BullMQ there is.
            flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
            path = f"{Path(tools.node).parent}{os.pathsep}{os.environ.get('PATH', '')}"
            _run([*tools.npm, "install", *flags], cwd=building, path=path)
            shutil.copytree(building, folder, symlinks=True)
    return tools.node, folder / "node_modules"


def version(peer: str) -> str:
    """Return what is said of a peer in the results."""
    if peer == "bullmq-node":
        node, _ = node_packages()
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
        return f"bullmq (npm) {BULLMQ['bullmq']} on Node {said.stdout.strip()}"
    return REQUIREMENTS[peer][0].replace("==", " ")


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sandboxq-benchmarks"


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


def _run(command: Sequence[str], *, cwd: str | None = None, path: str | None = None) -> None:
    environment = os.environ | ({"PATH": path} if path else {})
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        message = f"{' '.join(command)} failed:\n{done.stderr[-2000:]}"
        raise SystemExit(message)
