"""Which environment variables a child is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Each child computes on its own cores; a library that takes all of them for each child halves the
# throughput (execution-layer.md C). What the user has set stays.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_HARMLESS = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"}
    | set(THREAD_VARIABLES)
)
_HARMLESS_PREFIXES = ("LC_", "PYTHON")
# Jobs have no business with the queue's Redis.
_SECRET = frozenset({"SANDBOXQ_URL", "SANDBOXQ_SECRET"})
_REDIS_WITH_PASSWORD = re.compile(
    r"(?i)\b(redis|rediss|valkey|valkeys|unix|redis\+unix|valkey\+unix)://"
    r"([^/\s@]*:[^/\s@]+@|\S*[?&]password=)"
)


def oversubscription(children: int, cores: int, given: Mapping[str, str]) -> list[str]:
    """Return what is said of more children, or threads in them, than there are cores."""
    notes = []
    if children > cores:
        notes.append(f"more children ({children}) than cores ({cores}): they take turns")
    for variable in THREAD_VARIABLES:
        value = given.get(variable, "")
        if value.isdecimal() and int(value) > 1 and int(value) * children > cores:
            notes.append(
                f"{variable}={value} in {children} children is more than {cores} cores: unset it, "
                "and each child takes its share"
            )
    return notes


def has_password(text: str) -> bool:
    """Tell whether a URL of Redis with a password is in this text."""
    return _REDIS_WITH_PASSWORD.search(text) is not None


def environment_for(
    policy: str, allowed: Sequence[str] | None, given: Mapping[str, str]
) -> dict[str, str]:
    """Return what of ``given`` a child of this policy sees; ``allowed`` names stay in any case.

    Without a list, ``none`` and ``limits`` keep all but URLs of Redis that hold a password.
    """
    named = frozenset(allowed or ())
    kept = {name: value for name, value in given.items() if name in named}
    for name, value in given.items():
        is_harmless = name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
        is_wanted = is_harmless or (policy != "strict" and allowed is None)
        if is_wanted and name not in _SECRET and not has_password(value):
            kept[name] = value
    return kept
