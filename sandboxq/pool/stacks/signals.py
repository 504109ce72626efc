"""What the kernel says of the signals of a process: proc(5), /proc/PID/status."""

from __future__ import annotations

from pathlib import Path


def is_caught(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal, which otherwise may end it."""
    return _has(_status(Path(f"/proc/{pid}/status")), "SigCgt", number)


def threads_that_block(pid: int, number: int) -> set[str]:
    """Return the threads that keep a signal out; one does so while it handles it."""
    tasks = _tasks(pid)
    return {task.name for task in tasks if _has(_status(task / "status"), "SigBlk", number)}


def is_pending(pid: int, number: int) -> bool:
    """Tell whether a process has not begun to handle a signal that it was sent."""
    return _has(_status(Path(f"/proc/{pid}/status")), "ShdPnd", number)


def state_of(pid: int) -> str:
    """Return what a process does, in the kernel's words: ``T (stopped)``; empty when it is gone."""
    return _status(Path(f"/proc/{pid}/status")).get("State", "")


def _has(status: dict[str, str], name: str, number: int) -> bool:
    return bool(int(status.get(name, "0"), 16) >> (number - 1) & 1)


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _status(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
