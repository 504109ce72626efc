"""How a running job adds jobs: it asks its worker, which has Redis."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.child.values import NotJson, json_from_value
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# The question to the worker, beside those of sandboxq.model.dependencies.
ADD = 7
# One call must not keep Redis, or the worker's event loop, from others for long.
MOST_JOBS = 1000
MOST_BYTES = 8 << 20
# Names, queues and options of all jobs, which the worker reads at once.
MOST_HEADER = 1 << 20
# Under which an option's class travels, for those that are objects: Backoff, Keep, ….
CLASS_MEMBER = "sq:class"

_HEADER = struct.Struct("<I")
_ENTRY_SIZES = (2, 3)


class AddedJob(NamedTuple):
    """A job that was added, or the one found in its place (``job_id``, ``deduplication``)."""

    id: str
    name: str
    queue_name: str


class JobQueue:
    """A queue of the worker's Redis, as a running job reaches it: it can add, and nothing else.

    In an ``async def`` processor ``await`` each method. The jobs are added while this attempt holds
    its lock, all of one call or none, at most 1,000 jobs and 8 MB of data. Their ids are UUIDs
    unless ``job_id`` is given.
    """

    __slots__ = ("_ask", "name")

    def __init__(
        self, name: str, ask: Callable[[bytes, Callable[[Sequence[bytes]], Any]], Any]
    ) -> None:
        """Add to the queue of this name; ``ask`` sends the question and decodes the answer."""
        self.name = name
        self._ask = ask

    def add(self, name: str, data: Any = None, **options: Any) -> Any:
        """Add one job with JSON ``data`` and return its AddedJob; options are those of Queue.add.

        Raises:
            UsageError: a name or an option cannot be right; nothing was added.
            QueueError: the worker refused (policy, lock lost, Redis), and says why.
        """
        node = {"name": name, "queue": self.name, "data": data, "opts": options}
        return add_nodes([node], self._ask, lambda added: added[0])

    def add_bulk(self, entries: Iterable[Sequence[Any]]) -> Any:
        """Add many jobs, each ``(name, data)`` or ``(name, data, options)``; return AddedJobs."""
        return add_nodes([self._node(entry) for entry in entries], self._ask, lambda added: added)

    def _node(self, entry: object) -> dict[str, Any]:
        if not isinstance(entry, (tuple, list)) or len(entry) not in _ENTRY_SIZES:
            message = f"an entry must be (name, data) or (name, data, options), not {entry!r}"
            raise UsageError(message)
        name, data, *options = entry
        return {"name": name, "queue": self.name, "data": data, "opts": dict(*options)}


def add_nodes(
    nodes: Sequence[Mapping[str, Any]],
    ask: Callable[[bytes, Callable[[Sequence[bytes]], Any]], Any],
    result: Callable[[list[AddedJob]], Any],
) -> Any:
    """Ask for these jobs and those below them; ``result`` picks what the caller gets."""
    request = encode_nodes(nodes)
    flat = list(_level_by_level(nodes))

    def decode(replies: Sequence[bytes]) -> Any:
        return result(
            [
                AddedJob(job_id.decode(errors="replace"), str(node["name"]), str(node["queue"]))
                for job_id, node in zip(replies, flat, strict=True)
            ]
        )

    return ask(request, decode)


def encode_nodes(nodes: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the request: a JSON header, in which ``data`` is a length, then the data of all.

    Raises: UsageError when it is more than one call may add, or an option has no form in JSON.
    """
    blobs: list[bytes] = []
    header = [_with_lengths(node, blobs) for node in nodes]
    try:
        text = json.dumps(header, default=_plain_option, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"what is to be added cannot be sent: {error}"
        raise UsageError(message) from error
    if len(blobs) > MOST_JOBS:
        message = f"one call may add {MOST_JOBS} jobs, not {len(blobs)}: add them in several"
        raise UsageError(message)
    if len(text) > MOST_HEADER:
        message = (
            f"names and options of one call may have {MOST_HEADER} bytes, not {len(text)}: add "
            "fewer jobs at once"
        )
        raise UsageError(message)
    size = len(text) + sum(map(len, blobs))
    if size > MOST_BYTES:
        message = (
            f"one call may add {MOST_BYTES} bytes, not {size}: add fewer at once, or store the "
            "data elsewhere and add where it is"
        )
        raise UsageError(message)
    return b"".join((_HEADER.pack(len(text)), text, *blobs))


def _with_lengths(node: Mapping[str, Any], blobs: list[bytes]) -> dict[str, Any]:
    try:
        blob = json_from_value(node.get("data"), f"the data of {node.get('name')!r}")
    except NotJson as error:
        raise UsageError(str(error)) from error
    blobs.append(blob)
    children = node.get("children") or ()
    return {
        **node,
        "data": len(blob),
        **({"children": [_with_lengths(each, blobs) for each in children]} if children else {}),
    }


def _level_by_level(nodes: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Yield all nodes, parents before their children: the order of the answer."""
    level = list(nodes)
    while level:
        yield from level
        level = [child for node in level for child in node.get("children") or ()]


def _plain_option(value: object) -> Any:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {CLASS_MEMBER: type(value).__name__, **plain}
    message = f"an option of type {type(value).__name__}"
    raise TypeError(message)


def decode_header(request: bytes) -> tuple[bytes, memoryview]:
    """Return the JSON header and the data behind it. Raises: struct.error."""
    (size,) = _HEADER.unpack_from(request)
    start = _HEADER.size + size
    return request[_HEADER.size : start], memoryview(request)[start:]
