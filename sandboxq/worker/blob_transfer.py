"""Carries arrays and bytes: of claimed jobs from Redis, of results to Redis.

    Claimer ──fetch──► waiting ─┐                    ┌─ blob read ──► Pool.submit
    Listener ──store─► results ─┴─► two carriers ────┴─ stored ─────► Settler.end

Jobs that have none never come here. How much is held at once is bounded; the locks of jobs in here
are renewed like any other. Blobs are read into memory that is used again: new pages would cost more
than the transfer.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.commands.binary import (
    fetch,
    new_reference,
    note,
    reference_from_text,
    store,
)
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.model.outcome import Completed, Failed, HandedBack
from sandboxq.pool.outcomes import failure_from_ending
from sandboxq.worker.attempt import AttemptState, not_taken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.broker.commands.binary import Reference
    from sandboxq.pool.calls import Call
    from sandboxq.pool.outcomes import Unstored
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.settler import Settler

_log = logging.getLogger("sandboxq.worker")

# A small blob must not wait for a large one; more at once only share the same Redis.
_CARRIERS = 2
# What calls hold until they end; one that is larger runs alone.
_MOST_HELD = 1 << 30
# Memory that is kept for the next blobs, until none has come for so long.
_MOST_KEPT = 256 << 20
_KEEP_SECONDS = 5.0
_LEAST_MEMORY = 1 << 20
# Of these attempts a value is still to be stored.
_WANTS_VALUE = (AttemptState.ANSWERED, AttemptState.GIVEN_UP)


class Memory:
    """Blocks of memory in sizes of powers of two, used again."""

    def __init__(self) -> None:
        """Begin with none."""
        self._free: dict[int, list[mmap.mmap]] = {}
        self._kept = 0

    def take(self, size: int) -> mmap.mmap:
        """Return a block of at least so many bytes, with old data in it."""
        length = max(_LEAST_MEMORY, 1 << (size - 1).bit_length())
        free = self._free.get(length)
        if not free:
            return mmap.mmap(-1, length)
        self._kept -= length
        return free.pop()

    def give(self, block: mmap.mmap) -> None:
        """Take a block back."""
        if self._kept + len(block) <= _MOST_KEPT:
            self._kept += len(block)
            self._free.setdefault(len(block), []).append(block)

    def clear(self) -> None:
        """Free all blocks that are kept."""
        self._free.clear()
        self._kept = 0


class Blob:
    """The blob of a call; its memory is free for the next one after it."""

    __slots__ = ("_block", "_on_end", "table", "view")

    def __init__(
        self, block: mmap.mmap, size: int, table: bytes, on_end: Callable[[mmap.mmap, int], None]
    ) -> None:
        """Hold ``size`` bytes of the block; ``on_end`` gets it back when this is gone."""
        self._block = block
        self._on_end = on_end
        self.view = memoryview(block)[:size]
        self.table = table

    def __del__(self) -> None:
        """Give the memory back, however the call ended."""
        self._on_end(self._block, len(self.view))


class _Result(NamedTuple):
    attempt: Attempt
    outcome: Unstored


class BlobTransfer:
    """A service; while Redis is away what it has waits."""

    def __init__(
        self, context: WorkerContext, settler: Settler, *, deliver: Callable[[Call], None]
    ) -> None:
        """``deliver`` takes a call that has its blob; outcomes go to the settler."""
        self._broker = context.broker
        self._keys = context.keys
        self._telemetry = context.telemetry
        self._settler = settler
        self.deliver = deliver  # replaced while some of the jobs are to be sampled
        self._waiting: deque[tuple[Attempt, Call]] = deque()
        self._results: deque[_Result] = deque()
        self._memory = Memory()
        self._held = 0
        # Those whose blob is being read.
        self._fetching: dict[Attempt, None] = {}
        self._event = asyncio.Event()
        self._is_stopping = False

    @property
    def pending(self) -> int:
        """How many claimed jobs are not in the pool yet."""
        return len(self._waiting) + len(self._fetching)

    def fetch(self, attempt: Attempt, call: Call) -> None:
        """Read what belongs to a claimed job, then deliver its call."""
        self._waiting.append((attempt, call))
        self._wake()

    def store(self, attempt: Attempt, outcome: Unstored) -> None:
        """Write what belongs to a value, then settle it."""
        attempt.state = AttemptState.ANSWERED
        self._results.append(_Result(attempt, outcome))
        self._wake()

    def take_back(self) -> list[Attempt]:
        """Deliver no more; return the attempts that are not in the pool, in their order."""
        self._is_stopping = True
        attempts = [*self._fetching, *(attempt for attempt, _ in self._waiting)]
        self._waiting.clear()
        return attempts

    async def run(self) -> None:
        """Carry until cancelled."""
        async with asyncio.TaskGroup() as carriers:
            for _ in range(_CARRIERS):
                carriers.create_task(self._carry())

    def _wake(self) -> None:
        self._event.set()

    async def _carry(self) -> None:
        while True:
            if self._results:
                await self._store_next()
            elif self._waiting and self._has_room(self._waiting[0][0]):
                await self._fetch_next()
            else:
                await self._rest()

    # Not in the loop: while it rests, its names would keep the memory of what was carried last.

    async def _store_next(self) -> None:
        result = self._results.popleft()
        await self._carried(result.attempt, self._store(*result))

    async def _fetch_next(self) -> None:
        attempt, call = self._waiting.popleft()
        await self._carried(attempt, self._fetch(attempt, call))

    async def _carried(self, attempt: Attempt, carrying: Awaitable[None]) -> None:
        """Carry the blob of one job; if that fails, the job fails and the next one is carried."""
        try:
            await carrying
        except Exception as error:  # noqa: BLE001 - the boundary of one job
            job_id = attempt.job.id.decode(errors="replace")
            _log.error("arrays and bytes of job %s were not transferred", job_id, exc_info=error)
            reason = f"its arrays and bytes were not transferred: {type(error).__name__}: {error}"
            self._settler.end(attempt, Failed(reason, cause=type(error).__name__))

    async def _rest(self) -> None:
        self._event.clear()
        try:
            async with asyncio.timeout(_KEEP_SECONDS):
                await self._event.wait()
        except TimeoutError:
            self._memory.clear()

    def _has_room(self, attempt: Attempt) -> bool:
        return not self._held or self._held + _size_of(attempt) <= _MOST_HELD

    # ── to the pool ──

    async def _fetch(self, attempt: Attempt, call: Call) -> None:
        if not self._is_wanted(attempt, call):
            return
        self._fetching[attempt] = None
        try:
            reference = reference_from_text(attempt.job.binary.decode(errors="replace"))
            call.blob = await self._blob_of(reference)
        except QueueError as error:
            failure = Failed(str(error), cause=type(error).__name__, is_unrecoverable=True)
            self._settler.end(attempt, failure)
            return
        finally:
            del self._fetching[attempt]
        if self._is_wanted(attempt, call):
            attempt.state = AttemptState.RUNNING
            try:
                self.deliver(call)
            except BaseException:
                for each in not_taken([call]):
                    self._settler.hand_back(each)
                raise

    def _is_wanted(self, attempt: Attempt, call: Call) -> bool:
        """Tell whether a job is still to be run; see to it that it ends if that was asked for."""
        if attempt.state is not AttemptState.CLAIMED:
            return False  # lost, or given back
        if call.ending is not None:
            self._settler.end(attempt, failure_from_ending(call.ending, HandedBack()))
        elif self._is_stopping:
            self._settler.hand_back(attempt)
        else:
            return True
        return False

    async def _blob_of(self, reference: Reference) -> Blob:
        def into(view: memoryview) -> Callable[[int], memoryview]:
            return lambda _: view

        while True:
            block = self._memory.take(max(reference.size, 1))
            self._held += reference.size
            fetched = Blob(block, reference.size, reference.table.encode(), self._on_end)
            try:
                await fetch(self._broker, reference, into(fetched.view))
            except BrokerUnavailable:
                del fetched
                await self._broker.wait_until_back(self._telemetry)
            else:
                return fetched

    def _on_end(self, block: mmap.mmap, size: int) -> None:
        self._held -= size
        self._memory.give(block)
        self._wake()

    # ── from the pool ──

    async def _store(self, attempt: Attempt, outcome: Unstored) -> None:
        assert outcome.blob is not None  # noqa: S101 - what makes it unstored
        view = outcome.blob.view
        reference = new_reference(self._keys, len(view), outcome.table)
        while attempt.state in _WANTS_VALUE:
            try:
                await note(self._broker, self._keys, reference, attempt.job.id)
                await store(self._broker, reference, [view])
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)
            except QueueError as error:
                reason = f"the arrays and bytes of the value cannot be stored: {error}"
                self._settler.end(attempt, Failed(reason, cause=type(error).__name__))
                return
            else:
                break
        if attempt.state in _WANTS_VALUE:
            self._settler.end(attempt, Completed(outcome.value, reference.text()))


def _size_of(attempt: Attempt) -> int:
    """Return how large the blob of a job is; 0 when that cannot be read."""
    try:
        return reference_from_text(attempt.job.binary.decode(errors="replace")).size
    except QueueError:
        return 0
