"""The folder with the private directories of one zygote's children."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq.errors import ChildStartFailed
from sandboxq.sandbox.scratch import abandoned, make_owned, remove_scratch

if TYPE_CHECKING:
    from sandboxq.sandbox.scratch import Owned

PREFIX = "sandboxq-scratch-"
# Another user may go through to a directory of its own, and see nothing on the way.
_PASSABLE = 0o711


class ScratchFolder:
    """Made once, and removed with all that is in it."""

    def __init__(self) -> None:
        """Begin without one."""
        self._secret = secrets.token_bytes(16)
        self._owned: Owned | None = None

    @property
    def path(self) -> str:
        """Where it is; nothing before it is made, and after it was removed."""
        return self._owned.path if self._owned is not None else ""

    def make(self, *, is_passable: bool) -> None:
        """Make it in the temporary folder, and remove there what killed workers have left.

        Raises: ChildStartFailed, with what helps.
        """
        try:
            folder = tempfile.gettempdir()
            self._owned = make_owned(folder, PREFIX)
        except OSError as error:
            message = (
                f"children need a folder for their temporary files, and there is none: "
                f"{error.strerror or error}. What helps: TMPDIR set to a folder that user "
                f"{os.geteuid()} may write to, a tmpfs on /tmp, or the policy 'none'"
            )
            raise ChildStartFailed(message) from error
        if is_passable:
            Path(self.path).chmod(_PASSABLE)
        # A daemon: what it does not come to, the next start does.
        threading.Thread(target=_sweep, args=(folder,), daemon=True).start()

    def of_child(self, number: int) -> str:
        """Return the path of a child's private directory, which no job can guess."""
        token = hashlib.blake2b(b"%d" % number, key=self._secret, digest_size=12).hexdigest()
        return f"{self.path}/{token}"

    def remove(self) -> None:
        """Remove it; twice is harmless. Blocks."""
        if self._owned is not None:
            remove_scratch(self._owned.path)
            self._owned.give_up()
            self._owned = None


def _sweep(folder: str) -> None:
    """Remove the files of zygotes that were killed together with their worker."""
    for path in abandoned(folder, PREFIX):
        remove_scratch(path)
