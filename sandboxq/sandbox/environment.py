"""Which environment variables a child is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

# Each child computes on its own cores; a library that takes all of them for each child halves the
# throughput (execution-layer.md C). What the user has set stays.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# What the system gives a meaning: a password that is a word, as "worker", may stand in them by
# chance (HOME=/home/worker), and no program runs well without them.
_HARMLESS = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"}
    | {"PYTHONHOME", "PYTHONPATH"}
    | set(THREAD_VARIABLES)
)
_HARMLESS_PREFIXES = ("LC_", "PYTHON")
# Jobs have no business with the queue's Redis.
_SECRET = frozenset({"SANDBOXQ_URL", "SANDBOXQ_SECRET"})
# Redis by whatever spelling: redis://, rediss://, valkey+sentinel://, redis+cluster+tls://, unix://.
_REDIS_WITH_PASSWORD = re.compile(
    r"(?i)\b(?:rediss?|valkeys?|unix)(?:[+-][a-z]+)*://"
    r"(?:[^/\s@?]*:(?P<password>[^\s?]+)@|\S*[?&]password=(?P<parameter>[^\s&#]+))"
)
# A shorter password is looked for as a whole value only: much would have it in it.
_TELLING = 6


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

    Without a list, ``none`` and ``limits`` keep all but URLs of Redis that hold a password, and
    whatever else holds such a password, unless it is a variable of the system as ``PATH``.
    """
    named = frozenset(allowed or ())
    kept = {name: value for name, value in given.items() if name in named}
    passwords = _passwords(given)
    for name, value in given.items():
        is_harmless = name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
        is_wanted = is_harmless or (policy != "strict" and allowed is None)
        sought = passwords if name not in _HARMLESS else frozenset[str]()
        if is_wanted and name not in _SECRET and not _tells(value, sought):
            kept[name] = value
    return kept


def _passwords(given: Mapping[str, str]) -> set[str]:
    """Return the passwords of Redis in all these values, as they are written and decoded."""
    matches = [match for text in given.values() for match in _REDIS_WITH_PASSWORD.finditer(text)]
    found = {match["password"] or match["parameter"] for match in matches}
    return found | {unquote(each) for each in found}


def _tells(value: str, passwords: AbstractSet[str]) -> bool:
    return has_password(value) or any(
        value == each or (len(each) >= _TELLING and each in value) for each in passwords
    )
