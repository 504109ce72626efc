"""Another user's identity, for good."""

from __future__ import annotations

import os

from sandboxq.errors import MechanismMissing
from sandboxq.sandbox import prctl


def become(uid: int, gid: int, scratch_path: str) -> None:
    """Become this user, without other groups; the private directory goes along.

    Raises: MechanismMissing.
    """
    parent = os.getppid()
    try:
        os.chown(scratch_path, uid, gid)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        message = f"cannot become user {uid}: {error}"
        raise MechanismMissing(message) from error
    prctl.die_with_parent()  # a change of the user undoes it
    prctl.show_memory()
    if os.getppid() != parent:
        os._exit(0)
