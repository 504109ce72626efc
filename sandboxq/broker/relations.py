"""What ties a job to others when it is added: its parent, and what makes it a duplicate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

OnFailure = Literal["wait", "fail", "continue", "ignore", "remove"]

# What a child's failure does to its parent, by the flag that says so on the wire.
ON_FAILURE: dict[str, str | None] = {
    "wait": None,
    "fail": "fpof",
    "continue": "cpof",
    "ignore": "idof",
    "remove": "rdof",
}


@dataclass(frozen=True, slots=True)
class Parent:
    """The job that waits for this one.

    ``queue`` is the name of its queue, under the same prefix. ``on_failure`` says what this job's
    failure does to the parent: it goes on waiting, fails too, continues at once, ignores the
    failure (and can read its reason), or forgets this job.
    """

    id: str
    queue: str
    on_failure: OnFailure = "wait"


@dataclass(frozen=True, slots=True)
class Deduplication:
    """Add nothing while another job with this deduplication id counts.

    Without ``ttl`` it counts until it finishes, with ``ttl`` for so many seconds. ``extend``
    restarts the ttl at each further add; ``replace`` swaps a still delayed job for the new one;
    ``keep_last_if_active`` runs the newest refused job once the active one has finished;
    ``reschedule`` gives a still delayed job the delay of the newest refused one.
    """

    id: str
    ttl: float | timedelta | None = None
    extend: bool = False
    replace: bool = False
    keep_last_if_active: bool = False
    reschedule: bool = False


def relation_members(
    deduplication: Deduplication | None, parent: Parent | None, *, prefix: str
) -> dict[str, Any]:
    """Return the members of a job's ``opts`` that say so (bullmq-wire.md 2.2)."""
    members: dict[str, Any] = {}
    if deduplication is not None:
        members["de"] = _deduplication_to_wire(deduplication)
    if parent is not None:
        members["parent"] = {"id": parent.id, "queue": f"{prefix}:{parent.queue}"}
        flag = ON_FAILURE[parent.on_failure]
        if flag is not None:
            members[flag] = True
    return members


def parent_link(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job field ``parent`` that belongs to these members of ``opts`` (2.1)."""
    parent = members["parent"]
    flags = {flag: True for flag in ON_FAILURE.values() if flag is not None and members.get(flag)}
    return {"id": parent["id"], "queueKey": parent["queue"], **flags}


def _deduplication_to_wire(deduplication: Deduplication) -> dict[str, Any]:
    wire: dict[str, Any] = {"id": deduplication.id}
    ttl = deduplication.ttl
    if ttl is not None:
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
        wire["ttl"] = round(seconds * 1000)
    if deduplication.extend:
        wire["extend"] = True
    if deduplication.replace:
        wire["replace"] = True
    if deduplication.keep_last_if_active:
        wire["keepLastIfActive"] = True
    if deduplication.reschedule:
        wire["reschedule"] = True
    return wire
