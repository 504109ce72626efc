"""The names of all keys of a queue (protocol.md 1)."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from sandboxq.errors import UsageError
from sandboxq.model.validation import checked_client_part, checked_label, shown

DEFAULT_PREFIX = "bull"
_VARIABLE = "SANDBOXQ_PREFIX"

# In `<queue>:a:b:c` and `<queue>:repeat:<scheduler>:<ms>`.
_COLONS_OF_PARTED_ID = 3


def checked_queue_name(name: object) -> str:
    """Return the name of a queue. Raises: UsageError for what cannot be part of a key."""
    label = checked_label("a queue name", name)
    if ":" in label:
        message = (
            f"queue name {shown(name)} must not contain ':', which separates the parts of Redis "
            "keys"
        )
        raise UsageError(message)
    return label


def chosen_prefix(prefix: str | None) -> str:
    """Return ``prefix``, else $SANDBOXQ_PREFIX, as the commands take it too, else ``bull``.

    Raises: UsageError when the variable has what cannot be part of a client name.
    """
    if prefix is not None:
        return prefix
    return checked_client_part(f"${_VARIABLE}", os.environ.get(_VARIABLE) or DEFAULT_PREFIX)


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """Builds key names of one queue under one prefix."""

    queue: str
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        """Refuse names that would collide with other keys."""
        checked_queue_name(self.queue)
        checked_client_part("prefix", self.prefix)

    @property
    def base(self) -> str:
        """``<prefix>:<queue>:``, what every key of the queue starts with."""
        return f"{self.prefix}:{self.queue}:"

    @property
    def qualified_name(self) -> str:
        """``<prefix>:<queue>``, by which jobs name the queue of their parent."""
        return f"{self.prefix}:{self.queue}"

    def __getitem__(self, suffix: str) -> str:
        """Return the key with this suffix: ``keys["wait"]``; a job's hash is ``keys[job_id]``."""
        return f"{self.prefix}:{self.queue}:{suffix}"

    def binary(self, binary_id: str) -> str:
        """Return the key of a job's arrays and bytes (binary.py), outside the queue's keys.

        It has the queue's name, where the hash tag may be that a cluster needs.
        """
        return f"{self.prefix}::sandboxq:binary:{self.queue}:{binary_id}"

    @property
    def binaries(self) -> str:
        """The hash that has, for each such key of this queue, the id of its job."""
        return f"{self.prefix}::sandboxq:binaries:{self.queue}"

    def profile(self, job_id: str) -> str:
        """Return the list of what was sampled of a job, outside the queue's keys."""
        return f"{self.prefix}::sandboxq:profile:{self.queue}:{job_id}"

    @property
    def profile_next(self) -> str:
        """The hash of job names whose next runs are to be sampled."""
        return f"{self.prefix}::sandboxq:profile-next:{self.queue}"

    @property
    def ahead(self) -> str:
        """The set of jobs that were claimed ahead of need, see lua/includes/ahead.lua."""
        return f"{self.prefix}::sandboxq:ahead:{self.queue}"

    @property
    def client_name(self) -> str:
        """The CLIENT name by which dashboards find this queue's workers."""
        encoded = base64.b64encode(self.queue.encode()).decode()
        return f"{self.prefix}:{encoded}"

    @property
    def control_channel(self) -> str:
        """Pub/Sub channel to the workers of this queue, outside its keys (protocol.md 8.1)."""
        return f"{self.prefix}::sandboxq:control:{self.queue}"

    @property
    def usage_key(self) -> str:
        """The hash of what the queue's jobs have used, outside its keys (protocol.md 8.1)."""
        return f"{self.prefix}::sandboxq:usage:{self.queue}"

    def mark_key(self, unique: str) -> str:
        """Return the key of one writer's marks (broker/commands/batches.py).

        Outside the queue's keys.
        """
        return f"{self.prefix}::sandboxq:mark:{self.queue}:{unique}"

    def reply_key(self, unique: str) -> str:
        """List for answers to what was asked over ``control_channel``, in the queue's slot."""
        return f"{self.reply_prefix}{self.queue}:{unique}"

    @property
    def reply_prefix(self) -> str:
        """What all such lists under the same prefix start with."""
        return f"{self.prefix}::sandboxq:reply:"


def keys_from_job_key(job_key: str, near: str) -> tuple[QueueKeys, str]:
    """Return the queue and the id in ``<prefix>:<queue>:<id>``.

    ``near`` is the prefix that the key most likely has: behind it an id may have three parts. Of
    others only the last two colons say where the parts end.
    Raises: UsageError when there are not so many, or a name in it is none of ours.
    """
    rest = job_key.removeprefix(f"{near}:")
    if rest != job_key and rest.count(":") == _COLONS_OF_PARTED_ID:
        queue, _, job_id = rest.partition(":")
        return QueueKeys(queue, near), job_id
    prefix, queue, job_id = ["", "", "", *job_key.rsplit(":", 2)][-3:]
    return QueueKeys(queue, prefix), job_id
