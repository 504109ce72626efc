"""Whatever Redis holds or answers, two workers go on, and other jobs end as they would have.

Round by round: bad rows, ids, meta, markers and control messages among good jobs of the same claim.
Every good job must end within 5 s of its twin in a queue of its own, which nobody disturbs. One
worker is behind a proxy that changes its replies now and then.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from sandboxq.broker.keys import QueueKeys
from tests.broker.servers import StoppableServer
from tests.chaos.proxy import Proxy
from tests.conftest import wait_until
from tests.fuzz.resp import Mutator
from tests.fuzz.values import nasty_bytes, nasty_value
from tests.lifecycle.test_run import RunningWorker
from tests.log_lines import without_job_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROCESSOR = str(Path(__file__).parent / "processor.py")
_LOCK_SECONDS, _STALLED_SECONDS = 2.0, 1.0
_OPTIONS = (
    *("--procs", "2", "--drain-delay", "1", "--max-stalled-count", "100", "--log-format", "json"),
    *("--lock-duration", f"{_LOCK_SECONDS:g}", "--stalled-interval", f"{_STALLED_SECONDS:g}"),
)
# After its twin; with a changed reply its lock may have to run out first.
_BOUND_SECONDS = 5.0
_TWIN_SECONDS = 60.0
_SHARE_OF_REPLIES = 0.01
_GOOD, _BAD = 10, 5
_LONGEST, _LONGEST_LINE = 400, 1500
_FORBIDDEN = re.compile(r" crashed \(|Traceback \(most recent|Exception in callback")

_FIELDS = (
    *("name", "data", "opts", "timestamp", "delay", "priority", "atm", "ats", "stc", "defa"),
    *("parent", "parentKey", "progress", "rjk", "deid", "sq:crashes", "sq:binary", "sq:history"),
    *("sq:beside", "sq:usage", "processedOn", "pb", "failedReason", "stacktrace", "returnvalue"),
    *("finishedOn", "sq:cause", "sq:result"),
)
_MEMBERS = (
    *("attempts", "backoff", "delay", "jobId", "kl", "lifo", "priority", "removeOnComplete"),
    *(
        "removeOnFail",
        "sizeLimit",
        "stackTraceLimit",
        "timeout",
        "timestamp",
        "tm",
        "omc",
        "repeat",
    ),
    *("de", "fpof", "cpof", "idof", "rdof", "parent", "repeatJobKey", "prevMillis"),
)
_INNER = ("age", "count", "limit", "type", "delay", "jitter", "id", "queue", "ttl", "every")
_META = ("opts.maxLenEvents", "concurrency", "max", "duration", "version", "paused")
_SIDE_KEYS = (":lock", ":logs", ":dependencies", ":processed", ":failed", ":unsuccessful")
_OWN_KEYS = ("meta", "wait", "events", "delayed", "marker")


def fuzz(seconds: float, seed: int) -> list[str]:
    """Run rounds for so long; return what was found."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, _room(directory, seed) as room:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not room.found:
            room.play()
        room.finish()
        print(f"rows: {room.rounds} rounds, {room.bad} bad rows, {room.mutated} changed replies")  # noqa: T201 - a command's output
        return room.found


@contextlib.contextmanager
def _room(directory: str, seed: int) -> Iterator[_Room]:
    mutators: list[Mutator] = []

    def mutator() -> Mutator:
        mutators.append(Mutator(random.Random(f"{seed} {len(mutators)}"), share.value))
        return mutators[-1]

    share = _Share()
    with (
        StoppableServer(Path(directory)) as server,
        Proxy(server.port, rewriter=mutator) as proxy,
        redis.Redis(port=server.port) as client,
    ):
        urls = {"w1": server.url, "w2": proxy.url}
        workers = [
            RunningWorker(url, "q", *_OPTIONS, processor=_PROCESSOR) for url in urls.values()
        ]
        twin = RunningWorker(server.url, "twins", *_OPTIONS, processor=_PROCESSOR)
        try:
            for worker in (*workers, twin):
                worker.wait_until_ready()
            for each in mutators:
                each.share = _SHARE_OF_REPLIES
            share.value = _SHARE_OF_REPLIES
            yield _Room(client, workers, mutators, seed=seed)
        finally:
            for worker in (*workers, twin):
                worker.process.terminate()
            for worker in (*workers, twin):
                with contextlib.suppress(Exception):
                    worker.wait(20)
                worker.process.kill()
                assert worker.process.stdout is not None
                worker.process.stdout.close()


class _Share:
    """How many of the replies are changed from now on."""

    value = 0.0


