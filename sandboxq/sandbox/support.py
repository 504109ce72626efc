"""What this machine offers: mechanisms that a policy needs, cores, memory, open files.

It changes nothing but the limit of open files, and works on any system.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import ChildStartFailed, MechanismMissing
from sandboxq.sandbox.processes import read_text

if TYPE_CHECKING:
    from sandboxq.sandbox.policy import Policy

# Signals to others are kept apart by Landlock from this version on.
_SCOPE_ABI = 6

_CGROUP = Path("/sys/fs/cgroup")
# Sockets, pipes, memory and pidfd of one child, while it starts; some are closed afterwards.
OF_A_CHILD = 16
# Connections to Redis, log files, and what the program around a worker opens.
_RESERVE = 128


_NEEDS = {
    "none": ("linux",),
    "limits": ("linux", "scratch"),
    "strict": ("linux", "landlock", "seccomp", "scratch"),
}


class Mechanism(NamedTuple):
    """One facility: its name, whether it is there, details, and what to do where it is missing."""

    name: str
    is_there: bool
    detail: str
    help: str = ""


def mechanisms() -> list[Mechanism]:
    """Return all mechanisms, in the order in which policies need them."""
    if sys.platform != "linux":
        text = "children need Linux; queues, flows, and workers without a processor work here"
        return [Mechanism("linux", is_there=False, detail=sys.platform, help=text)]
    return [_linux(), _landlock(), _seccomp(), _cgroup(), _files(), _scratch()]


def missing_for(policy: Policy) -> list[Mechanism]:
    """Return what ``policy`` needs and this machine does not have."""
    needed = _NEEDS[policy.name]
    missing = [each for each in mechanisms() if each.name in needed and not each.is_there]
    if policy.name != "strict":
        return missing
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

    text = read_text("/proc/self/status")
    is_there = seccomp.is_supported() and "\nSeccomp:" in text
    machine = os.uname().machine
    helps = "needs CONFIG_SECCOMP_FILTER on x86_64 or aarch64"
    return Mechanism("seccomp", is_there, machine if is_there else f"absent on {machine}", helps)


def _cgroup() -> Mechanism:
    from sandboxq.sandbox.mechanisms import cgroup  # noqa: PLC0415 - Linux only

    helps = "not needed by any policy; a systemd unit with Delegate=yes, or root"
    return Mechanism("cgroups", bool(cgroup.homes()), cgroup.detail(), helps)


def _files() -> Mechanism:
    helps = (
        "each child needs 16 open files: LimitNOFILE= of a unit, --ulimit nofile= of a container"
    )
    return Mechanism("files", is_there=True, detail=_files_detail(), help=helps)


def _scratch() -> Mechanism:
    helps = (
        "children need a folder for their temporary files: TMPDIR set to one that user "
        f"{os.geteuid()} may write to, a tmpfs or emptyDir on /tmp, or the policy 'none'"
    )
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        return Mechanism("scratch", is_there=False, detail=error.strerror or "", help=helps)
    return Mechanism("scratch", is_there=True, detail=folder, help=helps)


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


class Cores(NamedTuple):
    """A number of cores, and where it came from, for people."""

    number: int
    source: str


def usable_cores(*, cgroup: Path = _CGROUP) -> Cores:
    """Return the cores that this process may use: affinity, lowered by a cgroup's CPU quota."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(os.cpu_count() or 1, "cores of the machine")
    cores = len(os.sched_getaffinity(0))
    quota = min(_cpu_quotas(cgroup), default=None)
    if quota is None or quota >= cores:
        return Cores(cores, "CPU affinity")
    # Rounded down: a child more than the quota carries only makes all of them wait.
    return Cores(max(1, int(quota)), f"cgroup quota of {quota:g} CPUs")


class Part(NamedTuple):
    """What the children of one pool may use of this machine."""

    cores: int
    memory: int  # bytes


def whole_machine() -> Part:
    """Return all that this process may use."""
    return Part(usable_cores().number, usable_memory())


def usable_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's or its cgroup's."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_memory_limits()])


def _cpu_quotas(cgroup: Path) -> list[float]:
    """Return the quotas of this process's cgroup and of those above it, in CPUs."""
    pairs = [_text_of(folder / "cpu.max").split() for folder in _folders("", cgroup)]
    pairs += [
        [_text_of(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        for folder in _folders("cpu", cgroup)
    ]
    return [int(pair[0]) / int(pair[1]) for pair in pairs if pair and pair[0].isdigit()]


def _memory_limits() -> list[int]:
    texts = [_text_of(folder / "memory.max") for folder in _folders("")]
    texts += [_text_of(folder / "memory.limit_in_bytes") for folder in _folders("memory")]
    return [int(text) for text in texts if text.isdigit()]


def _folders(controller: str, cgroup: Path = _CGROUP) -> list[Path]:
    """Return this process's cgroup folders from its own up to the root; v2 for controller ''."""
    for line in _text_of(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            root = cgroup / controller
            own = root / path.lstrip("/")
            return [own, *[parent for parent in own.parents if parent.is_relative_to(root)]]
    return []


def _text_of(path: Path) -> str:
    return read_text(str(path)).strip()


def require_descriptors(more_children: int) -> None:
    """Raise the soft limit of open files to what so many children more need, if it is too low.

    Raises: ChildStartFailed: the hard limit is too low for them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = _open_files()
    needed = used + more_children * OF_A_CHILD + _RESERVE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed - _RESERVE > hard:
        raise ChildStartFailed(_descriptors_text(more_children, used, hard))
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _files_detail() -> str:
    """Say how many children the hard limit allows, for people."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return "no limit"
    return f"up to {hard}, enough for {max(0, (hard - _RESERVE) // OF_A_CHILD)} children"


def _descriptors_text(more_children: int, used: int, hard: int) -> str:
    possible = max(0, (hard - used) // OF_A_CHILD)
    fewer = f", or at most {possible} children" if possible else ""
    return (
        f"{more_children} children more need {more_children * OF_A_CHILD} open files besides the "
        f"{used} that this process has; its hard limit is {hard} (`ulimit -Hn`). What helps: a "
        f"higher limit (LimitNOFILE= of a systemd unit, `--ulimit nofile=` of a container)"
        f"{fewer}"
    )


def _open_files() -> int:
    folder = "/proc/self/fd"
    try:
        # Kernels before 6.2 do not tell their number, and say 0.
        return os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208 - as above
    except OSError:
        return _RESERVE  # no /proc here
