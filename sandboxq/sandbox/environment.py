"""Which environment variables a child is given."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

# Each child computes on its own cores; a library that takes all of them for each child halves the
# throughput (execution-layer.md, starting). What the user has set stays.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# Variables of the system, which programs need: they may contain a password that is a common word,
# as "worker" in HOME=/home/worker.
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
# Names of variables that hold a password and nothing else.
_NAME_OF_PASSWORD = re.compile(
    r"(?i)pass|pwd|pw\b|_pw|secret|token|auth|cred|key|redis|valkey|broker"
)
# Where a password stands by itself: in a URL, as an option, in settings as text or JSON.
_PLACE = (
    r"(?i:://[^/\s@]*:|(?:pass\w*|pwd|pw|secret|token|auth)[\"']?\s*[=:]\s*[\"']?"
    r"|(?:--\S*pass\w*|-a)\s+){}(?!\w)"
)
# Characters from which no value contains a password by chance; the second: with a digit in it.
_LONG, _TELLING = 16, 8
_log = logging.getLogger("sandboxq.sandbox")
_told: set[str] = set()


def oversubscription(children: int, cores: int, given: Mapping[str, str]) -> list[str]:
    """Return the warnings about more children, or threads in them, than there are cores."""
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
    where else such a password stands (docs/reference/sandbox.md), unless it is a variable of the
    system as ``PATH``.
    """
    named, passwords = frozenset(allowed or ()), _passwords(given)
    return {
        name: value
        for name, value in given.items()
        if name in named
        or (_is_wanted(name, policy, allowed) and not _tells(name, value, passwords))
    }


def withheld_by_chance(
    policy: str, allowed: Sequence[str] | None, given: Mapping[str, str]
) -> list[str]:
    """Return the variables that children do not see because a password of Redis is in them.

    Without those of which their name or a URL of Redis says so: these are meant to be withheld.
    """
    kept = environment_for(policy, allowed, given)
    return [
        name
        for name, value in given.items()
        if name not in kept
        and _is_wanted(name, policy, allowed)
        and not has_password(value)
        and not _NAME_OF_PASSWORD.search(name)
    ]


def text_of_withheld(names: Sequence[str]) -> str:
    """Return the warning about these variables."""
    what = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return (
        f"jobs do not see {what}: the password of Redis is in the value. Take a password that "
        "occurs nowhere by chance, or name all variables that jobs get (--environment)"
    )


def warn_of_withheld(policy: str, allowed: Sequence[str] | None, given: Mapping[str, str]) -> None:
    """Log the warning, once for each variable."""
    names = [each for each in withheld_by_chance(policy, allowed, given) if each not in _told]
    if names:
        _told.update(names)
        _log.warning("%s", text_of_withheld(names))


def _is_wanted(name: str, policy: str, allowed: Sequence[str] | None) -> bool:
    """Tell whether children see a variable, but for its value."""
    is_harmless = name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
    return name not in _SECRET and (is_harmless or (policy != "strict" and allowed is None))


def _passwords(given: Mapping[str, str]) -> set[str]:
    """Return the passwords of Redis in all these values, as they are written and decoded."""
    matches = [match for text in given.values() for match in _REDIS_WITH_PASSWORD.finditer(text)]
    found = {match["password"] or match["parameter"] for match in matches}
    return found | {unquote(each) for each in found}


def _tells(name: str, value: str, passwords: AbstractSet[str]) -> bool:
    if has_password(value):
        return True
    return name not in _HARMLESS and any(_holds(name, value, each) for each in passwords)


def _holds(name: str, value: str, password: str) -> bool:
    """Tell whether a value discloses a password; a common word in it by chance does not count."""
    may_be_chance = len(password) < (_TELLING if any(map(str.isdigit, password)) else _LONG)
    if value == password:
        is_word = may_be_chance and password.isalpha()
        return not is_word or bool(_NAME_OF_PASSWORD.search(name))
    if password not in value:
        return False
    return not may_be_chance or bool(re.search(_PLACE.format(re.escape(password)), value))
