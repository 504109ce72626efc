"""What a queue is, in plain Python: the rules of protocol.md 3, written from that document.

    waiting (wait | paused) ─┐                        ┌─► completed
    prioritized ─────────────┼─ claim ─► active ─ settle ─► failed
    delayed ── due ──────────┘              ▲         └─► waiting, prioritized, delayed
                                            └─ stalled ─► waiting

Lists run from the newest (left) to the next (right), as in Redis.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxq.model.job import Deduplication

# Scores, protocol.md 1.2.
DELAY_SHIFT = 4096
PRIORITY_SHIFT = 2**32

Event = tuple[str | None, ...]


@dataclass
class ModelJob:
    """One job; ``rule`` is its option ``deduplication``."""

    id: str
    name: str
    data: str
    timestamp: int
    delay: int = 0
    priority: int = 0
    is_lifo: bool = False
    rule: Deduplication | None = None
    made: int = 0
    started: int = 0
    stalls: int = 0
    deferred: str | None = None
    processed_on: int | None = None
    finished_on: int | None = None
    worker: str | None = None
    progress: str | None = None
    value: str | None = None
    reason: str | None = None
    traces: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)


@dataclass
class Dedup:
    """A deduplication key: whose it is, and whether it runs out by itself."""

    owner: str
    has_ttl: bool


class QueueModel:
    """One queue; its methods return what the real ones must."""

    def __init__(self, now: int, *, is_v5: bool) -> None:
        """Start empty; ``is_v5`` is a queue that a Node client of version 5 made."""
        self.now = now
        self.is_v5 = is_v5
        self.is_paused = False
        self.concurrency: int | None = None
        self.jobs: dict[str, ModelJob] = {}
        self.lists: dict[str, list[str]] = {"wait": [], "paused": [], "active": []}
        self.sets: dict[str, dict[str, int]] = {
            name: {} for name in ("prioritized", "delayed", "completed", "failed")
        }
        self.locks: dict[str, str] = {}
        self.noted: set[str] = set()
        self.dedups: dict[str, Dedup] = {}
        self.stored: dict[str, ModelJob] = {}
        self.id_count = 0
        self.priority_count = 0
        self.window_count = 0
        self.events: list[Event] = []

    # ── looking ─────────────────────────────────────────────────────────────

    @property
    def active(self) -> list[str]:
        """The ids of active jobs."""
        return self.lists["active"]

    @property
    def target(self) -> list[str]:
        """The list that what waits is pushed to (9.2)."""
        is_apart = self.is_paused and (self.is_v5 or self.lists["paused"])
        return self.lists["paused" if is_apart else "wait"]

    @property
    def is_blocked(self) -> bool:
        """Whether nothing may be claimed."""
        is_full = self.concurrency is not None and len(self.active) >= self.concurrency
        return self.is_paused or is_full

    @property
    def has_claimable(self) -> bool:
        """Whether a claim would bring a job, the rate limit apart."""
        return not self.is_blocked and bool(self.lists["wait"] or self.sets["prioritized"])

    def in_order(self, name: str) -> list[str]:
        """Return the ids of a sorted set."""
        scores = self.sets[name]
        return sorted(scores, key=lambda job_id: (scores[job_id], job_id))

    def state_of(self, job_id: str) -> str | None:
        """Return the list or set that holds a job."""
        places: dict[str, Iterable[str]] = {**self.sets, **self.lists}
        return next((name for name, ids in places.items() if job_id in ids), None)

    # ── adding ──────────────────────────────────────────────────────────────

    def add(self, draft: ModelJob, *, custom_id: str | None) -> str:
        """Add a job and return its id, or that of the job found instead."""
        self.id_count += 1
        job = replace(draft, id=custom_id or str(self.id_count))
        if custom_id in self.jobs:
            self.tell("duplicated", job.id)
            return job.id
        existing = self._deduplicate(job)
        if existing is None:
            self._store(job)
        return existing or job.id

    def _store(self, job: ModelJob) -> None:
        self.jobs[job.id] = job
        self.tell("added", job.id)
        if job.delay > 0:
            self.place_delayed(job, job.timestamp + job.delay)
        else:
            self.place_waiting(job, is_lifo=job.is_lifo)
            self.tell("waiting", job.id)

    def place_waiting(self, job: ModelJob, *, is_lifo: bool) -> None:
        """Queue a job behind others, or in front."""
        if job.priority > 0:
            self.priority_count += 1
            score = job.priority * PRIORITY_SHIFT + self.priority_count
            self.sets["prioritized"][job.id] = score
        elif is_lifo:
            self.target.append(job.id)
        else:
            self.target.insert(0, job.id)

    def place_delayed(self, job: ModelJob, due: int) -> None:
        """Delay a job behind others that are due then."""
        lowest = due * DELAY_SHIFT
        same = [score for score in self.sets["delayed"].values() if lowest <= score < lowest + 4096]
        self.sets["delayed"][job.id] = min(max(same) + 1, lowest + 4095) if same else lowest
        self.tell("delayed", job.id)

    def tell(self, name: str, job_id: str | None = None, prev: str | None = None) -> None:
        """Emit an event."""
        self.events.append((name, job_id, prev))

    # ── deduplication (3.5) ─────────────────────────────────────────────────

    def _deduplicate(self, job: ModelJob) -> str | None:
        rule = job.rule
        if rule is None:
            return None
        held = self.dedups.get(rule.id)
        if held is not None and not held.has_ttl and held.owner not in self.jobs:
            self.stored.pop(rule.id, None)
            held = None
        if held is None:
            self._set_dedup(job.id, rule)
            return None
        if rule.replace and held.owner in self.sets["delayed"]:
            self._replace_delayed(job, rule, held)
            return None
        if rule.extend and rule.ttl and not rule.replace:
            self._set_dedup(held.owner, rule)
            held = self.dedups[rule.id]
        if rule.keep_last_if_active and held.owner in self.active:
            self.stored[rule.id] = job
            held.has_ttl = False
            self.tell("deduplicated", held.owner)
        elif not rule.replace:
            self.tell("deduplicated", held.owner)
        if rule.reschedule and not rule.replace and held.owner in self.sets["delayed"]:
            owner = self.jobs[held.owner]
            owner.delay = job.delay
            self.place_delayed(owner, job.timestamp + job.delay)
        return held.owner

    def _set_dedup(self, owner: str, rule: Deduplication) -> None:
        has_ttl = rule.ttl is not None and not rule.keep_last_if_active
        self.dedups[rule.id] = Dedup(owner, has_ttl)

    def _replace_delayed(self, job: ModelJob, rule: Deduplication, held: Dedup) -> None:
        del self.sets["delayed"][held.owner]
        del self.jobs[held.owner]
        self.tell("removed", held.owner, "delayed")
        self.tell("deduplicated", job.id)
        self.stored.pop(rule.id, None)
        if rule.ttl and not rule.extend and not rule.keep_last_if_active:
            held.owner = job.id
        else:
            self._set_dedup(job.id, rule)

    def release_dedup(self, job: ModelJob) -> None:
        """Let others with its deduplication id in: it finishes."""
        if job.rule is None:
            return
        name = job.rule.id
        held = self.dedups.get(name)
        if held is not None and not held.has_ttl and held.owner == job.id:
            del self.dedups[name]
        following = self.stored.pop(name, None)
        if following is not None:
            self.id_count += 1
            rule = following.rule
            assert rule is not None
            self._set_dedup(following.id, rule)
            self._store(replace(following, timestamp=self.now))

    def _forget_dedup(self, job: ModelJob) -> None:
        held = self.dedups.get(job.rule.id) if job.rule else None
        if job.rule is not None and held is not None and held.owner == job.id:
            del self.dedups[job.rule.id]
            self.stored.pop(job.rule.id, None)

    # ── claiming (3.6) ──────────────────────────────────────────────────────

    def claim(
        self, limit: int, token: str, *, worker: str, max_in_window: int | None
    ) -> list[str] | None:
        """Return the ids claimed; None when the window is used up or the queue blocked."""
        self.promote_due()
        if max_in_window is not None:
            limit = min(limit, max_in_window - self.window_count)
        if limit <= 0 or self.is_blocked:
            return None
        if self.concurrency is not None:
            limit = min(limit, self.concurrency - len(self.active))
        ids = self._pop(limit)
        for job_id in ids:
            self._start(self.jobs[job_id], token, worker)
        if max_in_window is not None:
            self.window_count += sum(self.jobs[job_id].deferred is None for job_id in ids)
        return ids

    def promote_due(self) -> None:
        """Move what is due to where it waits."""
        last = (self.now + 1) * DELAY_SHIFT - 1
        delayed = self.sets["delayed"]
        for job_id in [each for each in self.in_order("delayed") if delayed[each] <= last]:
            del delayed[job_id]
            job = self.jobs[job_id]
            self.place_waiting(job, is_lifo=False)
            self.tell("waiting", job_id, "delayed")
            job.delay = 0

    def _pop(self, limit: int) -> list[str]:
        wait = self.lists["wait"]
        ids = [wait.pop() for _ in range(min(limit, len(wait)))]
        missing = limit - len(ids)
        if missing:
            first = self.in_order("prioritized")[:missing]
            for job_id in first:
                del self.sets["prioritized"][job_id]
            if len(first) < missing:
                self.priority_count = 0
            ids += first
        for job_id in ids:
            self.active.insert(0, job_id)
        return ids

    def _start(self, job: ModelJob, token: str, worker: str) -> None:
        job.started += 1
        job.processed_on = self.now
        job.worker = worker or job.worker
        self.locks[job.id] = token
        self.tell("active", job.id, "waiting")

    # ── keeping and losing locks ────────────────────────────────────────────

    def report(self, job_id: str, token: str, kind: str, payload: str) -> int:
        """Write a report of the run that holds ``token``."""
        job = self.jobs.get(job_id)
        if job is None:
            return -1
        if token not in ("0", self.locks.get(job_id)):
            return -6 if job_id in self.locks else -2
        match kind:
            case "log":
                job.logs.append(payload)
            case "data":
                job.data = payload
            case _:
                job.progress = payload
                self.tell("progress", job_id)
        return 0

    def extend(self, held: Sequence[tuple[str, str]]) -> list[str]:
        """Renew locks; return the ids of those that are lost."""
        mine = {job_id for job_id, token in held if self.locks.get(job_id) == token}
        self.noted -= mine
        return [job_id for job_id, token in held if self.locks.get(job_id) != token]

    def stalled(self, max_stalls: int, recovered: Sequence[str]) -> set[str]:
        """Take back the jobs that nobody renewed, in the given order; return who they are."""
        due = {each for each in self.noted if each not in self.locks and each in self.active}
        due &= self.jobs.keys()
        for job_id in recovered:
            job = self.jobs[job_id]
            self.active.remove(job_id)
            job.stalls += 1
            if job.stalls > max_stalls:
                job.deferred = "job stalled more than allowable limit"
            self.target.append(job_id)
            self.tell("waiting", job_id, "active")
            self.tell("stalled", job_id)
        self.noted = set(self.active)
        return due

    # ── operating ───────────────────────────────────────────────────────────

    def pause(self) -> None:
        """Pause; where a v5 client may resume, all that waits goes to its list."""
        self.is_paused = True
        if self.target is self.lists["paused"]:
            self.lists["paused"] = self.lists["wait"] + self.lists["paused"]
            self.lists["wait"] = []
        self.tell("paused")

    def resume(self) -> None:
        """Resume; both lists become one."""
        self.is_paused = False
        self.lists["wait"] += self.lists["paused"]
        self.lists["paused"] = []
        self.tell("resumed")

    def remove(self, job_id: str) -> bool:
        """Remove a job that nobody has locked."""
        if job_id not in self.jobs:
            return False
        self.tell("removed", job_id, self.drop(job_id) or "unknown")
        return True

    def drop(self, job_id: str) -> str | None:
        """Take a job out of whatever holds it, and forget it; return what held it."""
        state = self.state_of(job_id)
        if state in self.sets:
            del self.sets[state][job_id]
        elif state is not None:
            self.lists[state].remove(job_id)
        self._forget_dedup(self.jobs.pop(job_id))
        return state

    def obliterate(self) -> None:
        """Remove everything, active jobs too; locks and keys of nobody's stay as they are."""
        for job_id in self.active:
            self.locks.pop(job_id, None)
        for job in list(self.jobs.values()):
            self._forget_dedup(job)
        self.is_v5 = self.is_paused = False
        self.concurrency = None
        self.id_count = self.priority_count = 0
        self.jobs.clear()
        self.noted.clear()
        self.events.clear()
        for ids in self.lists.values():
            ids.clear()
        for scores in self.sets.values():
            scores.clear()
