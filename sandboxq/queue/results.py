"""Waits for results: one reader of the events stream serves all who wait.

    wait(id) ── registers ──► waiters ◄── resolves ── reader: events stream, XREAD BLOCK
                    │                                    │ failed, removed, malformed;
                    │                                    │ everybody, now and then
                    └──────► unpolled ids ◄──────────────┘
                                 └─► poll: have they ended? ──► resolves

The reader notes its position in the stream before anything is polled, so that no ending is missed
between; polling again now and then covers entries that were trimmed before they were read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from sandboxq import errors
from sandboxq.broker.codec import json_value
from sandboxq.broker.commands import events
from sandboxq.broker.commands.jobs import Ending, endings_of
from sandboxq.broker.connect.blocking import SHORTEST_BLOCK
from sandboxq.broker.connect.stream_position import id_from_text
from sandboxq.errors import (
    BrokerUnavailable,
    ChildError,
    JobFailed,
    JobNotFound,
    QueueError,
    ResultTimeout,
)
from sandboxq.model.job import JobState
from sandboxq.model.validation import whole_from_wire
from sandboxq.queue.binary import Referring, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from sandboxq.broker.connect.blocking import BlockingReader
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.stream_position import EntryId
    from sandboxq.broker.keys import QueueKeys

_log = logging.getLogger("sandboxq.queue.results")

# Seconds that one read blocks; the reader stays for one more read when nobody waits any longer.
READ_SECONDS = 2.0
# How long a look at the stream may take.
_PLACE_SECONDS = 1.0
# So long after Redis refused to read the events, the jobs are asked and it is tried again.
REFUSED_SECONDS = 1.0
# How often all who wait are polled again: a busy stream drops entries that a slow reader never saw.
RECHECK_SECONDS = 5.0


class Results:
    """The endings that callers in this process wait for, of one queue."""

    def __init__(
        self, broker: Broker, keys: QueueKeys, on_active: Callable[[str], None] | None = None
    ) -> None:
        """Prepare; the reader starts with the first waiter.

        ``on_active`` is told the id of every job that a worker claims, while there are waiters.
        """
        self._on_active = on_active
        self._broker = broker
        self._keys = keys
        self._waiters: dict[str, list[asyncio.Future[Any]]] = {}
        self._unpolled: set[str] = set()
        # The last entry that was read; and jobs that are gone, with the last entry at that time.
        self._position: EntryId | None = None
        self._gone: dict[str, EntryId] = {}
        self._reader: BlockingReader | None = None
        self._reader_is_in_place = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is being read or polled."""
        return all(duty is None or duty.done() for duty in (self._reading, self._polling))

    async def wait(self, job_id: str, timeout: float | None) -> Any:
        """Return the job's value once it has completed.

        Raises: JobFailed, or that of its kinds which names how its child ended (JobCrashed, …);
        ResultTimeout after ``timeout`` seconds; JobNotFound when the job is gone and no event tells
        its value; BinaryMissing when the arrays and bytes in it are gone.
        """
        future = self.expect(job_id)
        try:
            done, _ = await asyncio.wait({future}, timeout=timeout)
        finally:
            self._forget(job_id, future)
        if done:
            return await whole(self._broker, future.result())
        message = f"job {job_id} did not finish within {timeout} s"
        raise ResultTimeout(message)

    async def be_in_place(self) -> None:
        """Follow the stream before a job is added, or no event tells that it was claimed."""
        self._ensure_running()
        with contextlib.suppress(TimeoutError):  # Redis is away: who adds will hear it
            async with asyncio.timeout(_PLACE_SECONDS):
                await self._reader_is_in_place.wait()

    def expect(self, job_id: str) -> asyncio.Future[Any]:
        """Return a future of the job's value, Referring when it has arrays or bytes; see ``wait``.

        It is not to be cancelled.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, []).append(future)
        self._unpolled.add(job_id)
        self._ensure_running()
        return future

    async def close(self) -> None:
        """Stop reading; whoever still waits gets a QueueError. May be called twice."""
        tasks = [task for task in (self._reading, self._polling) if task is not None]
        for task in tasks:
            task.cancel()
        # One that had failed was told to those who waited.
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._reader is not None:
            await self._reader.close()
        self._fail(list(self._waiters), "the queue was closed")

    # ── who waits ───────────────────────────────────────────────────────────

    def _forget(self, job_id: str, future: asyncio.Future[Any]) -> None:
        waiting = self._waiters.get(job_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiters.pop(job_id, None)
            self._unpolled.discard(job_id)
            self._gone.pop(job_id, None)

    def _succeed(self, job_id: str, value: Any) -> None:
        for future in self._waiters.pop(job_id, []):
            if not future.done():
                future.set_result(value)

    def _fail(
        self, job_ids: Iterable[str], reason: str, kind: type[Exception] = QueueError
    ) -> None:
        for job_id in job_ids:
            for future in self._waiters.pop(job_id, []):
                if not future.done():
                    # Each caller gets an error of its own: a raised one carries a traceback.
                    future.set_exception(kind(reason))

    def _fail_as(self, job_id: str, ending: Ending) -> None:
        for future in self._waiters.pop(job_id, []):
            if not future.done():
                future.set_exception(_error_from_ending(job_id, self._keys.queue, ending))

    # ── the two duties ──────────────────────────────────────────────────────

    def _ensure_running(self) -> None:
        if self._reading is None or self._reading.done():
            self._reader_is_in_place.clear()
            self._reading = self._start(self._read())
        if self._polling is None or self._polling.done():
            self._polling = self._start(self._poll())

    def _start(self, duty: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(duty)
        task.add_done_callback(self._on_end)
        return task

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Pass a crash on to the waiters: nothing else would wake them."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("waiting for results failed", exc_info=error)
            self._fail(list(self._waiters), f"waiting for results failed: {error!r}")

    async def _read(self) -> None:
        """Follow the events stream while somebody waits."""
        loop = asyncio.get_running_loop()
        position: str | None = None
        recheck_at = loop.time() + RECHECK_SECONDS
        is_wanted = True
        while is_wanted or self._waiters:
            is_wanted = bool(self._waiters)
            try:
                position = await self._read_once(position)
                self._position = id_from_text(position)
                self._give_up_gone()
            except BrokerUnavailable:
                # The stream may have lost what it had; then an old position would mean nothing.
                position = self._position = None
                self._gone.clear()
                self._reader_is_in_place.clear()
                await self._broker.wait_until_back()
                recheck_at = 0.0
            except QueueError as error:
                # The key is no stream, or this user may not read it: jobs are polled.
                _log.warning("events cannot be read, results are polled for instead: %s", error)
                position = None
                self._reader_is_in_place.set()
                await asyncio.sleep(REFUSED_SECONDS)
                recheck_at = 0.0
            if loop.time() >= recheck_at:
                recheck_at = loop.time() + RECHECK_SECONDS
                self._poll_soon(self._waiters)

    async def _read_once(self, position: str | None) -> str:
        if self._reader is None:
            self._reader = await self._broker.blocking(
                f"{self._keys.client_name}:qe", self._keys["events"]
            )
        if position is None:
            position = await events.last_event_id(self._broker, self._keys)
            self._position = id_from_text(position)
            self._reader_is_in_place.set()
        key = self._keys["events"]
        gone = list(self._gone)
        seconds = SHORTEST_BLOCK if gone else READ_SECONDS
        entries = await self._reader.read_events(key, position, seconds)
        if not entries:
            # All there was has been read: nothing told of these.
            self._give_up(gone)
        for entry_id, fields in entries:
            position = entry_id
            if self._on_active is not None and fields.get("event") == events.ACTIVE:
                self._on_active(fields.get("jobId", ""))
            if fields.get("jobId") in self._waiters:
                self._on_event(fields["jobId"], fields)
        return position

    async def _poll(self) -> None:
        """Read the state of the unpolled jobs, until none is left."""
        while self._unpolled:
            await self._reader_is_in_place.wait()
            # Taken out before asking: an event that comes before the reply may ask again.
            batch = [job_id for job_id in self._unpolled if job_id in self._waiters]
            self._unpolled.clear()
            try:
                await self._poll_batch(batch)
            except BrokerUnavailable:
                self._unpolled.update(batch)
                await self._broker.wait_until_back()

    def _poll_soon(self, job_ids: Iterable[str]) -> None:
        self._unpolled.update(job_ids)
        if self._unpolled:
            self._ensure_running()

    async def _poll_batch(self, batch: list[str]) -> None:
        missing: list[str] = []
        for job_id, ending in zip(
            batch, await endings_of(self._broker, self._keys, batch), strict=True
        ):
            if ending.exists:
                self._on_ending(job_id, ending)
            else:
                missing.append(job_id)
        if missing:
            await self._resolve_missing(missing)

    async def _resolve_missing(self, job_ids: list[str]) -> None:
        """Find what the stream still says of jobs that were removed when they finished."""
        last = id_from_text(await events.last_event_id(self._broker, self._keys))
        endings = await events.endings_in_stream(self._broker, self._keys, job_ids)
        for job_id in job_ids:
            fields = endings.get(job_id)
            if fields is None:
                # A busy stream is trimmed while it is searched backwards. The reader, who follows
                # it from before, may have the entry still before it.
                self._gone[job_id] = last
            elif fields["event"] == events.COMPLETED:
                value = fields.get("returnvalue", "").encode(errors="replace")
                self._complete(job_id, value, fields.get(events.RESULT, ""))
            else:
                self._fail_as(job_id, _ending_from_event(fields))
        self._give_up_gone()
        if self._gone and self._reader is not None:
            # It waits for what comes next, and this may be all that there was.
            await self._reader.unblock()

    def _give_up_gone(self) -> None:
        """Give up the jobs of which no entry, up to the last one then, tells how they ended."""
        at = self._position
        if at is not None:
            self._give_up([job_id for job_id, last in self._gone.items() if last <= at])

    def _give_up(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            if self._gone.pop(job_id, None) is not None:
                message = f"job {job_id} does not exist in queue {self._keys.queue}"
                self._fail([job_id], message, JobNotFound)

    # ── how a job ended ─────────────────────────────────────────────────────

    def _on_event(self, job_id: str, fields: Mapping[str, str]) -> None:
        match fields.get("event"):
            case events.COMPLETED:
                self._on_completed_event(job_id, fields)
            case events.FAILED | events.REMOVED:
                # The event does not say the cause, nor whether the job exists.
                self._poll_soon([job_id])
            case _:
                pass

    def _on_completed_event(self, job_id: str, fields: Mapping[str, str]) -> None:
        try:
            value = json_value(fields.get("returnvalue", "").encode())
        except ValueError:
            self._poll_soon([job_id])
        else:
            self._succeed(job_id, _referring(value, fields.get(events.RESULT, "")))

    def _on_ending(self, job_id: str, ending: Ending) -> None:
        if ending.state is JobState.COMPLETED:
            self._complete(job_id, ending.text, ending.binary.decode(errors="replace"))
        elif ending.state is JobState.FAILED:
            self._fail_as(job_id, ending)

    def _complete(self, job_id: str, text: bytes, reference: str) -> None:
        try:
            value = json_value(text)
        except ValueError as error:
            self._fail([job_id], f"job {job_id} completed, but its value is not JSON: {error}")
        else:
            self._succeed(job_id, _referring(value, reference))


def _referring(value: Any, reference: str) -> Any:
    return Referring(value, reference) if reference else value


def _ending_from_event(fields: Mapping[str, str]) -> Ending:
    """Return how a job that was removed has failed, as far as its event tells."""
    return Ending(
        exists=False,
        state=JobState.FAILED,
        text=fields.get("failedReason", "").encode(errors="replace"),
        cause=fields.get(events.CAUSE, ""),
        attempts_made=whole_from_wire(fields.get(events.ATTEMPT, "").encode()) or 0,
    )


def _error_from_ending(job_id: str, queue_name: str, ending: Ending) -> JobFailed:
    error = _error_class(ending.cause)(ending.text.decode(errors="replace"))
    error.cause, error.job_id, error.queue_name = ending.cause, job_id, queue_name
    error.stacktrace, error.attempts_made = ending.stacktrace, ending.attempts_made
    return error


def _error_class(cause: str) -> type[JobFailed]:
    """Return the ChildError of this name, JobFailed for every other cause."""
    kind = getattr(errors, cause, JobFailed) if cause else JobFailed
    return kind if isinstance(kind, type) and issubclass(kind, ChildError) else JobFailed
