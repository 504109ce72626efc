"""What became of every job of a campaign: the ledger held against all that Redis has, and more.

A violation is a name with examples. For each job the reruns are an equation:
starts - 1 <= raised + crashes + stalled + beside + handed back.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.ledger import proofs
from tests.chaos.scene import PROCS, counts_of
from tests.log_lines import without_job_stack

if TYPE_CHECKING:
    from tests.chaos.ledger import Entry, Ledger
    from tests.chaos.scene import Scene
    from tests.chaos.worker_process import WorkerProcess

_LISTS = ("wait", "active", "paused")
_SETS = ("prioritized", "delayed", "waiting-children", "completed", "failed")
_METRICS = [f"metrics:{state}{of}" for state in ("completed", "failed") for of in ("", ":data")]
_OWN_KEYS = {
    *(
        *_LISTS,
        *_SETS,
        "events",
        "meta",
        "id",
        "marker",
        "pc",
        "stalled-check",
        "limiter",
        "repeat",
        *_METRICS,
    ),
}
# What may stand beside a job's hash for as long as the job is there.
_BESIDE = ("logs", "processed", "failed", "unsuccessful")
# Nobody's fault but ours.
_BAD_WORDS = ("Traceback (most recent", "Exception in callback", "was never retrieved")
_CRASH = re.compile(r" crashed \(\d+ in a row\)")
_GAP = re.compile(r"longest heartbeat gap ([0-9.]+) s")
# Of a worker that lived all the time: caches and one connection more.
_MORE_DESCRIPTORS = 12
_OF_A_CHILD = 12
_PAGE = 500
# What a worker ends with whose import was killed, or that found no Redis.
_NOT_STARTED = {3, 4}
POISON = "poison-"


@dataclass(slots=True)
class Verdict:
    """A row of the table, and what was found."""

    name: str
    faults: dict[str, int] = field(default_factory=dict)
    jobs: int = 0
    unknown: int = 0
    excused: int = 0  # touched while Redis itself may have lost writes
    lost: int = 0
    stuck: int = 0
    reruns: int = 0
    without_cause: int = 0
    failed: int = 0  # for reasons that a campaign allows
    drained: float | None = None
    gap: float = 0.0
    violations: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def is_good(self) -> bool:
        """Whether nothing was found."""
        return not self.violations

    def note(self, what: str, *facts: object) -> None:
        """Add an example of a violation."""
        self.violations[what].append(" ".join(map(str, facts)))


@dataclass(slots=True)
class _Stored:
    """All of the queue in Redis."""

    hashes: dict[str, dict[str, str]]
    places: dict[str, list[str]]
    events: dict[str, Counter[str]]
    keys: list[str]


def judge(scene: Scene, verdict: Verdict, ended: list[tuple[WorkerProcess, int]]) -> None:
    """Look at everything; the scene's workers have ended, its Redis has not."""
    usage_recorder = scene.usage_recorder()
    verdict.faults = dict(scene.faults)
    verdict.jobs, verdict.unknown = len(usage_recorder.acknowledged), usage_recorder.unknown
    if any(scene.producer_codes) or not usage_recorder.acknowledged:
        verdict.note("a producer failed: see producers.log", scene.producer_codes)
    if usage_recorder.bad_lines:
        verdict.note("lines of the ledger that are no lines", usage_recorder.bad_lines)
    with scene.client() as client:
        if verdict.drained is None:
            verdict.note("not drained", counts_of(client, scene.base))
        stored = _stored(client, scene.base)
        _judge_jobs(scene, verdict, usage_recorder, stored)
        _judge_keys(scene, verdict, stored)
    _judge_processes(scene, verdict, ended)


# ── jobs ────────────────────────────────────────────────────────────────────


def _judge_jobs(scene: Scene, verdict: Verdict, usage_recorder: Ledger, stored: _Stored) -> None:
    by_u = _by_u(verdict, stored)
    for u, entry in usage_recorder.acknowledged.items():
        if u not in by_u and not _is_excused(scene, entry):
            verdict.lost += 1
            verdict.note("lost", u, entry.job_id, f"starts {len(entry.starts)}")
    for u, job_id in by_u.items():
        if not usage_recorder[u].was_sent:
            verdict.note("there, and an error said that it was not sent", u, job_id)
        job = _Judged(scene, verdict, job_id, u, usage_recorder[u], stored)
        job.look()
    for job_id in stored.places.keys() - stored.hashes.keys():
        verdict.note("id without a job", job_id, stored.places[job_id])


