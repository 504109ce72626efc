"""How many files this process may have open: enough for its children, or a clear refusal."""

from __future__ import annotations

import os
import resource

from sandboxq.errors import ChildStartFailed

# Sockets, pipes, memory and pidfd of one child, while it starts; some are closed afterwards.
OF_A_CHILD = 16
# Connections to Redis, log files, and what the program around a worker opens.
_RESERVE = 128


def require_descriptors(more_children: int) -> None:
    """Raise the soft limit of open files to what so many children more need, if it is too low.

    Raises: ChildStartFailed: the hard limit is too low for them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = _used()
    needed = used + more_children * OF_A_CHILD + _RESERVE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed - _RESERVE > hard:
        raise ChildStartFailed(_text(more_children, used, hard))
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def detail() -> str:
    """Say how many children the hard limit allows, for people."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return "no limit"
    return f"up to {hard}, enough for {max(0, (hard - _RESERVE) // OF_A_CHILD)} children"


def _text(more_children: int, used: int, hard: int) -> str:
    possible = max(0, (hard - used) // OF_A_CHILD)
    return (
        f"{more_children} children more need {more_children * OF_A_CHILD} open files besides the "
        f"{used} that this process has; its hard limit is {hard} (`ulimit -Hn`). What helps: a "
        f"higher limit (LimitNOFILE= of a systemd unit, `--ulimit nofile=` of a container), or at "
        f"most {possible} children"
    )


def _used() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - pathlib is not worth its import here
    except OSError:
        return _RESERVE  # no /proc here
