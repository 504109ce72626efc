"""A policy as ordered steps, and the child's way through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.errors import UsageError
from sandboxq.sandbox import scratch
from sandboxq.sandbox.mechanisms import landlock, process, seccomp
from sandboxq.sandbox.mechanisms import landlock as grants
from sandboxq.sandbox.mechanisms import process as capabilities
from sandboxq.sandbox.mechanisms.landlock import RulesetAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.sandbox.policy import Policy

# The rest of the memory is for the coordinator, the zygote, Redis and the page cache.
_SHARE_OF_MEMORY = 0.8


class Plan(NamedTuple):
    """Steps in the order a child takes them; ``memory`` (bytes) is also watched from outside."""

    policy: str
    steps: list[list[Any]]
    memory: int | None


def plan_from_policy(policy: Policy, *, children: int, memory: int, scratch_path: str) -> Plan:
    """Return the steps of one of ``children`` on a machine with ``memory`` bytes to use."""
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
    if policy.name == "strict":
        steps += _strict_steps(policy, scratch_path)
    return Plan(policy.name, steps, grant)


def _strict_steps(policy: Policy, scratch_path: str) -> list[list[Any]]:
    """Return the steps of ``strict``; seccomp comes last."""
    options = {"network": policy.network, "subprocess": policy.subprocess}
    read, write = list(policy.read), [*policy.write, scratch_path]
    steps: list[list[Any]] = [["files_of", read, write, options]]
    if policy.user is not None:
        steps.append(["user", *_user_and_group(policy.user), scratch_path])
    return [*steps, ["no_capabilities"], ["calls", options]]


def _user_and_group(name: str) -> tuple[int, int]:
    import pwd  # noqa: PLC0415 - in the coordinator only

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        message = f"policy setting user: there is no user {name!r}"
        raise UsageError(message) from None
    return entry.pw_uid, entry.pw_gid


_ahead = RulesetAhead()


def _restrict_files(read: list[str], write: list[str], options: dict[str, bool]) -> None:
    ruleset = _ahead.take(options)
    landlock.restrict_files(ruleset, own=grants.OWN, read=read, write=write, options=options)


def prepare(steps: Sequence[Sequence[Any]]) -> None:
    """Prepare, in the zygote, what is the same for every child of these steps."""
    for name, *values in steps:
        if name == "files_of":
            _ahead.prepare(values[-1])
        elif name == "calls":
            seccomp.prepared(**values[-1])


def give_away() -> None:
    """Forget, after a fork, what was ready: it belongs to the process that was forked."""
    _ahead.drop()


def follow(steps: Sequence[Sequence[Any]]) -> None:
    """Apply each step to this process.

    Raises:
        MechanismMissing: a step could not be taken; the child must not run.
    """
    for name, *values in steps:
        _MECHANISMS[name](*values)


_MECHANISMS: dict[str, Callable[..., None]] = {
    "no_core_dumps": process.no_core_dumps,
    "scratch": scratch.enter_scratch,
    "no_new_privs": process.refuse_new_privileges,
    "files": process.limit_files,
    "file_size": process.limit_file_size,
    "data": process.limit_data,
    "files_of": _restrict_files,
    "user": process.become,
    "no_capabilities": capabilities.drop_capabilities,
    "calls": seccomp.restrict_calls,
}
