"""A container as an engine of Docker's kind makes it, by an OCI runtime (crun) without an engine.

It is what Docker does with ``--read-only --tmpfs /tmp --user 10001:10001 --cap-drop ALL
--security-opt no-new-privileges --network host``: namespaces of its own, all files read-only but
/tmp and /dev/shm, a user who is only a number, no capabilities, /proc and /sys masked in part, and
the default filter of system calls, read from the profile that Debian's containers-common ships.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import uuid
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sandboxq.sandbox.processes import children_of
from tests.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROFILE = Path(os.environ.get("SECCOMP_PROFILE", "/usr/share/containers/seccomp.json"))
USER = 10001
_EPERM = 1
_ENOSYS = 38
_NAMESPACES = 0x7E020000  # CLONE_NEW*, of which `clone` may have none
# Docker refuses what Podman's profile allows: namespaces, mounts, other processes' memory.
_REFUSED = frozenset(
    {
        "fsconfig", "fsmount", "fsopen", "fspick", "kcmp", "keyctl", "mount", "mount_setattr",
        "move_mount", "name_to_handle_at", "open_tree", "pidfd_getfd", "pivot_root",
        "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "setns", "umount",
        "umount2", "unshare",
    }
)  # fmt: skip
LANDLOCK = frozenset({"landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self"})
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
    "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Container:
    """A container that runs: its first process as seen from outside, and what it prints."""

    def __init__(self, name: str, state: Path, process: subprocess.Popen[str], log: Path) -> None:
        """Take what ``running`` has started."""
        self.name = name
        self._state = state
        self.process = process
        self._log = log

    @property
    def said(self) -> str:
        """What it has printed, both streams."""
        return self._log.read_text()

    @property
    def first(self) -> int:
        """The process id of the container's first process, outside."""
        return children_of(self.process.pid)[0]

    def wait_for(self, word: str) -> None:
        """Wait until it has printed that; fail when it has ended before."""

        def is_said() -> bool:
            assert self.process.poll() is None or word in self.said, self.said
            return word in self.said

        wait_until(is_said)

    @property
    def address(self) -> str:
        """Where it answers by HTTP."""
        found = re.search(r"http://([\d.:]+)", self.said)
        assert found, self.said
        return found[1]

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as ``docker exec`` does."""
        return subprocess.run(
            [*_crun(self._state), "exec", f"--user={USER}:{USER}", self.name, *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self) -> int:
        """Send SIGTERM to the first process, as ``docker stop`` does; return the exit code."""
        os.kill(self.first, 15)
        return self.process.wait(60)


@contextmanager
def running(
    bundle: Path,
    *command: str,
    env: Mapping[str, str],
    refused: frozenset[str] = frozenset(),
    has_tmp: bool = True,
) -> Iterator[Container]:
    """Run a command in a container whose files are those of ``bundle``/rootfs.

    The filter refuses the system calls ``refused`` too; without ``has_tmp`` nothing is writable.
    """
    name, state, log = f"test-{uuid.uuid4().hex[:12]}", bundle / "state", bundle / "log"
    settings = json.loads((bundle / "mounts.json").read_text())
    config = _config(command, env, settings, refused)
    if not has_tmp:
        config["mounts"] = [each for each in config["mounts"] if each["destination"] != "/tmp"]
    (bundle / "config.json").write_text(json.dumps(config))
    runtime = _crun(state)
    with log.open("w") as output:
        process = _started([*runtime, "run", f"--bundle={bundle}", name], output)
    try:
        yield Container(name, state, process, log)
    finally:
        subprocess.run([*runtime, "delete", "--force", name], capture_output=True, check=False)
        process.wait(60)


def _crun(state: Path) -> list[str]:
    """Return how the runtime is called: it finds version 2 of control groups, whatever is here."""
    mount = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    unshare = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    return [*unshare, "crun", "--cgroup-manager=disabled", f"--root={state}"]


def _started(command: Sequence[str], output: IO[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True
    )


def missing() -> str:
    """Return why there can be no container here, or nothing."""
    if shutil.which("crun") is None:
        return "crun is not installed"
    if os.geteuid() != 0:
        return "needs root"
    return "" if PROFILE.exists() else f"{PROFILE} is not installed (containers-common)"


def prepare(
    bundle: Path, *, shown: Sequence[Path], placed: Mapping[Path, str] | None = None, cwd: str
) -> None:
    """Write what of this machine the container sees, read-only, and where it begins.

    ``shown`` is at the same path there, ``placed`` at another.
    """
    (bundle / "rootfs").mkdir()
    places = {str(path): str(path) for path in shown}
    places |= {str(path): target for path, target in (placed or {}).items()}
    (bundle / "mounts.json").write_text(json.dumps({"cwd": cwd, "places": places}))


def _config(
    command: Sequence[str], env: Mapping[str, str], settings: Any, refused: frozenset[str]
) -> dict[str, Any]:
    names = ("pid", "mount", "ipc", "uts", "cgroup")
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "worker",
        "process": {
            "user": {"uid": USER, "gid": USER},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": settings["cwd"],
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "mounts": [*_mounts(), *starmap(_shown, settings["places"].items())],
        "linux": {
            "namespaces": [{"type": name} for name in names],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            "seccomp": _filter(json.loads(PROFILE.read_text()), refused),
        },
    }


def _mounts() -> list[dict[str, Any]]:
    plain = ["nosuid", "noexec", "nodev"]
    tmpfs = ["nosuid", "nodev", "mode=1777"]
    return [
        _mount("/proc", "proc", plain),
        _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
        _mount("/dev/shm", "tmpfs", [*plain, "mode=1777", "size=65536k"]),
        _mount("/dev/mqueue", "mqueue", plain),
        {**_mount("/sys", "none", ["rbind", *plain, "ro"]), "source": "/sys"},
        _mount("/tmp", "tmpfs", [*tmpfs, "noexec", "size=256m"]),
    ]


def _mount(target: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": options}


def _shown(path: str, target: str) -> dict[str, Any]:
    return {**_mount(target, "none", ["rbind", "ro", "nosuid"]), "source": path}


def _filter(profile: dict[str, Any], refused: frozenset[str]) -> dict[str, Any]:
    """Return what an engine makes of a profile for a container without capabilities."""
    forbidden = _REFUSED | refused
    rules = [
        {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)}
        for rule in map(dict, profile["syscalls"])
        if _applies(rule)
    ]
    for rule in rules:
        if rule["action"] == "SCMP_ACT_ALLOW":
            rule["names"] = [
                name for name in rule["names"] if name not in {*forbidden, "clone", "clone3"}
            ]
    no_namespaces = {"index": 0, "value": _NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    own: list[dict[str, Any]] = [
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespaces]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": [_architecture()],
        "syscalls": [rule for rule in [*rules, *own] if rule["names"]],
    }


def _applies(rule: Mapping[str, Any]) -> bool:
    """Tell whether a rule is for a container of this machine without capabilities."""
    needs, spares = rule.get("includes") or {}, rule.get("excludes") or {}
    mine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    is_for = not needs.get("caps") and mine in (needs.get("arches") or [mine])
    allows = rule["action"] == "SCMP_ACT_ALLOW"
    return is_for and allows and mine not in (spares.get("arches") or [])


def _architecture() -> str:
    return {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
