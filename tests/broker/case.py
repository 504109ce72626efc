"""One queue on a real server: filled and looked at key by key, worked on by the code under test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import redis

from sandboxq.broker.commands.attempts import (
    Report,
    Settlement,
    extend,
    recover_stalled,
    report,
    settle,
)
from sandboxq.broker.commands.claim import (
    Bounds,
    Claim,
    Claimant,
    claim,
    claim_as,
)
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from tests.conftest import run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from sandboxq.model.outcome import Transition

# What these tests take for the present, milliseconds since the epoch.
NOW = 1_795_360_570_000
TOKEN = "tok:1"  # noqa: S105 - a lock token, no secret


class Case:
    """A queue under test; ``redis`` is a plain client, replies as text."""

    def __init__(self, url: str, name: str) -> None:
        """Start with an empty queue."""
        self.url = url
        self.keys = QueueKeys(name)
        self.redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self.redis.hset(self.keys["meta"], "opts.maxLenEvents", 10000)
        # Of each job, whether its last claim said that it is plain: a worker passes that on.
        self.plain: dict[str, bool] = {}

    # ── given ───────────────────────────────────────────────────────────────

    def job(self, job_id: str, **fields: Any) -> str:
        """Write a job's hash without queueing it, and return its key."""
        stored = {"name": "n", "data": "{}", "opts": "{}", "timestamp": NOW - 1000}
        key = self.keys[job_id]
        self.redis.hset(key, mapping={**stored, "delay": 0, "priority": 0, **fields})
        return key

    def waiting(self, *job_ids: str, **fields: Any) -> None:
        """Queue jobs, first in first out."""
        for job_id in job_ids:
            self.job(job_id, **fields)
            self.redis.lpush(self.keys["wait"], job_id)

    def active(self, *job_ids: str, **fields: Any) -> None:
        """Queue and claim jobs, locked by TOKEN, and forget the events of it."""
        self.waiting(*job_ids, **fields)
        jobs = self.claim(limit=len(job_ids)).jobs
        assert [job.id.decode() for job in jobs] == list(job_ids)
        self.redis.delete(self.keys["events"], self.keys["marker"])

    def active_parent(self, job_id: str, *, children: Sequence[str]) -> str:
        """Queue and claim a job that has children in this queue, and return its key."""
        self.active(job_id)
        key = self.keys[job_id]
        self.redis.sadd(f"{key}:dependencies", *(self.keys[child] for child in children))
        return key

    # ── when ────────────────────────────────────────────────────────────────

    def run(self, body: Callable[[Broker], Coroutine[Any, Any, Any]]) -> Any:
        """Run an async body with a broker."""

        async def main() -> Any:
            broker = await Broker.connect(self.url)
            try:
                return await body(broker)
            finally:
                await broker.close()

        return run_async(main())

    def claim(self, limit: int = 10, *, now_ms: int = NOW, **options: Any) -> Claim:
        """Claim as TOKEN."""
        options = {"token": TOKEN, "lock_ms": 30_000, **options}
        result: Claim = self.run(
            lambda broker: claim(broker, self.keys, limit=limit, now_ms=now_ms, **options)
        )
        self.plain |= {job.id.decode(): job.is_plain for job in result.jobs}
        return result

    def claim_bounded(self, limit: int, max_bytes: int = 2**53, at_once: int = 100) -> Claim:
        """Claim as TOKEN, within these bounds."""
        claimant = Claimant(30_000)
        result: Claim = self.run(
            lambda broker: claim_as(
                claimant,
                broker,
                self.keys,
                limit=limit,
                token=TOKEN,
                now_ms=NOW,
                bounds=Bounds(max_bytes, at_once),
            )
        )
        return result

    def settle(
        self, *settlements: tuple[str, Transition], token: str = TOKEN, **options: Any
    ) -> list[int]:
        """Settle as ``token``."""
        rows = [
            Settlement(i.encode(), token.encode(), transition, is_plain=self.plain.get(i, False))
            for i, transition in settlements
        ]
        options = {"now_ms": NOW + 5, **options}
        codes: list[int] = self.run(lambda broker: settle(broker, self.keys, rows, **options))
        return codes

    def extend(
        self,
        *held: tuple[str, str],
        lock_ms: int = 30_000,
        retake: bool = False,
        started: int | bytes = b"",
    ) -> list[str]:
        """Renew (id, token) pairs; returns the lost ids."""
        rows = [(job_id.encode(), token.encode(), started) for job_id, token in held]
        lost = self.run(
            lambda broker: extend(broker, self.keys, rows, lock_ms=lock_ms, retake=retake)
        )
        return [job_id.decode() for job_id in lost]

    def report(self, *reports: Report) -> list[int]:
        """Write reports."""
        codes: list[int] = self.run(lambda broker: report(broker, self.keys, reports))
        return codes

    def recover(self, *, max_stalled_count: int = 1) -> list[str]:
        """Run one stalled pass, whatever the guard says."""
        self.redis.delete(self.keys["stalled-check"])
        return self.recover_guarded(max_stalled_count=max_stalled_count)

    def recover_guarded(
        self, *, max_stalled_count: int = 1, now_ms: int = NOW, is_server_time: bool = False
    ) -> list[str]:
        """Ask for a stalled pass."""
        ids = self.run(
            lambda broker: recover_stalled(
                broker,
                self.keys,
                now_ms=now_ms,
                interval_ms=30_000,
                max_stalled_count=max_stalled_count,
                is_server_time=is_server_time,
            )
        )
        return [job_id.decode() for job_id in ids]

    # ── then ────────────────────────────────────────────────────────────────

    def hash(self, job_id: str) -> dict[str, str]:
        """Return all fields of a job."""
        fields: dict[str, str] = self.redis.hgetall(self.keys[job_id])
        return fields

    def items(self, suffix: str) -> list[str]:
        """Return a list from left (newest) to right (next)."""
        items: list[str] = self.redis.lrange(self.keys[suffix], 0, -1)
        return items

    def scores(self, suffix: str) -> dict[str, float]:
        """Return a sorted set."""
        return dict(self.redis.zrange(self.keys[suffix], 0, -1, withscores=True))

    def events(self, keys: QueueKeys | None = None) -> list[dict[str, str]]:
        """Return all events, their fields in order."""
        return [fields for _, fields in self.redis.xrange((keys or self.keys)["events"])]

    def keys_of(self, job_id: str) -> set[str]:
        """Return the names of all keys under a job's key, without the queue's base."""
        found = [
            *self.redis.scan_iter(self.keys[job_id] + ":*"),
            *self.redis.keys(self.keys[job_id]),
        ]
        return {name.removeprefix(self.keys.base) for name in found}


def traces(fields: dict[str, str]) -> Any:
    """Return the stored stack traces."""
    return json.loads(fields["stacktrace"])
