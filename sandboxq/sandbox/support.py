"""What this kernel offers, and what a policy lacks here. Only looks: imports and runs anywhere."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import MechanismMissing

if TYPE_CHECKING:
    from sandboxq.sandbox.policy import Policy

# Signals to others are kept apart by Landlock from this version on.
_SCOPE_ABI = 6


class Mechanism(NamedTuple):
    """One facility: what it is called, whether it is there, what is known of it, what helps."""

    name: str
    is_there: bool
    detail: str
    help: str = ""


def mechanisms() -> list[Mechanism]:
    """Return what there is, in the order in which policies need it."""
    if sys.platform != "linux":
        text = "children need Linux; queues, flows, and workers without a processor work here"
        return [Mechanism("linux", is_there=False, detail=sys.platform, help=text)]
    return [_linux(), _landlock(), _seccomp(), _cgroup(), _files()]


def missing_for(policy: Policy) -> list[Mechanism]:
    """Return what ``policy`` needs and this machine does not have."""
    if policy.name != "strict":
        return [each for each in mechanisms() if each.name == "linux" and not each.is_there]
    needed = ("linux", "landlock", "seccomp")
    missing = [each for each in mechanisms() if each.name in needed and not each.is_there]
    return missing or [*_missing_scope(policy), *_missing_root(policy)]


def require(policy: Policy) -> None:
    """Raise MechanismMissing when the policy cannot be enforced here, with what would help."""
    missing = missing_for(policy)
    if missing:
        facts = "; ".join(f"{each.name} ({each.detail}): {each.help}" for each in missing)
        message = (
            f"policy {policy.name!r} cannot be enforced on this machine. Missing: {facts}. "
            "It is never applied in part; choose another policy if you can do without"
        )
        raise MechanismMissing(message)


def _linux() -> Mechanism:
    return Mechanism("linux", is_there=True, detail=os.uname().release)


def _landlock() -> Mechanism:
    from sandboxq.sandbox.mechanisms import landlock  # noqa: PLC0415 - Linux only

    version = landlock.abi()
    helps = (
        "needs Linux 5.13 with CONFIG_SECURITY_LANDLOCK and 'landlock' in the boot option lsm=; in "
        "a container, a seccomp profile that allows landlock_create_ruleset"
    )
    return Mechanism("landlock", version > 0, f"ABI {version}" if version else "absent", helps)


def _seccomp() -> Mechanism:
    from sandboxq.sandbox.mechanisms import seccomp  # noqa: PLC0415 - Linux only

    text = _read("/proc/self/status")
    is_there = seccomp.is_supported() and "\nSeccomp:" in text
    machine = os.uname().machine
    helps = "needs CONFIG_SECCOMP_FILTER on x86_64 or aarch64"
    return Mechanism("seccomp", is_there, machine if is_there else f"absent on {machine}", helps)


def _cgroup() -> Mechanism:
    from sandboxq.sandbox.mechanisms import cgroup  # noqa: PLC0415 - Linux only

    helps = "not needed by any policy; a systemd unit with Delegate=yes, or root"
    return Mechanism("cgroups", bool(cgroup.homes()), cgroup.detail(), helps)


def _files() -> Mechanism:
    from sandboxq.sandbox import descriptors  # noqa: PLC0415 - Linux only

    helps = (
        "each child needs 16 open files: LimitNOFILE= of a unit, --ulimit nofile= of a container"
    )
    return Mechanism("files", is_there=True, detail=descriptors.detail(), help=helps)


def _missing_scope(policy: Policy) -> list[Mechanism]:
    from sandboxq.sandbox.mechanisms import landlock  # noqa: PLC0415 - Linux only

    version = landlock.abi()
    if not policy.subprocess or version >= _SCOPE_ABI:
        return []
    helps = "subprocess=True needs ABI 6 (Linux 6.12), which keeps signals from other processes"
    return [Mechanism("landlock", is_there=False, detail=f"ABI {version}", help=helps)]


def _missing_root(policy: Policy) -> list[Mechanism]:
    if policy.user is None or os.geteuid() == 0:
        return []
    helps = f"user={policy.user!r} needs root"
    return [Mechanism("root", is_there=False, detail=f"user {os.geteuid()}", help=helps)]


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not worth its import here
            return file.read()
    except OSError:
        return ""
