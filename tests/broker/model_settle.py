"""What a batch of settled attempts does to the model of a queue (protocol.md 3.8 to 3.16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.broker.model import PRIORITY_SHIFT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.model.job import Keep
    from tests.broker.model import ModelJob, QueueModel

# The token that asks for no lock.
UNLOCKED = "0"


@dataclass(frozen=True)
class Ending:
    """How one attempt is settled: kind is c, f, r, d, h or p, as in lua/settle.lua."""

    kind: str
    job_id: str
    token: str
    text: str = ""
    keep: Keep | None = None
    attempts: int = 0
    delay: int = 0
    is_lifo: bool = False
    was_started: bool = False


def settle_in_model(model: QueueModel, endings: Sequence[Ending]) -> list[int]:
    """Settle attempts in one call; what is handed back comes last, in reverse."""
    batch = SettledBatch(model)
    handed_back = [ending for ending in endings if ending.kind == "h"]
    others = [ending for ending in endings if ending.kind != "h"]
    codes = {id(ending): batch.settle(ending) for ending in [*others, *handed_back[::-1]]}
    batch.close()
    return [codes[id(ending)] for ending in endings]


class SettledBatch:
    """One call: locks are read before, given back after, and sets written at the end."""

    def __init__(self, model: QueueModel) -> None:
        """Begin a call."""
        self._model = model
        self._locks = dict(model.locks)
        self._unlocked: list[str] = []
        self._finished: dict[str, list[tuple[str, Keep]]] = {"completed": [], "failed": []}
        self._has_promoted = False
        self._count = 0

    def settle(self, ending: Ending) -> int:
        """Settle one attempt."""
        model, job = self._model, self._model.jobs.get(ending.job_id)
        if job is None:
            return -1
        lock = self._locks.get(job.id)
        if ending.token not in (UNLOCKED, lock):
            return -2 if lock is None else -6
        self._locks.pop(job.id, None)
        if ending.token != UNLOCKED:
            self._unlocked.append(job.id)
        if ending.kind == "r" and not self._has_promoted:
            self._has_promoted = True
            model.promote_due()
        if ending.kind in "frd":
            job.reason = ending.text
            job.traces.append(ending.text)
        if job.id not in model.active:
            return 0 if ending.kind == "h" else -3
        model.active.remove(job.id)
        if ending.kind in "cf":
            self._finish(job, ending)
        else:
            self._move(job, ending)
        return 0

    def _move(self, job: ModelJob, ending: Ending) -> None:
        model = self._model
        if ending.kind in "rd":
            job.made += 1
        match ending.kind:
            case "r":
                model.place_waiting(job, is_lifo=ending.is_lifo)
                model.tell("waiting", job.id, "active")
            case "d" | "p":
                job.delay = ending.delay
                model.place_delayed(job, model.now + ending.delay)
            case _:
                self._hand_back(job, ending)

    def _finish(self, job: ModelJob, ending: Ending) -> None:
        model, name = self._model, "completed" if ending.kind == "c" else "failed"
        model.release_dedup(job)
        job.made += 1
        job.finished_on = model.now
        self._count += 1
        if name == "completed":
            job.value = ending.text
        model.tell(name, job.id, "active")
        if name == "failed":
            job.deferred = None
            if job.made >= ending.attempts:
                model.tell("retries-exhausted", job.id)
        assert ending.keep is not None
        self._finished[name].append((job.id, ending.keep))

    def _hand_back(self, job: ModelJob, ending: Ending) -> None:
        model = self._model
        if not ending.was_started:
            job.started = max(job.started - 1, 0)
            if job.started == 0:
                job.processed_on = job.worker = None
        if job.priority:
            model.sets["prioritized"][job.id] = job.priority * PRIORITY_SHIFT
        else:
            model.target.append(job.id)
        model.tell("waiting", job.id, "active")

    def close(self) -> None:
        """Write what is written once."""
        model = self._model
        for job_id in self._unlocked:
            model.locks.pop(job_id, None)
            model.noted.discard(job_id)
        for name, finished in self._finished.items():
            self._retain(name, finished)
        waiting = model.lists["wait"] or model.sets["prioritized"]
        if self._count and not model.active and not waiting:
            model.tell("drained")

    def _retain(self, name: str, finished: list[tuple[str, Keep]]) -> None:
        model = self._model
        ids = model.sets[name]
        for position, (job_id, keep) in enumerate(finished):
            if keep.count == 0:
                del model.jobs[job_id]
                continue
            ids[job_id] = model.now
            # Jobs with the same rule in a row are one step: the rule is applied once.
            following = [each for _, each in finished[position + 1 :] if each.count != 0]
            if following and following[0] == keep:
                continue
            if keep.age is not None:
                self._drop(name, [i for i in ids if ids[i] <= model.now - round(keep.age * 1000)])
            if keep.count is not None:
                self._drop(name, model.in_order(name)[: max(len(ids) - keep.count, 0)])

    def _drop(self, name: str, job_ids: list[str]) -> None:
        for job_id in job_ids:
            del self._model.sets[name][job_id]
            del self._model.jobs[job_id]
