"""Random operations of producers and workers on a real queue, and the same on its model."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from sandboxq.broker.commands import settings
from sandboxq.broker.commands.add import add, new_job, relation_members
from sandboxq.broker.commands.attempts import (
    Report,
    Settlement,
    extend,
    recover_stalled,
    report,
    settle,
)
from sandboxq.broker.commands.claim import claim
from sandboxq.broker.keys import QueueKeys
from sandboxq.model.job import (
    KEEP_ALL,
    KEEP_NONE,
    Deduplication,
    JobOptions,
    Keep,
)
from sandboxq.model.outcome import (
    Complete,
    Fail,
    Failed,
    HandBack,
    Postpone,
    RetryLater,
    RetryNow,
)
from tests.broker.case import NOW
from tests.broker.model import DELAY_SHIFT, ModelJob, QueueModel
from tests.broker.model_settle import Ending, settle_in_model
from tests.broker.server_machine import ServerMachine
from tests.broker.snapshot import snapshot_of_model, snapshot_of_server

if TYPE_CHECKING:
    from sandboxq.model.outcome import Transition

# Expiry goes by the server's clock, all else by ours; so what expires here never does by itself.
FOR_EVER = 10_000_000
LOCK_MS = WINDOW_MS = FOR_EVER * 1000

KEEPS = [KEEP_ALL, KEEP_NONE, Keep(count=1), Keep(count=3), Keep(age=0.05), Keep(count=2, age=1)]
RULES = [
    Deduplication("d"),
    Deduplication("d", ttl=FOR_EVER),
    Deduplication("d", ttl=FOR_EVER, extend=True),
    Deduplication("d", replace=True),
    Deduplication("d", ttl=FOR_EVER, replace=True),
    Deduplication("d", ttl=FOR_EVER, replace=True, extend=True),
    Deduplication("d", keep_last_if_active=True),
    Deduplication("d", ttl=FOR_EVER, keep_last_if_active=True),
    Deduplication("d", ttl=FOR_EVER, reschedule=True),
    Deduplication("other", reschedule=True, keep_last_if_active=True),
    Deduplication("other", keep_last_if_active=True, replace=True),
]

ids = st.integers(0, 1000)
tokens = st.sampled_from(["held", "held", "held", "0", "wrong"])
endings = st.fixed_dictionaries(
    {
        "kind": st.sampled_from("ccffrrddhhp"),
        "pick": ids,
        "whose": tokens,
        "keep": st.sampled_from(KEEPS),
        "attempts": st.integers(0, 3),
        "delay": st.sampled_from([1, 20, 20, 5000]),
        "is_lifo": st.booleans(),
        "was_started": st.booleans(),
    }
)


class QueueMachine(ServerMachine):
    """Does each operation twice. Sub-classed with the server to do it on."""

    @initialize(version=st.sampled_from(["", "bullmq:5.81.5", "bullmq:6.7.0"]))
    def new_queue(self, version: str) -> None:
        """Begin with an empty queue, as made by Node 5, by Node 6, or by nobody yet."""
        self.keys = QueueKeys(f"q-{uuid.uuid4().hex[:12]}")
        self.model = QueueModel(NOW, is_v5=version.startswith("bullmq:5."))
        self.last_event = "0"
        self.claims = 0
        self.plain: dict[str, str] = {}  # job → token of its claim, which said that it is plain
        self.known_due = float("inf")
        self.sleeps_for_window = False
        if version:
            self.run(self.broker.command("HSET", self.keys["meta"], "version", version))

    def pick(self, number: int) -> str:
        """Return an id: mostly of an active job, else of any, and of none at all."""
        among = self.model.active * 3 + sorted(self.model.jobs) + ["nobody"]
        return among[number % len(among)]

    def token(self, job_id: str, whose: str) -> str:
        """Return a token to present for a job."""
        return self.model.locks.get(job_id, "none") if whose == "held" else whose

    # ── producers ───────────────────────────────────────────────────────────

    @rule(count=st.integers(1, 4))
    def add_plain(self, count: int) -> None:
        """Add jobs that just wait."""
        drafts = [ModelJob("", "n", str(number), self.model.now) for number in range(count)]
        jobs = [new_job(draft.name, draft.data) for draft in drafts]
        added = self.run(add(self.broker, self.keys, jobs, now_ms=self.model.now))
        assert added == [self.model.add(draft, custom_id=None) for draft in drafts]

    @rule(
        delay=st.sampled_from([0, 0, 0, 1, 20, 20, 5000]),
        priority=st.sampled_from([0, 0, 1, 1, 2, 2**21 - 1]),
        is_lifo=st.booleans(),
        job_id=st.sampled_from([None, None, None, "a", "b"]),
        age=st.sampled_from([0, 0, 10, -10]),
        dedup=st.one_of(st.none(), st.sampled_from(RULES)),
    )
    def add_special(
        self,
        *,
        delay: int,
        priority: int,
        is_lifo: bool,
        job_id: str | None,
        age: int,
        dedup: Deduplication | None,
    ) -> None:
        """Add a job that asks for something."""
        timestamp = self.model.now - age
        options = JobOptions(
            delay=delay / 1000,
            priority=priority,
            lifo=is_lifo,
            job_id=job_id,
            timestamp_ms=timestamp,
            extra=relation_members(dedup, None, prefix="bull"),
        )
        draft = ModelJob("", "s", "[]", timestamp, delay, priority, is_lifo, dedup)
        jobs = [new_job("s", "[]", options)]
        (added,) = self.run(add(self.broker, self.keys, jobs, now_ms=self.model.now))
        assert added == self.model.add(draft, custom_id=job_id)

    @rule(dedup=st.sampled_from(RULES), delay=st.sampled_from([0, 0, 0, 20]))
    def add_deduplicated(self, dedup: Deduplication, delay: int) -> None:
        """Add a job that others may stand for."""
        self.add_special(delay=delay, priority=0, is_lifo=False, job_id=None, age=0, dedup=dedup)

    @precondition(lambda self: any(each.has_ttl for each in self.model.dedups.values()))
    @rule()
    def deduplication_expires(self) -> None:
        """Let the time be over in which jobs count as the same."""
        for name in [name for name, each in self.model.dedups.items() if each.has_ttl]:
            self.run(self.broker.command("DEL", self.keys[f"de:{name}"]))
            del self.model.dedups[name]

    # ── workers ─────────────────────────────────────────────────────────────

    @rule(
        limit=st.integers(1, 5),
        worker=st.sampled_from(["", "w1"]),
        max_in_window=st.sampled_from([None, None, 2, 6]),
    )
    def claim(self, limit: int, worker: str, max_in_window: int | None) -> None:
        """Wake up, which takes the markers away, and claim."""
        self.run(self.broker.command("DEL", self.keys["marker"]))
        self.claims += 1
        token = f"t{self.claims}"
        taken = self.run(
            claim(
                self.broker,
                self.keys,
                limit=limit,
                token=token,
                lock_ms=LOCK_MS,
                now_ms=self.model.now,
                worker_name=worker,
                limiter=None if max_in_window is None else (max_in_window, WINDOW_MS),
            )
        )
        wanted = self.model.claim(limit, token, worker=worker, max_in_window=max_in_window)
        self.sleeps_for_window = taken.rate_limit_ms > 0
        assert [job.id.decode() for job in taken.jobs] == (wanted or [])
        assert (taken.rate_limit_ms > 0 or taken.is_blocked) == (wanted is None)
        self.known_due = taken.next_delayed_ms or float("inf")
        for job in taken.jobs:
            self.plain[job.id.decode()] = token if job.is_plain else ""
            known = self.model.jobs[job.id.decode()]
            assert (job.attempts_made, job.attempts_started) == (known.made, known.started)
            assert job.deferred_failure.decode() == (known.deferred or "")

    @rule(limit=st.integers(1, 4), drafts=st.lists(endings, min_size=1, max_size=4))
    def work(self, limit: int, drafts: list[dict[str, Any]]) -> None:
        """Claim and settle what came, each attempt under its lock, as workers mostly do."""
        self.claim(limit=limit, worker="w2", max_in_window=None)
        for draft, job_id in zip(drafts, list(self.model.active[:limit]), strict=False):
            rest = {name: each for name, each in draft.items() if name not in ("pick", "whose")}
            self._settle(
                [Ending(job_id=job_id, token=self.token(job_id, "held"), text="1", **rest)]
            )

    @rule(drafts=st.lists(endings, min_size=1, max_size=4))
    def settle(self, drafts: list[dict[str, Any]]) -> None:
        """Settle some attempts at once, under the right lock, a wrong one, or none."""
        self._settle([self._ending(**draft) for draft in drafts])

    def _settle(self, given: list[Ending]) -> None:
        rows = [
            Settlement(
                each.job_id.encode(),
                each.token.encode(),
                transition_from(each),
                is_plain=self.plain.get(each.job_id) == each.token,
            )
            for each in given
        ]
        codes = self.run(settle(self.broker, self.keys, rows, now_ms=self.model.now))
        assert codes == settle_in_model(self.model, given)

    def _ending(self, *, kind: str, pick: int, whose: str, **rest: Any) -> Ending:
        job_id = self.pick(pick)
        return Ending(kind, job_id, self.token(job_id, whose), '"x"', **rest)

    @rule(
        kind=st.sampled_from(["progress", "log", "data"]),
        drafts=st.lists(st.tuples(ids, tokens), min_size=1, max_size=3),
    )
    def report(self, kind: str, drafts: list[tuple[int, str]]) -> None:
        """Say something of running jobs."""
        named = [(self.pick(pick), whose) for pick, whose in drafts]
        given = [(job_id, self.token(job_id, whose)) for job_id, whose in named]
        reports = [Report(i.encode(), token.encode(), kind, b"7") for i, token in given]
        codes = self.run(report(self.broker, self.keys, reports))
        assert codes == [self.model.report(i, token, kind, "7") for i, token in given]

    @precondition(lambda self: self.model.active)
    @rule(drafts=st.lists(st.tuples(ids, tokens), min_size=1, max_size=4))
    def extend(self, drafts: list[tuple[int, str]]) -> None:
        """Renew locks."""
        named = [(self.pick(pick), whose) for pick, whose in drafts]
        held = [(job_id, self.token(job_id, whose)) for job_id, whose in named]
        rows = [(job_id.encode(), token.encode(), b"") for job_id, token in held]
        lost = self.run(extend(self.broker, self.keys, rows, lock_ms=LOCK_MS))
        assert [job_id.decode() for job_id in lost] == self.model.extend(held)

    @precondition(lambda self: self.model.locks)
    @rule(number=ids)
    def worker_dies(self, number: int) -> None:
        """Let a lock expire."""
        held = sorted(self.model.locks)
        job_id = held[number % len(held)]
        self.run(self.broker.command("DEL", self.keys[f"{job_id}:lock"]))
        del self.model.locks[job_id]

    @precondition(lambda self: self.model.locks)
    @rule(max_stalls=st.integers(0, 1))
    def all_workers_die(self, max_stalls: int) -> None:
        """Let every lock expire, and find out; it takes two looks."""
        for _ in list(self.model.locks):
            self.worker_dies(number=0)
        self.stalled_pass(max_stalls=max_stalls)
        self.stalled_pass(max_stalls=max_stalls)

    @rule(max_stalls=st.integers(0, 2))
    def stalled_pass(self, max_stalls: int) -> None:
        """Look for jobs that nobody renews; in which order they come back is nobody's promise."""
        self.run(self.broker.command("DEL", self.keys["stalled-check"]))
        check = partial(
            recover_stalled,
            self.broker,
            self.keys,
            now_ms=self.model.now,
            interval_ms=LOCK_MS,
            max_stalled_count=max_stalls,
        )
        found = self.run(check())
        recovered = [job_id.decode() for job_id in found]
        assert self.model.stalled(max_stalls, recovered) == set(recovered)
        assert self.run(check()) == []

    # ── operators and time ──────────────────────────────────────────────────

    @rule()
    def pause(self) -> None:
        """Pause."""
        self.run(settings.pause(self.broker, self.keys))
        self.model.pause()

    @rule()
    def resume(self) -> None:
        """Resume, also what is not paused."""
        self.run(settings.resume(self.broker, self.keys))
        self.model.resume()

    @rule(concurrency=st.sampled_from([None, None, 1, 3]))
    def set_concurrency(self, concurrency: int | None) -> None:
        """Change how many may be active; BullMQ leaves it to the workers' next look to notice."""
        meta = self.keys["meta"]
        if concurrency is None:
            self.run(self.broker.command("HDEL", meta, "concurrency"))
        else:
            self.run(self.broker.command("HSET", meta, "concurrency", concurrency))
        self.model.concurrency = concurrency
        if self.model.has_claimable:
            self.run(self.broker.command("ZADD", self.keys["marker"], 0, "0"))

    @rule(ms=st.sampled_from([1, 10, 30, 6000]))
    def time_passes(self, ms: int) -> None:
        """Advance the clock that we tell the server of."""
        self.model.now += ms

    @rule()
    def window_ends(self) -> None:
        """Let the rate limit's window be over."""
        self.run(self.broker.command("DEL", self.keys["limiter"]))
        self.model.window_count = 0

    # ── what must hold after each step ──────────────────────────────────────

    @invariant()
    def server_and_model_agree(self) -> None:
        """States, order, counts, attempts, locks, keys and events are the same."""
        if not hasattr(self, "keys"):
            return
        found = self.run(snapshot_of_server(self.broker, self.keys, self.last_event))
        self.last_event = found.pop("last event")
        self.markers = found.pop("markers")
        assert found == snapshot_of_model(self.model)
        self.model.events.clear()

    @invariant()
    def somebody_will_come(self) -> None:
        """No job waits for a worker that sleeps without knowing of it."""
        if not hasattr(self, "markers") or self.sleeps_for_window:
            return
        if self.model.has_claimable:
            assert "0" in self.markers
        delayed = self.model.sets["delayed"]
        if delayed and not self.model.is_blocked and "0" not in self.markers:
            known = min(self.known_due, self.markers.get("1", float("inf")))
            assert known <= min(delayed.values()) / DELAY_SHIFT


def transition_from(ending: Ending) -> Transition:
    """Return what the settler would write."""
    failure = Failed(ending.text, stack=ending.text)
    keep = ending.keep or KEEP_ALL
    match ending.kind:
        case "c":
            return Complete(ending.text.encode(), keep)
        case "f":
            return Fail(failure, keep, None, ending.attempts)
        case "r":
            return RetryNow(failure, None, ending.is_lifo)
        case "d":
            return RetryLater(failure, None, ending.delay)
        case "p":
            return Postpone(ending.delay)
        case _:
            return HandBack(ending.was_started)
