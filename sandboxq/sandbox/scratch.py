"""Private directories for temporary files, removed with the child that had them."""

from __future__ import annotations

import os
import sys

from sandboxq.errors import MechanismMissing

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def enter_scratch(path: str) -> None:
    """Create the directory and have ``tempfile`` and programs started by the job use it."""
    try:
        os.mkdir(path, 0o700)  # noqa: PTH102 - pathlib is not worth its import here
    except OSError as error:
        message = f"cannot make the private directory {path}: {error}"
        raise MechanismMissing(message) from error
    os.environ["TMPDIR"] = path
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # type: ignore[attr-defined]  # looked up again, from TMPDIR


def remove_scratch(path: str) -> None:
    """Remove a directory tree of any depth, following no links; what resists is left.

    What lies in a folder is lifted to the top, again and again: a job may nest folders deeper than
    recursion, descriptors and the longest path reach.
    """
    try:
        top = os.open(path, _FOLDER)
    except OSError:
        return
    try:
        lifted = 0
        while folders := _unlink_all(top):
            is_stuck = True
            for name in folders:
                lifted += _lift(name, top, lifted)
                if _rmdir(name, top):
                    is_stuck = False
            if is_stuck:
                break
    finally:
        os.close(top)
    try:
        os.rmdir(path)  # noqa: PTH106 - pathlib is not worth its import here
    except OSError:
        return


def _lift(name: str, top: int, number: int) -> int:
    """Empty one folder; return how many folders were moved out of it."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=top)
    except OSError:
        return 0
    moved = 0
    try:
        for inner in _unlink_all(folder):
            try:
                os.rename(inner, f".lifted-{number + moved}", src_dir_fd=folder, dst_dir_fd=top)
            except OSError:
                continue
            moved += 1
    finally:
        os.close(folder)
    return moved


def _unlink_all(folder: int) -> list[str]:
    """Unlink what is no folder; return the names of the others."""
    folders = []
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
        except OSError:
            folders.append(name)
    return folders


def _rmdir(name: str, folder: int) -> bool:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True
