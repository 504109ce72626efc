"""The job as its processor sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandboxq.child.frames import DATA, LOG, PROGRESS, CallFields, decode_call, encode_page
from sandboxq.child.values import (
    ADD,
    MESSAGES,
    JobQueue,
    add_nodes,
    json_from_value,
    texts_from,
    value_from_json,
)
from sandboxq.errors import UsageError
from sandboxq.model import dependencies as words
from sandboxq.payload.binary import (
    WHOLE,
    bytes_at,
    node_buffer,
    place_named,
    places_in,
    put_back_views,
    value_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandboxq.child.frames import BlobPlace
    from sandboxq.child.link import Link
    from sandboxq.payload.binary import Place

_UNREAD: Any = object()


class Job:
    """What a processor is given. Its JSON is decoded when it is first looked at."""

    __slots__ = (
        "_blob",
        "_data",
        "_link",
        "_opts",
        "_parent",
        "_payload",
        "_progress",
        "_queue",
        "_seq",
        "_unpacked",
    )

    def __init__(self, payload: bytes, seq: int, *, link: Link, queue_name: str) -> None:
        """Keep the payload of a CALL; it is unpacked when a field is asked for.

        ``queue_name`` is that of the queue, or with its prefix in front ``<prefix>:<queue>``.
        """
        self._payload = payload
        self._unpacked: CallFields | None = None
        self._blob: tuple[dict[str, Place], memoryview] | None = None
        self._seq = seq
        self._link = link
        self._data = self._opts = self._parent = self._progress = _UNREAD
        self._queue = queue_name

    def __repr__(self) -> str:
        """Say which job it is."""
        return f"<Job {self.id} {self.name!r} of {self.queue_name!r}>"

    @property
    def id(self) -> str:
        """The job's id."""
        return self._fields.job_id.decode("utf-8", "replace")

    @property
    def name(self) -> str:
        """The job's name."""
        return self._fields.name.decode("utf-8", "replace")

    @property
    def data(self) -> Any:
        """What the producer sent.

        Raises:
            NotJson: what stands in Redis is no JSON; uncaught, it fails the job.
        """
        if self._data is _UNREAD:
            self._data = value_from_json(self._fields.data, f"the data of job {self.id}", empty={})
        return self._data

    @property
    def opts(self) -> dict[str, Any]:
        """The job's options, by BullMQ's names."""
        if self._opts is _UNREAD:
            self._opts = value_from_json(
                self._fields.opts, f"the options of job {self.id}", empty={}
            )
        return self._opts  # type: ignore[no-any-return]

    @property
    def trace_context(self) -> dict[str, str] | None:
        """What OpenTelemetry's ``extract`` takes, to span what belongs to this attempt.

        That of the worker's span, when it traces; else the producer's; None when there is none.
        """
        metadata = self.opts.get("tm")
        try:
            carrier = json.loads(metadata) if isinstance(metadata, str) else None
        except (ValueError, RecursionError):
            return None
        if not isinstance(carrier, dict):
            return None
        return {name: value for name, value in carrier.items() if isinstance(value, str)}

    @property
    def log_fields(self) -> dict[str, Any]:
        """Which job a line of a log is of: ``job_id``, ``queue``, ``attempt``, ``trace_id``.

        For a logger that has fields: ``structlog.contextvars.bind_contextvars(**job.log_fields)``.
        ``trace_id`` is there if the job carries a trace.
        """
        fields = {"job_id": self.id, "queue": self.queue_name, "attempt": self.attempts_made + 1}
        # As W3C writes it: version, trace, span, flags.
        _, trace, *_ = [*(self.trace_context or {}).get("traceparent", "").split("-"), ""]
        return {**fields, "trace_id": trace} if trace else fields

    @property
    def parent(self) -> dict[str, Any] | None:
        """The ``id`` and ``queueKey`` of the job that waits for this one, if any does."""
        if self._parent is _UNREAD:
            what = f"the parent of job {self.id}"
            self._parent = value_from_json(self._fields.parent, what, empty=None)
        return self._parent  # type: ignore[no-any-return]

    @property
    def progress(self) -> Any:
        """The progress as last updated, by this attempt or one before."""
        if self._progress is _UNREAD:
            what = f"the progress of job {self.id}"
            self._progress = value_from_json(self._fields.progress, what, empty=0)
        return self._progress

    @property
    def token(self) -> str:
        """The token of the lock under which this attempt runs."""
        return self._fields.token.decode("utf-8", "replace")

    @property
    def timestamp_ms(self) -> int:
        """When the job was added, in milliseconds since the epoch."""
        return _integer(self._fields.timestamp)

    @property
    def priority(self) -> int:
        """The job's priority; 0 is none, which goes first."""
        return _integer(self._fields.priority)

    @property
    def delay_ms(self) -> int:
        """The job's delay in milliseconds."""
        return _integer(self._fields.delay)

    @property
    def queue_name(self) -> str:
        """The name of the queue."""
        return self._queue.rpartition(":")[2]

    @property
    def prefix(self) -> str:
        """What its keys in Redis begin with: ``bull``, unless the worker says otherwise."""
        return self._queue.rpartition(":")[0]

    @property
    def queue_qualified_name(self) -> str:
        """``<prefix>:<queue>``, as it stands in front of the job's id in Redis."""
        return f"{self.prefix}:{self.queue_name}"

    @property
    def processed_on_ms(self) -> int:
        """When this attempt was claimed, in milliseconds since the epoch."""
        return self._fields.processed_on

    options = opts
    timestamp = timestamp_ms  # as Node calls it, and those below
    delay = delay_ms
    processed_on = processed_on_ms

    @property
    def scheduler_id(self) -> str | None:
        """The id of the scheduler that made the job, if one did."""
        return _text(self._fields.scheduler_id)

    @property
    def deduplication_id(self) -> str | None:
        """The deduplication id under which the job was added, if any."""
        return _text(self._fields.deduplication_id)

    @property
    def failed_reason(self) -> str | None:
        """Why the attempt before this one failed, None for the first."""
        return _text(self._fields.failed_reason)

    @property
    def attempts_made(self) -> int:
        """How many attempts ended before this one."""
        return self._fields.attempts_made

    @property
    def attempts_started(self) -> int:
        """How many attempts were started, this one included."""
        return self._fields.attempts_started

    @property
    def stalled_counter(self) -> int:
        """How often the job was found without a lock while it was active."""
        return self._fields.stalled_counter

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this attempt's end; once seen, what it returns is dropped."""
        return self._link.cancels.look(self._seq)

    def array(self, name: str = WHOLE) -> Any:
        """Return a numpy array of the job's data, by its place: ``pixels``, ``frames.0.pixels``.

        It is a view of shared memory, not copied, and cannot be written to. It is there until the
        job ends: copy what must live longer.
        Raises: UsageError when there is none of that name, or bytes; ImportError without numpy.
        """
        place, blob = self._find(name)
        if place is None or place.entry.dtype is None:
            message = f"{name!r} in the data of job {self.id} is bytes: use job.binary"
            raise UsageError(message)
        return value_at(place, blob)

    def binary(self, name: str = WHOLE) -> memoryview:
        """Return bytes of the job's data, or those of an array: a view, as ``array`` gives.

        What Node sent as a Buffer is found too. Raises: UsageError when there is none of that name.
        """
        place, blob = self._find(name)
        return blob if place is None else bytes_at(place, blob)

    def with_parts(self, value: Any) -> Any:
        """Return a value with the job's arrays and bytes where it has references to them.

        Those are in ``data``: a processor may return it, or a part of it.
        Raises: ValueError when it is nested too deep.
        """
        if self._unpacked is None or self._unpacked.blob is None or self._link.arena is None:
            return value
        return put_back_views(value, *self._parts(self._unpacked.blob))

    def _parts(self, place: BlobPlace) -> tuple[dict[str, Place], memoryview]:
        if self._blob is None:
            assert self._link.arena is not None  # noqa: S101 - asked by whoever calls
            blob = self._link.arena.read(place.offset, place.size)
            self._blob = places_in(place.table, place.size), blob
        return self._blob

    def _find(self, name: str) -> tuple[Place | None, memoryview]:
        """Return where a part is, and the blob; for a Buffer of Node None, and its bytes."""
        fields = self._fields
        place = fields.blob
        if place is not None and self._link.arena is not None:
            places, blob = self._parts(place)
            if name in places:
                return places[name], blob
        else:
            places = {}
        buffer = node_buffer(self.data, name)
        if buffer is not None:
            return None, memoryview(buffer)
        try:
            return place_named(places, name), memoryview(b"")
        except KeyError as error:
            message = f"job {self.id}: {error.args[0]}"
            raise UsageError(message) from None

    def update_progress(self, value: Any) -> None:
        """Report how far the job is: any JSON.

        Raises:
            NotJson: the value cannot be written as JSON.
        """
        self._report(PROGRESS, json_from_value(value, "the progress"))
        self._progress = value

    def log(self, row: object) -> None:
        """Add a line to the job's log."""
        self._report(LOG, str(row).encode("utf-8", "backslashreplace"))

    def update_data(self, value: Any) -> None:
        """Replace the job's data, for this attempt and those after it.

        Raises:
            NotJson: the value cannot be written as JSON.
        """
        self._report(DATA, json_from_value(value, "the data"))
        self._data = value

    def queue(self, name: str) -> JobQueue:
        """Return a queue of the worker's Redis, to add jobs to: ``job.queue("next").add(…)``."""
        return JobQueue(name, self._ask_to_add)

    def add(self, name: str, data: Any = None, **options: Any) -> Any:
        """Add a job to this job's own queue; see JobQueue.add."""
        return self.queue(self.queue_name).add(name, data, **options)

    def add_flow(
        self,
        *,
        name: str,
        queue: str,
        data: Any = None,
        children: Sequence[Mapping[str, Any]] = (),
        **options: Any,
    ) -> Any:
        """Add a job and those that it waits for, and return the AddedJob of the first.

        ``children`` are written as for FlowProducer.add; limits and errors are those of JobQueue.
        """
        root = {"name": name, "queue": queue, "data": data, "opts": options, "children": children}
        return add_nodes([root], self._ask_to_add, lambda added: added[0])

    def messages(self) -> Any:
        """Return what people have told this job, by the page, since it last asked: texts.

        In an ``async def`` processor ``await`` it. It asks the worker, not Redis: some 0.1 ms.
        """
        return self._ask(MESSAGES, texts_from)

    def children_values(self) -> Any:
        """Return the values of the children that completed, by ``<prefix>:<queue>:<id>``.

        In an ``async def`` processor ``await`` this and the other questions. While Redis is away
        the answer is waited for.
        """
        return self._ask(words.VALUES, words.values_from)

    def ignored_children_failures(self) -> Any:
        """Return why children failed whose failure was ignored or let this job continue, by key."""
        return self._ask(words.IGNORED, words.reasons_from)

    def failed_children(self) -> Any:
        """Return the keys of the children that failed this job."""
        return self._ask(words.FAILED, words.keys_from)

    def dependencies_count(self) -> Any:
        """Return how many children of each kind there are: see sandboxq.model.dependencies."""
        return self._questions.ask(self._seq, words.COUNTS, b"", words.counts_from)

    def dependencies(self, *, count: int | None = None, cursor: str = words.FIRST_PAGE) -> Any:
        """Return all children as Dependencies, or with ``count`` a page of about so many each kind.

        ``cursor`` is that of the page before.
        """
        if count is None:
            return self._questions.ask(self._seq, words.ALL, b"", words.all_from)
        page = words.Page.checked(cursor, count)
        argument = encode_page(cursor, count)
        return self._questions.ask(
            self._seq, words.PAGE, argument, lambda replies: words.page_from(replies, page)
        )

    @property
    def _questions(self) -> Any:
        return self._link.questions

    def _ask_to_add(self, request: bytes, decode: Callable[[Sequence[bytes]], Any]) -> Any:
        return self._questions.ask(self._seq, ADD, request, decode)

    def _ask(self, question: int, decode: Callable[[list[bytes]], Any]) -> Any:
        """Ask what has one reply."""
        return self._questions.ask(self._seq, question, b"", lambda replies: decode(replies[0]))

    @property
    def _fields(self) -> CallFields:
        if self._unpacked is None:
            self._unpacked = decode_call(self._payload)
            self._payload = b""
        return self._unpacked

    def _report(self, kind: int, payload: bytes) -> None:
        self._link.reports.send(kind, self._seq, payload)
        self._link.resume()


def _text(raw: bytes) -> str | None:
    return raw.decode("utf-8", "replace") if raw else None


def _integer(raw: bytes) -> int:
    try:
        return int(raw)
    except ValueError:
        return 0
