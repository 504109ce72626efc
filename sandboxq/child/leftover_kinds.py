"""What jobs leave behind, in kinds: a child says of which kind it found something."""

from __future__ import annotations

# The order of the names is part of the protocol.
NAMES = (
    "processes",
    "temporary files",
    "open files",
    "threads",
    "signal handlers",
    "timers",
    "another working directory",
    "another umask",
    "other limits",
    "another environment",
    "other settings of the interpreter",
    "other standard streams",
    "memory",
    "tasks",
)
(
    PROCESSES,
    SCRATCH,
    DESCRIPTORS,
    THREADS,
    HANDLERS,
    TIMERS,
    DIRECTORY,
    UMASK,
    LIMITS,
    ENVIRONMENT,
    SETTINGS,
    STREAMS,
    MEMORY,
    TASKS,
) = range(len(NAMES))
_COUNTED = (PROCESSES, SCRATCH, DESCRIPTORS, THREADS, TASKS)
# Set in the detail of a LEFT frame: the child leaves, for this cannot be undone.
LEAVES = 128


def text_of(kind: int, count: int) -> str:
    """Return what a job has left, for people; ``count`` is a number of them, or of bytes."""
    name = NAMES[kind] if kind < len(NAMES) else "something"
    if kind == MEMORY:
        return f"{count >> 20} MB of memory"
    if count == 1 and kind in _COUNTED:
        return "1 process" if kind == PROCESSES else f"1 {name.removesuffix('s')}"
    return f"{count} {name}" if kind in _COUNTED else name
