"""A policy as ordered steps, and the child's way through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.sandbox import prctl, rlimits, scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.sandbox.policy import Policy

# The rest is for the coordinator, the fork server, Redis and the page cache.
_SHARE_OF_MEMORY = 0.8


class Plan(NamedTuple):
    """Steps in the order a child takes them; ``memory`` (bytes) is also watched from outside."""

    policy: str
    steps: list[list[Any]]
    memory: int | None


def plan_from_policy(policy: Policy, *, children: int, memory: int, scratch_path: str) -> Plan:
    """Return what one of ``children`` does to itself on a machine with ``memory`` bytes to use."""
    if policy.name == "none":
        return Plan(policy.name, [["no_core_dumps"]], None)
    grant = policy.memory or int(memory * _SHARE_OF_MEMORY / max(1, children))
    steps: list[list[Any]] = [
        ["no_core_dumps"],
        ["scratch", scratch_path],
        ["no_new_privs"],
        ["files", policy.files],
        ["file_size", policy.file_size],
        ["data", grant],
    ]
    return Plan(policy.name, steps, grant)


def follow(steps: Sequence[Sequence[Any]]) -> None:
    """Apply each step to this process.

    Raises:
        MechanismMissing: a step could not be taken; the child must not run.
    """
    for name, *values in steps:
        _MECHANISMS[name](*values)


_MECHANISMS: dict[str, Callable[..., None]] = {
    "no_core_dumps": rlimits.no_core_dumps,
    "scratch": scratch.enter_scratch,
    "no_new_privs": prctl.refuse_new_privileges,
    "files": rlimits.limit_files,
    "file_size": rlimits.limit_file_size,
    "data": rlimits.limit_data,
}
