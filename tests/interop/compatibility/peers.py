"""The programs that ask the peers, and where the official Python port is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.interop.compatibility.verdict import Verdict, verdicts_from_json
from tests.interop.node_install import find_tools, installed_modules

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
NODE_PACKAGES = {"Node 6.7.0": "bullmq", "Node 5.81.5": "bullmq5"}
PORT_VERSION = "3.4.4"
PROBING_SECONDS = 600


def node_columns(socket_path: str) -> dict[str, dict[str, Verdict]]:
    """Ask both versions of BullMQ. Raises: NodeUnavailable."""
    tools = find_tools()
    modules = str(installed_modules(tools))
    script = str(FOLDER / "node_probes.mjs")
    return {
        title: verdicts_from_json(
            json.loads(_printed([tools.node, script, modules, package, socket_path]))
        )
        for title, package in NODE_PACKAGES.items()
    }


def port_column(socket_path: str) -> tuple[str, dict[str, Verdict]]:
    """Ask the official Python port; returns its title and what was found."""
    module = "tests.interop.compatibility.port_probes"
    found = json.loads(_printed([str(_port_python()), "-m", module, socket_path]))
    return f"Python port {found['version']}", verdicts_from_json(found["answers"])


def _printed(command: list[str]) -> str:
    shown = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=PROBING_SECONDS, check=True
    ).stdout
    # What a probe printed itself comes before the answer.
    return shown.strip().splitlines()[-1]


def _port_python() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sandboxq-tests" / f"bullmq-python-{PORT_VERSION}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", f"bullmq=={PORT_VERSION}"]
        subprocess.run(install, check=True)
        (folder / "ready").touch()
    return python
