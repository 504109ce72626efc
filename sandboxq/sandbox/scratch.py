"""Private directories for temporary files, removed with the child that had them."""

from __future__ import annotations

import os
import sys

from sandboxq.errors import MechanismMissing


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
    """Remove a directory tree, following no links; what resists is left."""
    for folder, folders, files, here in os.fwalk(path, topdown=False, follow_symlinks=False):
        del folder
        for name in files:
            _quietly_unlink(name, here)
        for name in folders:
            _quietly_rmdir(name, here)
    try:
        os.rmdir(path)  # noqa: PTH106 - pathlib is not worth its import here
    except OSError:
        return


def _quietly_unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return


def _quietly_rmdir(name: str, folder: int) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except NotADirectoryError:
        _quietly_unlink(name, folder)  # a link to a directory
    except OSError:
        return
