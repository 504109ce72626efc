"""The topic ``job:<queue>:<id>``: one job, while it runs and after its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.jobs import state_of
from sandboxq.broker.commands.peek import log_lines, peek
from sandboxq.broker.commands.workers import OF_JOB
from sandboxq.model.job import JobState
from sandboxq.queue.fleet import number, text
from sandboxq.queue.watch import Watch
from sandboxq.web.live import FIRST_SECONDS, Topic
from sandboxq.web.reads.rows import text as shown

if TYPE_CHECKING:
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.queue.fleet import Row
    from sandboxq.web.context import Dashboard

# Lines of the log that are shown, and characters of each; of a stack.
MOST_LINES, _MOST_TEXT, _MOST_STACK = 200, 2000, 16 * 1024
# Seconds after which a worker that says nothing of the job does not have it.
_SILENCE = 3.0
_FIELDS = {
    **dict.fromkeys(("name", "pb", "sq:cause"), 200),
    **dict.fromkeys(("processedOn", "finishedOn"), 24),
    "failedReason": _MOST_TEXT,
    "sq:last_stack": _MOST_STACK,
}
_NOT_OURS = (
    "no worker of sandboxq has this job: a worker of Node.js runs it, or its worker is gone. Its "
    "process, stack, memory and CPU are not known, and it can be neither told nor killed from here"
)


class JobTopic(Topic):
    """Asks the workers of the queue for this job, and reads what Redis has of it."""

    def __init__(self, dashboard: Dashboard, keys: QueueKeys, job_id: str) -> None:
        """See Topic."""
        super().__init__(dashboard)
        self._keys = keys
        self._id = job_id
        self._watch: Watch | None = None
        self._heard: Row | None = None
        self._heard_at = float("-inf")
        self._last_stack: dict[str, Any] | None = None
        self._stored: dict[str, Any] = {}
        self._since = asyncio.get_running_loop().time()

    async def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Ask the workers of the queue."""

        async def queues() -> list[QueueKeys]:
            return [self._keys]

        self._watch = Watch(
            await self.dashboard.broker(),
            self._take,
            queues=queues,
            prefix=self.dashboard.prefix,
            of=OF_JOB,
            target=self._id,
        )
        tasks.create_task(self._watch.run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._watch.asked.wait()

    def _take(self, message: Row) -> None:
        job = message.get("job")
        if not isinstance(job, dict) or job.get("id") != self._id:
            return
        self._heard = self._checked(message, job)
        self._heard_at = asyncio.get_running_loop().time()
        if self._heard["stack"]:
            self._last_stack = {"text": self._heard["stack"], "why": "the last one that was seen"}

    def _checked(self, message: Row, job: Row) -> Row:
        """Return what a worker says of the job: any client may publish."""
        redacted = self.dashboard.redaction.text
        numbers = ("seconds", "timeout", "left", "cpu", "rss", "memory", "age")
        lines = job.get("lines")
        return {
            **{name: text(message.get(name)) for name in ("worker", "host")},
            "pid": int(number(message.get("pid"))),
            "child": int(number(job.get("pid"))),
            "attempt": int(number(job.get("attempt"))),
            "beside": int(number(job.get("beside"))),
            "state": text(job.get("state")),
            **{each: None if job.get(each) is None else number(job[each]) for each in numbers},
            "stack": redacted(_block(job.get("stack"), _MOST_STACK)),
            "source": text(job.get("source", "")),
            "note": text(job.get("note", "")),
            "lines": [
                [text(line[0], 20), redacted(_block(line[1], _MOST_TEXT))]
                for line in (lines if isinstance(lines, list) else [])[-MOST_LINES:]
                if isinstance(line, list) and len(line) == 2  # noqa: PLR2004 - stream, text
            ],
        }

    async def tick(self) -> None:
        """Read the job, and wake those who look."""
        broker, keys = await self.dashboard.broker(), self._keys
        (row,) = await peek(broker, keys, [self._id], _FIELDS)
        log = await log_lines(
            broker, keys, self._id, first=-MOST_LINES, last=-1, most_bytes=_MOST_TEXT
        )
        state = await state_of(broker, keys, self._id)
        redacted = self.dashboard.redaction.text
        reason, stack = shown(row, "failedReason"), shown(row, "sq:last_stack")
        self._stored = {
            "id": self._id,
            "queue": keys.queue,
            "name": shown(row, "name"),
            "state": state.value,
            "is_running": state is JobState.ACTIVE,
            "processed_on": shown(row, "processedOn"),
            "finished_on": shown(row, "finishedOn"),
            "processed_by": shown(row, "pb"),
            "failed_reason": reason and redacted(reason),
            "cause": shown(row, "sq:cause"),
            "stored_stack": stack and redacted(stack),
            "log": {
                "total": log.total,
                "lines": [redacted(line.text) for line in log.lines],
            },
        }
        self.tell()

    def state(self) -> dict[str, Any]:
        """Return what is known now."""
        stored = dict(self._stored)
        kept = stored.pop("stored_stack", None)
        now = asyncio.get_running_loop().time()
        is_running = stored.get("is_running", False)
        is_live = is_running and now - self._heard_at < _SILENCE
        is_unknown = is_running and not is_live and now - self._since > _SILENCE
        return {
            **stored,
            "is_live": is_live,
            "unknown": _NOT_OURS if is_unknown else "",
            "note": self.note_of(self._watch),
            "job": self._heard if is_live else None,
            "last_stack": None if is_live else self._old_stack(kept),
        }

    def _old_stack(self, kept: str | None) -> dict[str, Any] | None:
        if kept:
            return {"text": kept, "is_old": True, "why": "taken before its process was killed"}
        return {**self._last_stack, "is_old": True} if self._last_stack else None


def _block(value: object, most: int = _MOST_TEXT) -> str:
    """Return text of several lines, cut; nothing for what is none."""
    return value[:most] if isinstance(value, str) else ""
