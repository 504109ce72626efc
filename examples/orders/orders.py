"""Ends an order when its steps have ended: confirms it, or undoes what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandboxq import Job

UNDONE_BY = {"reserve": "release", "charge": "refund"}


def process(job: Job) -> dict[str, Any]:
    """Return what became of the order; a step that failed has every other one undone."""
    failures = job.ignored_children_failures()
    if not failures:
        return {"state": "confirmed"}
    done = sorted(job.children_values().values())
    for step in done:
        # Until it succeeds: money must not be lost because a database was away. An id, so that
        # this attempt and one after it add it once.
        job.queue("steps").add(
            UNDONE_BY[step],
            job.data,
            attempts=100,
            backoff=1,
            job_id=f"{UNDONE_BY[step]}-{job.data['order']}",
        )
    return {"state": "cancelled", "why": sorted(failures.values()), "undone": done}