class _Room:
    """A server, two workers on one queue, one on that of the twins."""

    def __init__(
        self,
        client: redis.Redis,
        workers: list[RunningWorker],
        mutators: list[Mutator],
        *,
        seed: int,
    ) -> None:
        self._redis: Any = client
        self._workers = workers
        self._mutators = mutators
        self._rng = random.Random(seed)
        self._seed = seed
        self.rounds = self.bad = 0
        self.found: list[str] = []
        self._deeds: list[str] = []  # of this round
        self._changed_before = 0

    @property
    def mutated(self) -> int:
        """How many replies were changed."""
        return sum(each.changed for each in self._mutators)

    def play(self) -> None:
        """One round."""
        self.rounds += 1
        self._changed_before = self.mutated
        self._deeds.clear()
        self._spoil_queue()
        bad = [(b"bad%d-%d" % (self.rounds, i), self._bad_row()) for i in range(_BAD)]
        good = [b"good%d-%d" % (self.rounds, i) for i in range(_GOOD)]
        self._write(good, bad)
        self.bad += len(bad)
        self._say_nonsense()
        self._heal_queue()
        if late := self._late(good):
            self._tell(f"not ended {late}", *self._last_words())
        self._look_at_workers()
        self._remove(bad)

    def _tell(self, what: str, *lines: str) -> None:
        """Add to what was found, with all that was done in this round."""
        head = f"round {self.rounds}, seed {self._seed}: {what}"
        self.found.append("\n  ".join([head, *lines, *self._deeds]))

    def _did(self, what: str, *facts: object) -> None:
        self._deeds.append(f"{what} {' '.join(map(repr, facts))}"[:_LONGEST])

    # ── what is written ─────────────────────────────────────────────────────

    def _bad_row(self) -> dict[bytes, bytes]:
        rng = self._rng
        row = {b"name": b"x", b"data": b"{}", b"opts": self._opts(), **_TIMES}
        for _ in range(rng.choice([0, 1, 1, 2, 4])):
            name = rng.choice(_FIELDS)
            row[name.encode()] = self._field(name)
        if rng.random() < 0.1:
            row.pop(rng.choice([b"data", b"opts", b"timestamp"]))
        return row

    def _field(self, name: str) -> bytes:
        rng = self._rng
        if name == "parentKey" and rng.random() < 0.5:
            return f"bull:q:{rng.choice(_OWN_KEYS)}".encode()
        if name == "parent" and rng.random() < 0.5:
            return json.dumps({"id": nasty_value(rng, 0), "queueKey": nasty_value(rng, 0)}).encode()
        return nasty_bytes(rng)

    def _opts(self) -> bytes:
        rng = self._rng
        opts: dict[str, Any] = {}
        for _ in range(rng.choice([0, 1, 1, 2, 5])):
            value = nasty_value(rng)
            if rng.random() < 0.3:
                value = {rng.choice(_INNER): nasty_value(rng) for _ in range(2)}
            opts[rng.choice(_MEMBERS)] = value
        return json.dumps(opts).encode()

    def _write(self, good: list[bytes], bad: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Put all of one round where they wait, mixed, in one transaction; twins beside them."""
        rng, pipe = self._rng, self._redis.pipeline()
        ghosts = [nasty_bytes(rng) for _ in range(2)]
        self._did("ids without a job", *ghosts)
        ids = good + [job_id for job_id, _ in bad] + ghosts
        rng.shuffle(ids)
        for job_id in good:
            twin = {"name": "x", "data": '{"s":0.005}', "opts": '{"attempts":50}', **_TEXT_TIMES}
            pipe.hset(b"bull:q:" + job_id, mapping=twin)
            pipe.hset(b"bull:twins:" + job_id, mapping=twin)
            pipe.lpush("bull:twins:wait", job_id)
        for job_id, row in bad:
            key = b"bull:q:" + job_id
            if rng.random() < 0.05:
                self._did("a list instead of a hash", job_id)
                pipe.rpush(key, "no hash")
            else:
                self._did("row", job_id, row)
                pipe.hset(key, mapping=row)
            if rng.random() < 0.1:
                side = rng.choice(_SIDE_KEYS).encode()
                self._did("a list", key + side)
                pipe.rpush(key + side, nasty_bytes(rng))
        for job_id in ids:
            where = rng.choice(["wait", "wait", "wait", "prioritized", "delayed"])
            if where == "wait":
                pipe.lpush("bull:q:wait", job_id)
            else:
                pipe.zadd(f"bull:q:{where}", {job_id: rng.choice([1, 2**32, 2**40])})
        for queue in ("q", "twins"):
            pipe.zadd(f"bull:{queue}:marker", {"0": 0})
        pipe.execute()

    def _spoil_queue(self) -> None:
        rng = self._rng
        if rng.random() < 0.3:
            name, value = rng.choice(_META), nasty_bytes(rng)
            self._did("meta", name, value)
            self._redis.hset("bull:q:meta", name, value)
        if rng.random() < 0.3:
            score = rng.choice([0, -1, 1, 1e300, float("inf"), float("-inf"), 2**53])
            self._did("marker", score)
            self._redis.zadd("bull:q:marker", {nasty_bytes(rng): score, "1": score})
        if rng.random() < 0.2:
            job_id = nasty_bytes(rng)
            self._did("stalled and active", job_id)
            self._redis.sadd("bull:q:stalled", job_id)
            self._redis.lpush("bull:q:active", job_id)

    def _heal_queue(self) -> None:
        """Take back what may rightly keep a queue from going on."""
        pipe = self._redis.pipeline()
        pipe.delete("bull:q:meta", "bull:q:limiter")
        pipe.zadd("bull:q:marker", {"0": 0})
        pipe.execute()

    def _say_nonsense(self) -> None:
        rng = self._rng
        message = {
            "ask": rng.choice(["scale", "cancel", "dump", nasty_value(rng)]),
            "reply_key": rng.choice([QueueKeys("q").reply_key("fuzz"), nasty_value(rng)]),
            "job_id": nasty_value(rng),
            "reason": nasty_value(rng),
            "grace": nasty_value(rng),
            "target": nasty_value(rng),
            "procs": rng.choice([-1, 0, 2, 3, 2.5, "2", "x", None, [], {}, 1e300, 10**400]),
        }
        for name in list(message):
            if rng.random() < 0.1:
                del message[name]
        payload = nasty_bytes(rng) if rng.random() < 0.3 else json.dumps(message).encode()
        self._did("control", payload)
        self._redis.publish(QueueKeys("q").control_channel, payload)

    # ── what is asked ───────────────────────────────────────────────────────

    def _late(self, good: list[bytes]) -> list[str]:
        """Return which jobs have not ended 5 s after their twins have, and where they are."""
        wait_until(lambda: self._ended("twins", good) == len(good), timeout=_TWIN_SECONDS)
        bound = _BOUND_SECONDS + (2 * _LOCK_SECONDS + 3 * _STALLED_SECONDS) * bool(self.mutated)
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline:
            if self._ended("q", good) == len(good):
                return []
            time.sleep(0.02)
        return [self._whereabouts(job_id) for job_id in good if not self._ended("q", [job_id])]

    def _whereabouts(self, job_id: bytes) -> str:
        lists = ("wait", "active")
        places = [each for each in lists if self._redis.lpos(f"bull:q:{each}", job_id) is not None]
        sets = ("prioritized", "delayed", "failed")
        places += [
            each for each in sets if self._redis.zscore(f"bull:q:{each}", job_id) is not None
        ]
        key = b"bull:q:" + job_id
        row, lock = self._redis.hgetall(key), self._redis.get(key + b":lock")
        return f"{job_id.decode()} in {places}, lock {lock}, {row}"

    def _ended(self, queue: str, ids: list[bytes]) -> int:
        """Return how many completed; those that are gone, a bad job's own rules have removed."""
        scores = self._redis.zmscore(f"bull:{queue}:completed", ids)
        if queue == "q" and self.mutated > self._changed_before:
            # A changed reply may have changed what the job is: it fails, as such a job would.
            failed = self._redis.zmscore("bull:q:failed", ids)
            scores = [
                one if other is None else other for one, other in zip(scores, failed, strict=True)
            ]
        missing = [job_id for job_id, score in zip(ids, scores, strict=True) if score is None]
        kept = [
            job_id for job_id in missing if self._redis.exists(f"bull:{queue}:".encode() + job_id)
        ]
        return len(ids) - len(kept)

    def _look_at_workers(self) -> None:
        for worker in self._workers:
            lines = [it for it in map(without_job_stack, worker.lines) if _FORBIDDEN.search(it)]
            if worker.process.poll() is not None:
                lines.append(f"ended with {worker.process.returncode}")
            if lines:
                self._tell(f"{len(lines)} lines in a log, such as", lines[0][-_LONGEST_LINE:])
            worker.lines.clear()

    def _last_words(self) -> list[str]:
        return [line[:500] for worker in self._workers for line in worker.lines[-8:]]

    def _remove(self, bad: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Take away what is to be tried for ever, as its own options say."""
        pipe = self._redis.pipeline()
        for job_id, _ in bad:
            pipe.lrem("bull:q:wait", 0, job_id)
            pipe.zrem("bull:q:delayed", job_id)
            pipe.zrem("bull:q:prioritized", job_id)
        pipe.execute()

    def finish(self) -> None:
        """Ask for locks: once all is quiet, none may be held."""

        def locks() -> list[bytes]:
            return [key for key in self._redis.scan_iter(b"bull:q:*:lock") if self._is_held(key)]

        deadline = time.monotonic() + 4 * _LOCK_SECONDS + _TWIN_SECONDS / 4
        while (held := locks()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if held:
            self.found.append(f"locks held for ever: {held[:5]}, {self._last_words()}")

    def _is_held(self, key: bytes) -> bool:
        return bool(self._redis.type(key) == b"string")


_TIMES = {b"timestamp": b"1", b"delay": b"0", b"priority": b"0"}
_TEXT_TIMES = {"timestamp": "1", "delay": "0", "priority": "0"}
