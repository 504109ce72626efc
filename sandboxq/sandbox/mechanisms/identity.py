"""Another user's identity, for good."""

from __future__ import annotations

import os
import sys

from sandboxq.errors import MechanismMissing
from sandboxq.sandbox.mechanisms import prctl


def become(uid: int, gid: int, scratch_path: str) -> None:
    """Become this user, without other groups; the private directory goes along.

    Raises: MechanismMissing, also when this user cannot read Python's own modules and the sources.
    """
    parent = os.getppid()
    needed = [os.__file__, *filter(os.path.exists, sys.path)]
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
    _require_readable(needed, uid)


def _require_readable(paths: list[str], uid: int) -> None:
    """Refuse to go on where the first import of a job would fail."""
    closed = next((path for path in paths if not os.access(path, os.R_OK)), None)
    if closed is not None:
        message = (
            f"user {uid} cannot read {closed}, which Python imports from. What helps: an "
            "interpreter and sources outside of private homes (such as /usr/bin/python3 or "
            "/opt), or no user= in the policy: `strict` drops root's capabilities in any case"
        )
        raise MechanismMissing(message)
