"""What a child may use, as the user says it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sandboxq.errors import UsageError
from sandboxq.model.validation import (
    checked_flag,
    checked_text,
    checked_whole,
    waiting_seconds,
)

NAMES = ("none", "limits", "strict")

# Open files: more than usual work needs; a leak of files ends as an error.
FILES = 4096
# One file of this size is a mistake more often than a result.
FILE_SIZE = 16 << 30
# What a job has in temporary files at once, deleted ones that are open included.
SCRATCH = 64 << 30
# Seconds of CPU: with less no job would begin.
SHORTEST_CPU = 0.001
# Processes at once, of all that a job starts; a fork bomb reaches it within a second.
PROCESSES = 512
# The settings that ``none`` has not, with their defaults.
_LIMITS = {
    "memory": None,
    "files": FILES,
    "file_size": FILE_SIZE,
    "scratch": SCRATCH,
    "processes": PROCESSES,
}
# Grants, which make sense only under ``strict``.
_STRICT_ONLY = ("network", "subprocess", "read", "write", "user", "fresh", "add_to")


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and grants of one child. Sizes are bytes; ``memory`` None is a fair share.

    ``memory``, ``processes`` and ``scratch`` (temporary files) are of all that a child has started.

    ``read``, ``write`` (paths, with all below), ``network``, ``subprocess``, ``user`` (a name to
    drop to, root only), ``fresh`` (one child a job) and ``add_to`` (names of queues that jobs may
    add to, ``*`` for all) belong to ``strict``. ``environment`` names
    variables that a child gets: under ``strict`` besides a few harmless ones, else instead of all.

    What a job has started is ended after it, unless there is ``leave_processes``.

    Raises:
        UsageError: the name or a value makes no sense.
    """

    name: str = "limits"
    memory: int | None = None
    files: int = FILES
    file_size: int = FILE_SIZE
    scratch: int = SCRATCH
    processes: int = PROCESSES
    cpu_seconds: float | None = None
    network: bool = False
    subprocess: bool = False
    read: tuple[str, ...] | list[str] = ()
    write: tuple[str, ...] | list[str] = ()
    environment: tuple[str, ...] | list[str] | None = None
    user: str | None = None
    fresh: bool = False
    add_to: tuple[str, ...] | list[str] = ()
    leave_processes: bool = False

    def __post_init__(self) -> None:
        """Check the values; lists become tuples, and paths absolute."""
        if self.name not in NAMES:
            message = f"unknown policy {self.name!r}: use one of {', '.join(NAMES)}"
            raise UsageError(message)
        for setting in ("memory", "files", "file_size", "scratch", "processes"):
            _check_count(setting, getattr(self, setting))
        _check_seconds(self.cpu_seconds)
        for setting in ("read", "write"):
            object.__setattr__(self, setting, _paths(setting, getattr(self, setting)))
        for setting in ("network", "subprocess", "fresh", "leave_processes"):
            checked_flag(f"policy setting {setting}", getattr(self, setting))
        if self.user is not None:
            checked_text("policy setting user", self.user)
        object.__setattr__(self, "add_to", _names("add_to", self.add_to))
        if self.environment is not None:
            object.__setattr__(self, "environment", _names("environment", self.environment))
        limited = [name for name, usual in _LIMITS.items() if getattr(self, name) != usual]
        if self.name == "none" and limited:
            message = (
                f"policy setting {limited[0]} belongs to 'limits' and 'strict': 'none' limits "
                "nothing"
            )
            raise UsageError(message)
        granted = [setting for setting in _STRICT_ONLY if getattr(self, setting)]
        if granted and self.name != "strict":
            message = f"policy setting {granted[0]} belongs to 'strict', not to {self.name!r}"
            raise UsageError(message)

    @property
    def may_fork(self) -> bool:
        """Whether a child can start processes."""
        return self.name != "strict" or self.subprocess

    def limits(self) -> str:
        """Return the limits besides memory, for people; nothing for ``none``."""
        if self.name == "none":
            return ""
        limits = [
            f"{self.files} open files",
            f"{_size(self.file_size)} a file",
            f"{_size(self.scratch)} of temporary files",
        ]
        limits += [f"{self.processes} processes"] if self.may_fork else []
        limits += [f"{self.cpu_seconds:g} s of CPU a job"] if self.cpu_seconds else []
        return ", ".join(limits)

    def in_force(self) -> list[str]:
        """Return what a child under ``strict`` may do, for people; nothing for other policies."""
        if self.name != "strict":
            return []
        grants = [
            f"read {', '.join(('interpreter, sources', *self.read))}",
            f"write {', '.join(('its own directory', *self.write))}",
            "network" if self.network else "no network",
            "subprocesses" if self.subprocess else "no subprocesses",
        ]
        grants += [f"user {self.user}"] if self.user else []
        grants += ["one child a job"] if self.fresh else []
        grants += [f"add jobs to {', '.join(self.add_to)}"] if self.add_to else []
        grants += ["processes outlive their job"] if self.leave_processes else []
        return ["; ".join(grants)]


def policy_from(value: object) -> Policy:
    """Return the policy that a name or a Policy means. Raises: UsageError for anything else."""
    if isinstance(value, Policy):
        return value
    if isinstance(value, str):
        return Policy(value)
    message = f"policy must be a Policy or one of {', '.join(NAMES)}, not {value!r}"
    raise UsageError(message)


def _size(count: int) -> str:
    return f"{count / (1 << 30):.3g} GB" if count >= 1 << 30 else f"{count / (1 << 20):.3g} MB"


def _check_count(setting: str, value: object) -> None:
    if value is None and setting == "memory":
        return
    checked_whole(f"policy setting {setting}", value, least=1)


def _check_seconds(value: object) -> None:
    if value is not None:
        waiting_seconds("policy setting cpu_seconds", value, least=SHORTEST_CPU)


def _names(setting: str, values: object) -> tuple[str, ...]:
    is_list = isinstance(values, list | tuple)
    if not is_list or not all(isinstance(value, str) and value for value in values):  # type: ignore[attr-defined]  # a list
        message = f"policy setting {setting} must be a list of texts, not {values!r}"
        raise UsageError(message)
    return tuple(values)  # type: ignore[arg-type]  # a list


def _paths(setting: str, values: object) -> tuple[str, ...]:
    if isinstance(values, list | tuple):
        values = [os.fspath(value) if isinstance(value, os.PathLike) else value for value in values]
    return tuple(os.path.abspath(path) for path in _names(setting, values))  # noqa: PTH100 - a child imports no pathlib
