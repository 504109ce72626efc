"""The topic ``stream``: what each child ran, when, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.workers import OF_STREAM
from sandboxq.errors import QueueError
from sandboxq.model.validation import MAX_SAFE_INTEGER, whole_from_wire
from sandboxq.queue.watch import Watch
from sandboxq.web.history import HOUR_MS, History, StoredJob
from sandboxq.web.live import FIRST_SECONDS, Topic, live_of
from sandboxq.web.topics import watched_queues

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.queue.fleet import Row
    from sandboxq.web.context import Dashboard
    from sandboxq.web.live import News

# Of so many queues the newest finished jobs are read, so many of each kind.
_FILLED_QUEUES, _FILLED_JOBS = 20, 100
# Seconds after which a worker that says nothing runs nothing.
_SILENCE = 5.0
_STATES = ("completed", "failed", "active")
_FIELDS = ("name", "processedOn", "finishedOn", "pb", "sq:cause")
# Causes of failures that ended the child.
_DEATHS = (b"JobCrashed", b"JobExited", b"JobTimeout", b"JobMemoryExceeded", b"JobCpuExceeded",
           b"JobProcessesExceeded", b"JobScratchExceeded", b"SandboxViolation")  # fmt: skip


class StreamTopic(Topic):
    """Sends what is new; all of it at first, and to who has missed something."""

    def __init__(self, dashboard: Dashboard) -> None:
        """Go on with what was heard before."""
        super().__init__(dashboard)
        kept = live_of(dashboard).kept
        self._history: History = kept.setdefault("stream", History())
        self._watch: Watch | None = None
        self._heard_at: dict[str, float] = {}
        self._now_ms = 0

    async def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Ask the workers, and read what had finished before."""
        broker = await self.dashboard.broker()
        self._watch = Watch(
            broker,
            self._take,
            queues=lambda: watched_queues(self.dashboard),
            prefix=self.dashboard.prefix,
            of=OF_STREAM,
        )
        with contextlib.suppress(QueueError):
            self._now_ms = await broker.now_ms()
            self._history.fill(await self._finished(broker))
        tasks.create_task(self._watch.run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._watch.asked.wait()

    def _take(self, message: Row) -> None:
        now = asyncio.get_running_loop().time()
        self._heard_at[str(message.get("id"))[:64]] = now
        self._history.take(message, self._now_ms)

    async def tick(self) -> None:
        """Wake those who look when there is more."""
        broker = await self.dashboard.broker()
        self._now_ms = await broker.now_ms()
        now = asyncio.get_running_loop().time()
        self._heard_at = {id_: at for id_, at in self._heard_at.items() if now - at < _SILENCE}
        self._history.forget_silent(set(self._heard_at))
        self.tell()

    def state(self) -> dict[str, Any]:
        """Return the whole hour."""
        return {**self._history.all(self._now_ms), **self._notes()}

    def news(self, place: int) -> News:
        """Return what came after a place in the history; all of it where that is not known."""
        newest = self._history.place
        if not 0 < place <= newest or not self._history.has_all_since(place):
            return [("all", self.state())], max(newest, 1)
        more = self._history.since(place, self._now_ms)
        return [("more", {**more, **self._notes()})], newest

    def _notes(self) -> dict[str, Any]:
        note = self.note_of(self._watch)
        return {"is_live": not note, "note": note, "workers": len(self._heard_at)}

    async def _finished(self, broker: Broker) -> list[StoredJob]:
        """Return the newest finished jobs, as far as nobody has heard of them, and active ones."""
        queues = (await watched_queues(self.dashboard))[:_FILLED_QUEUES]
        since = max(self._history.heard_until, self._now_ms - HOUR_MS) + 1
        asked = [
            (keys, state, _command(keys[state], state, since))
            for keys in queues
            for state in _STATES
        ]
        found = await broker.pipeline([command for _, _, command in asked])
        wanted = [
            (keys, state, job_id)
            for (keys, state, _), ids in zip(asked, found, strict=True)
            for job_id in ids
        ]
        hashes = await broker.pipeline(
            [("HMGET", keys[_text(job_id)], *_FIELDS) for keys, _, job_id in wanted]
        )
        jobs = [
            _stored(keys, job_id, state, fields)
            for (keys, state, job_id), fields in zip(wanted, hashes, strict=True)
        ]
        return [job for job in jobs if job is not None]


def _command(key: str, state: str, since: int) -> tuple[Any, ...]:
    if state == "active":
        return "LRANGE", key, 0, _FILLED_JOBS - 1
    return "ZREVRANGEBYSCORE", key, "+inf", since, "LIMIT", 0, _FILLED_JOBS


def _stored(
    keys: QueueKeys, job_id: bytes, state: str, fields: list[bytes | None]
) -> StoredJob | None:
    name, begun, ended, worker, cause = fields
    begin = whole_from_wire(begun or b"")
    end = MAX_SAFE_INTEGER if state == "active" else whole_from_wire(ended or b"")
    if not begin or not end or end < begin:
        return None
    if cause in _DEATHS and state == "failed":
        state = "died"
    # Workers have their name stored when they were given one.
    of = _text(worker or b"") or "some worker"
    return StoredJob(keys.queue, of, _text(job_id), _text(name or b""), begin, end, state)


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