def _by_u(verdict: Verdict, stored: _Stored) -> dict[str, str]:
    """Return the job of each add; those of one add that made two are told."""
    found: dict[str, str] = {}
    for job_id, row in stored.hashes.items():
        u = _u_of(job_id, row)
        if u in found:
            verdict.note("two jobs of one add", u, found[u], job_id)
        found[u] = job_id
    return found


def _u_of(job_id: str, row: dict[str, str]) -> str:
    try:
        return str(json.loads(row["data"])["u"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"beat-{job_id}"


def _is_excused(scene: Scene, entry: Entry) -> bool:
    times = [entry.tried_at, entry.acknowledged_at, *entry.starts, *entry.ends]
    return any(first <= at <= last for at in times for first, last in scene.windows)


class _Judged:
    """One job, all that is known of it, and the questions put to that."""

    def __init__(
        self, scene: Scene, verdict: Verdict, job_id: str, u: str, entry: Entry, stored: _Stored
    ) -> None:
        self.campaign = scene.campaign
        self.verdict = verdict
        self.job_id, self.u, self.entry = job_id, u, entry
        self.row = stored.hashes[job_id]
        self.places = stored.places.get(job_id, [])
        self.events = stored.events.get(job_id, Counter())
        self.is_excused = _is_excused(scene, entry)

    def look(self) -> None:
        """Ask everything."""
        if self.is_excused:
            self.verdict.excused += 1
        if self.places not in (["completed"], ["failed"]):
            self.verdict.stuck += 1
            self._note("stuck, or in two places", self.places)
            return
        self._look_at_runs()
        if self.job_id.startswith(POISON) or self.is_excused:
            return
        self._look_at_events()
        if self.places == ["completed"]:
            self._look_at_value()
        else:
            self._look_at_failure()

    def _look_at_runs(self) -> None:
        again = len(self.entry.starts) - 1
        crashes, beside = self._number("sq:crashes"), self._number("sq:beside")
        causes = self.entry.raised + crashes + beside + self.events["stalled"] + self._handed_back
        self.verdict.reruns += max(again, 0)
        if again > causes and not self.is_excused:
            self.verdict.without_cause += again - causes
            self._note("run again without a cause", f"starts {again + 1} causes {causes}")

    @property
    def _handed_back(self) -> int:
        """How often it went back that nothing else explains, where workers end on purpose."""
        if not self.campaign.may_hand_back:
            return 0
        return max(0, self.events["back"] - self.events["stalled"])

    def _look_at_events(self) -> None:
        ends = self.events["completed"] + self.events["failed"]
        if ends != 1:
            self._note("ended not once, as events tell", ends)
        for name in ("added", "active"):
            if not self.events[name]:
                self._note(f"no event {name}")
        if self.events["stalled"] and not self.campaign.may_stall:
            self._note("stalled, though no worker was gone")
        stalls = self._number("stc")  # what was only claimed ahead counts none
        if stalls > self.events["stalled"] or (stalls and not self.entry.starts):
            self._note("stalls miscounted", stalls)
        if len(self.entry.starts) > self._number("ats"):
            self._note("more starts than ats", self._number("ats"))

    def _look_at_value(self) -> None:
        try:
            value = json.loads(self.row["returnvalue"])
        except (ValueError, KeyError):
            self._note("value unreadable", self.row.get("returnvalue", "")[:100])
            return
        if value.get("u") != self.u or value.get("proof") not in proofs(self.u):
            self._note("value of another", self.row["returnvalue"][:200])
        if not self.entry.ends:
            self._note("completed without an end")
        if self.entry.kind in {"fail", "late", "bomb"}:
            self._note("completed though it cannot")
        if self.entry.kind == "parent":
            expected = sorted(json.loads(self.row["data"])["children"])
            may_miss = bool(self.campaign.may_fail)  # what its children would have given
            if value["value"] != expected and not (may_miss and {*value["value"]} < {*expected}):
                self._note("values of children", value["value"])

    def _look_at_failure(self) -> None:
        reason = self.row.get("failedReason", "")
        if self.entry.kind in {"fail", "late", "bomb", "once"}:
            return
        self.verdict.failed += 1
        if not any(words in reason for words in self.campaign.may_fail):
            self._note("failed", reason[:200])
        if "stalled more" in reason and not self.entry.starts:
            self._note("failed as stalled, and never begun")

    def _number(self, name: str) -> int:
        text = self.row.get(name, "0")
        return int(text) if text.isascii() and text.isdigit() else 0

    def _note(self, what: str, *facts: object) -> None:
        starts, raised = len(self.entry.starts), self.entry.raised
        known = f"{self.job_id} {self.u} starts {starts} raised {raised} {dict(self.events)}"
        counts = {k: v for k, v in self.row.items() if k in _COUNTS}
        self.verdict.note(what, *facts, "|", known, counts)


_COUNTS = {"ats", "atm", "stc", "sq:crashes", "sq:beside", "sq:history", "failedReason"}


# ── what Redis has ──────────────────────────────────────────────────────────


def _stored(client: Any, base: str) -> _Stored:
    places: dict[str, list[str]] = defaultdict(list)
    for name in _LISTS:
        for job_id in client.lrange(base + name, 0, -1):
            places[job_id].append(name)
    for name in _SETS:
        for job_id in client.zrange(base + name, 0, -1):
            places[job_id].append(name)
    keys = list(client.scan_iter(count=5000))
    names = [key.removeprefix(base) for key in keys if key.startswith(base)]
    ids = [name for name in names if name not in _OWN_KEYS and _is_job(name)]
    return _Stored(_hashes(client, base, ids), dict(places), _events(client, base), keys)


def _is_job(name: str) -> bool:
    if name.startswith("repeat:"):
        return name.count(":") == 2
    return ":" not in name and name != "stalled"


def _hashes(client: Any, base: str, ids: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for first in range(0, len(ids), _PAGE):
        page = ids[first : first + _PAGE]
        pipe = client.pipeline(transaction=False)
        for job_id in page:
            pipe.hgetall(base + job_id)
        found |= dict(zip(page, pipe.execute(), strict=True))
    return found


def _events(client: Any, base: str) -> dict[str, Counter[str]]:
    """Return the numbers of each job's events; ``back`` is waiting, from active."""
    events: dict[str, Counter[str]] = defaultdict(Counter)
    last = "-"
    while rows := client.xrange(base + "events", min=last, count=20_000):
        for _, row in rows:
            name = row["event"]
            if name == "waiting" and row.get("prev") == "active":
                name = "back"
            events[row.get("jobId", "")][name] += 1
        last = f"({rows[-1][0]}"
    return dict(events)


def _judge_keys(scene: Scene, verdict: Verdict, stored: _Stored) -> None:
    binaries = {
        row.get(name, "").partition("\n")[0]
        for row in stored.hashes.values()
        for name in ("sq:binary", "sq:result")
    }
    # Node's workers take back what we claimed; our next look for stalled jobs forgets it.
    may_be_ahead = bool(scene.campaign.node_workers)
    for key in stored.keys:
        if ":sandboxq:binary:" in key:
            if key not in binaries and not scene.faults:
                verdict.note("arrays that no job has", key)
        elif ":sandboxq:ahead:" in key:
            if not may_be_ahead:
                verdict.note("claimed ahead, and nobody holds it", key)
        elif key.startswith(scene.base) and not _is_known(key.removeprefix(scene.base), stored):
            verdict.note("left-over key", key)


def _is_known(name: str, stored: _Stored) -> bool:
    job_id, _, part = name.rpartition(":")
    return (
        name in _OWN_KEYS or name in stored.hashes or (part in _BESIDE and job_id in stored.hashes)
    )


# ── processes, files, descriptors, logs ─────────────────────────────────────


def _judge_processes(
    scene: Scene, verdict: Verdict, ended: list[tuple[WorkerProcess, int]]
) -> None:
    for pid, command in scene.left_processes():
        verdict.note("process left over", pid, command)
    for name in scene.left_files():
        verdict.note("temporary file left over", name)
    for worker, code in ended:
        if not worker.was_hurt:
            if code != 0 and not (code in _NOT_STARTED and not worker.was_ready):
                verdict.note("exit code", worker.log.name, code)
            gap = _GAP.search(worker.text)
            verdict.gap = max(verdict.gap, float(gap[1]) if gap else 0)
        if not worker.is_node:
            _judge_log(verdict, worker)


def _judge_log(verdict: Verdict, worker: WorkerProcess) -> None:
    for line in map(without_job_stack, worker.text.splitlines()):
        if _CRASH.search(line) or any(word in line for word in _BAD_WORDS):
            verdict.note("log", worker.log.name, line[-1500:] if "exception" in line else line)


def judge_descriptors(scene: Scene, verdict: Verdict) -> None:
    """Compare with the beginning, for workers that lived all the time; before they end."""
    for worker in scene.workers:
        grown = worker.count_descriptors() - worker.descriptors
        children = max(0, len(worker.children()) - PROCS)  # it was scaled, perhaps
        most = _MORE_DESCRIPTORS + _OF_A_CHILD * children
        if worker.descriptors and grown > most and not worker.is_node:
            verdict.note("descriptors", worker.log.name, f"{worker.descriptors} + {grown}")
