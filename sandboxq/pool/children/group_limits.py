"""What control groups are to limit, where there are such: pure, from what all children are granted.

More than the watches grant: they say what was too much, and the kernel does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandboxq.pool.options import PoolOptions

# Of what this process may use; each child is limited to less, and has margins of its own.
_MOST_OF_MEMORY = 0.95
# Beside the grants, and as much again for what a child shares or caches: this is no child's limit.
_MEMORY_OF_SERVER = 1 << 30
_TASKS_OF_SERVER = 1024
_TASKS_OF_A_PROCESS = 4  # the kernel counts threads
_TASKS_OF_A_CHILD = 256
# Of one child: libraries, files that it reads and writes, what the kernel has for it.
_MEMORY_BESIDE = 256 << 20


def limits_of_all(terms: PoolOptions, *, children: int, usable: int) -> dict[str, int]:
    """Return what so many children may use together of ``usable`` bytes; nothing: no limits."""
    if terms.policy.name == "none":
        return {}
    memory = int(usable * _MOST_OF_MEMORY)
    if terms.policy.memory is not None:
        memory = min(memory, _MEMORY_OF_SERVER + (children + 1) * 2 * terms.policy.memory)
    return {"memory": memory, "pids": _TASKS_OF_SERVER + (children + 1) * _tasks_granted(terms)}


def limits_of_one(terms: PoolOptions, memory: int | None) -> dict[str, int]:
    """Return what the kernel is to refuse to a child with this grant, and all that it starts."""
    if memory is None:
        return {}
    most = memory + _MEMORY_BESIDE + terms.max_result
    return {"memory": most, "pids": _TASKS_OF_A_CHILD + _tasks_granted(terms)}


def _tasks_granted(terms: PoolOptions) -> int:
    return terms.policy.processes * _TASKS_OF_A_PROCESS
