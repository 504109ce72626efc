"""Parents and children as the rules say that they are (protocol.md 3.11.4, 3.20, 3.21, 3.24)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITING, FAMILY, COMPLETED, FAILED = "wait", "waiting-children", "completed", "failed"


@dataclass
class Member:
    """One job: where it is, whose child, and what it knows of its own children, by their ids."""

    id: str
    state: str
    parent: str | None = None
    on_failure: str = "wait"
    pending: set[str] = field(default_factory=set)
    processed: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)
    unsuccessful: set[str] = field(default_factory=set)
    deferred: str | None = None

    def below(self) -> Iterator[str]:
        """Return its children of every kind."""
        yield from self.processed | self.ignored | self.unsuccessful | self.pending


class FamilyModel:
    """All jobs of a queue by id; in which order they wait is another model's."""

    def __init__(self) -> None:
        """Begin with none."""
        self.jobs: dict[str, Member] = {}

    def add(self, job_id: str, parent: str | None, on_failure: str, *, has_children: bool) -> None:
        """Add a job; its children come after it."""
        state = FAMILY if has_children else WAITING
        self.jobs[job_id] = Member(job_id, state, parent, on_failure)
        if parent is not None:
            self.jobs[parent].pending.add(job_id)

    def complete(self, job_id: str) -> int:
        """Complete what was claimed; return what the script answers."""
        job = self.jobs[job_id]
        if job.pending:
            return -4
        if job.unsuccessful:
            return -9
        job.state = COMPLETED
        parent = self._parent_that_waits_for(job)
        if parent is not None:
            parent.processed.add(job_id)
            self._release_if_empty(parent)
        return 0

    def fail(self, job_id: str) -> int:
        """Fail what was claimed for good."""
        job = self.jobs[job_id]
        job.state, job.deferred = FAILED, None
        if job.on_failure == "wait":
            return 0
        parent = self._parent_that_waits_for(job)
        if parent is None:
            return 0
        if job.on_failure in ("continue", "ignore"):
            parent.ignored.add(job_id)
        match job.on_failure:
            case "fail":
                self._fail_parent(parent, job_id)
            case "continue":
                self._release(parent)
            case _:
                self._release_if_empty(parent)
        return 0

    def await_children(self, job_id: str) -> int:
        """Have what was claimed wait for its children, or at once again when there are none."""
        job = self.jobs[job_id]
        if job.unsuccessful:
            return -9
        job.state = FAMILY if job.pending else WAITING
        return 0

    def retry(self, job_id: str) -> bool:
        """Let a finished job wait again; its parent waits for it as before."""
        job = self.jobs[job_id]
        if job.state not in (COMPLETED, FAILED):
            return False
        was_failed = job.state == FAILED
        job.state = WAITING
        parent = self.jobs.get(job.parent or "")
        if parent is None:
            return True
        kinds = [parent.unsuccessful, parent.ignored] if was_failed else [parent.processed]
        for kind in kinds:
            if job_id in kind:
                kind.remove(job_id)
                parent.pending.add(job_id)
                break
        return True

    def unlink(self, job_id: str) -> int:
        """Make a job nobody's child; return what the script answers."""
        job = self.jobs[job_id]
        if job.parent is None:
            return 0
        if job.parent not in self.jobs:
            return -5
        if job_id not in self.jobs[job.parent].pending:
            return 0
        self._forget(job)
        job.parent = None
        return 1

    def remove(self, job_id: str, *, with_children: bool) -> None:
        """Remove a job, and what is below it."""
        job = self.jobs[job_id]
        self._forget(job)
        if with_children:
            for child in list(job.below()):
                if child in self.jobs:
                    self.remove(child, with_children=True)
        del self.jobs[job_id]

    def prune(self, job_id: str) -> int:
        """Remove the pending children that have not failed, and theirs; return how many."""
        removed = 0
        for child in list(self.jobs[job_id].pending):
            removed += self._prune(child)
        return removed

    def _prune(self, job_id: str) -> int:
        job = self.jobs.get(job_id)
        if job is None:
            return 0
        if job.state == FAILED:
            return 0
        self._forget(job)
        removed = 1 + sum(self._prune(child) for child in list(job.pending))
        del self.jobs[job_id]
        return removed

    def _parent_that_waits_for(self, job: Member) -> Member | None:
        parent = self.jobs.get(job.parent or "")
        if parent is None or job.id not in parent.pending:
            return None
        parent.pending.remove(job.id)
        return parent

    def _forget(self, job: Member) -> None:
        parent = self._parent_that_waits_for(job)
        if parent is not None:
            self._release_if_empty(parent)

    def _fail_parent(self, parent: Member, child: str) -> None:
        parent.unsuccessful.add(child)
        if parent.state != FAILED:
            parent.deferred = child
        self._release(parent)

    def _release_if_empty(self, parent: Member) -> None:
        if not parent.pending:
            self._release(parent)

    def _release(self, parent: Member) -> None:
        if parent.state == FAMILY:
            parent.state = WAITING
