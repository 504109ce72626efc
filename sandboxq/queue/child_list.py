"""Lists the children of a job, one kind at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.children import range_of
from sandboxq.broker.jobs import jobs_of_keys
from sandboxq.dependencies import KINDS, reasons_from, values_from
from sandboxq.errors import UsageError
from sandboxq.job import Job  # noqa: TC001 - fields of a NamedTuple are read at run time
from sandboxq.limits import checked_whole

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys


class ChildList(NamedTuple):
    """Some children of one kind.

    ``total`` is how many there are in all, ``keys`` names those asked for, ``values`` has the
    values (of ``processed`` ones) or the reasons (of ``ignored`` ones), ``jobs`` those that still
    exist, by their keys.
    """

    total: int
    keys: list[str]
    values: dict[str, Any]
    jobs: dict[str, Job]


async def list_children(
    broker: Broker, keys: QueueKeys, job_id: str, kind: str, *, start: int, end: int
) -> ChildList:
    """Return the children ``start`` to ``end`` of one kind; see Queue.get_dependencies."""
    if kind not in KINDS:
        message = f"kind must be one of {', '.join(KINDS)}, not {kind!r}"
        raise UsageError(message)
    first, last = checked_whole("start", start), checked_whole("end", end, least=-1)
    found = await range_of(broker, keys, job_id, kind, start=first, end=last)
    names = [key for key, _ in found.items]
    flat = [part for key, raw in found.items for part in (key.encode(), raw)]
    values: dict[str, Any] = {}
    if kind == "processed":
        values = values_from(flat)
    elif kind == "ignored":
        values = dict(reasons_from(flat))
    return ChildList(
        found.total, names, values, await jobs_of_keys(broker, names, near=keys.prefix)
    )
