"""Arrays and bytes in what is added and in results, between Python values and Redis.

add:    value ─► JSON with references + parts ─► stored ─► NewJob that names them
result: JSON with references + blob ─► the value with arrays and bytes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.codec import json_text
from sandboxq.broker.commands.add import with_binary
from sandboxq.broker.commands.binary import (
    drop,
    fetch,
    fetch_part,
    reference_from_text,
    store_all,
)
from sandboxq.errors import BinaryMissing, JobNotFound, UsageError
from sandboxq.payload.binary import (
    Part,
    place_named,
    places_in,
    put_back,
    take_out,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.commands.add import NewJob
    from sandboxq.broker.commands.binary import Reference
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.model.job import JobOptions
    from sandboxq.payload.binary import Place


class Referring(NamedTuple):
    """A JSON value that refers to parts of a blob that was not read yet."""

    value: Any
    reference: str


class JsonText(str):
    """Data that is JSON text already, and is added as it is."""

    __slots__ = ()


def text_and_parts(data: Any, what: str) -> tuple[str, list[Part]]:
    """Return the value as JSON, and the arrays and bytes that it refers to.

    Raises: UsageError for what is neither.
    """
    if type(data) is JsonText:
        return str(data), []
    try:
        return json_text(data, what), []
    except UsageError:
        # Only now: data that is JSON needs no search for arrays.
        value, parts = take_out(data, what)
        if not parts:
            raise
        return json_text(value, what), parts


def checked_parts(parts: list[Part], options: JobOptions) -> list[Part]:
    """Refuse arrays and bytes where Node's scripts would keep the JSON without them."""
    deduplication = options.extra.get("de") or {}
    if parts and deduplication.get("keepLastIfActive"):
        message = "arrays and bytes cannot be added with deduplication keep_last_if_active"
        raise UsageError(message)
    return parts


async def with_stored_parts(
    broker: Broker, jobs: Sequence[tuple[QueueKeys, NewJob, list[Part]]]
) -> tuple[list[NewJob], list[Reference]]:
    """Store the parts of these jobs; return the jobs naming them, and what was stored.

    Raises: BrokerUnavailable; what was stored before expires.
    """
    if not any(parts for _, _, parts in jobs):
        return [new for _, new, _ in jobs], []
    wanted = [(keys, parts) for keys, _, parts in jobs if parts]
    stored = await store_all(broker, wanted)
    references = iter(stored)
    named = [with_binary(new, next(references).text()) if parts else new for _, new, parts in jobs]
    return named, stored


async def forget(broker: Broker, stored: list[Reference]) -> None:
    """Remove what was stored for jobs that were all refused."""
    if stored:
        await drop(broker, stored)


async def whole(broker: Broker, value: Any) -> Any:
    """Return a result, with its arrays and bytes read and in their places.

    Raises: BrokerUnavailable, BinaryMissing.
    """
    if not isinstance(value, Referring):
        return value
    reference = reference_from_text(value.reference)
    blob = await fetch(broker, reference)
    try:
        places = places_in(reference.table, reference.size)
        return put_back(value.value, places, blob)
    except ValueError as error:
        raise BinaryMissing(str(error)) from error


async def part_of_data(broker: Broker, keys: QueueKeys, job_id: str, name: str) -> Any:
    """Return one array, or memoryview of bytes, of a job's data; the others are not read.

    Raises: BrokerUnavailable, JobNotFound, BinaryMissing, UsageError for an unknown name.
    """
    name_field, text = await broker.command("HMGET", keys[job_id], "name", "sq:binary")
    if name_field is None:
        message = f"job {job_id} does not exist in queue {keys.queue}"
        raise JobNotFound(message)
    if text is None:
        message = f"job {job_id} has no arrays and no bytes"
        raise UsageError(message)
    reference = reference_from_text(text.decode(errors="replace"))
    try:
        place = place_named(places_in(reference.table, reference.size), name)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from None
    except ValueError as error:
        raise BinaryMissing(str(error)) from error
    return await _read(broker, reference, place)


async def _read(broker: Broker, reference: Reference, place: Place) -> Any:
    raw = await fetch_part(broker, reference, start=place.offset, size=place.entry.size)
    return value_at(place._replace(offset=0), raw)
