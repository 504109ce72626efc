"""Random operations on parents and children of a real queue, and the same on their model."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from sandboxq.broker.commands import change_job, children
from sandboxq.broker.commands.add import ON_FAILURE, add, add_flow, new_job, relation_members
from sandboxq.broker.commands.attempts import Settlement, settle
from sandboxq.broker.commands.change_job import remove
from sandboxq.broker.commands.claim import claim
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import ParentNotFound
from sandboxq.model.job import KEEP_ALL, JobOptions, JobState, Parent
from sandboxq.model.outcome import (
    AwaitChildren,
    Complete,
    Fail,
    Failed,
)
from sandboxq.queue.flow_plan import plan_of
from tests.broker.case import NOW
from tests.broker.family_model import COMPLETED, FAILED, FAMILY, WAITING, FamilyModel
from tests.broker.server_machine import ServerMachine

if TYPE_CHECKING:
    from sandboxq.model.outcome import Transition
    from sandboxq.queue.flow_plan import FlowNode
    from tests.broker.family_model import Member

LOCK_MS = 10_000_000

ids = st.integers(0, 1000)
policies = st.sampled_from(list(ON_FAILURE))
# A child's policy, and those of its own children.
shapes = st.lists(st.tuples(policies, st.lists(policies, max_size=2)), min_size=1, max_size=3)


class FamilyMachine(ServerMachine):
    """Does each operation twice. Sub-classed with the server to do it on."""

    @initialize()
    def new_queue(self) -> None:
        """Begin with an empty queue."""
        self.keys = QueueKeys(f"q-{uuid.uuid4().hex[:12]}")
        self.model = FamilyModel()
        self.count = 0

    def new_id(self) -> str:
        """Return an id that no job had."""
        self.count += 1
        return f"j{self.count}"

    def pick(self, number: int) -> str:
        """Return the id of a job."""
        return sorted(self.model.jobs)[number % len(self.model.jobs)]

    # ── adding ──────────────────────────────────────────────────────────────

    @rule(shape=shapes)
    def add_tree(self, shape: list[tuple[str, list[str]]]) -> None:
        """Add a parent with children, some of which have their own."""
        root = self._node(None, "wait", has_children=True)
        for policy, below in shape:
            child = self._node(root, policy, has_children=bool(below))
            for each in below:
                self._node(child, each, has_children=False)
        drafts = plan_of([root], prefix="bull", queue_defaults=None)
        nodes = [draft.node() for draft in drafts]
        self.run(add_flow(self.broker, nodes, now_ms=NOW))

    def _node(self, parent: FlowNode | None, policy: str, *, has_children: bool) -> FlowNode:
        job_id = self.new_id()
        node: dict[str, Any] = {
            "name": "n",
            "queue": self.keys.queue,
            "opts": {"job_id": job_id},
            "children": [],
        }
        if parent is not None:
            node["on_failure"] = policy
            parent["children"].append(node)  # type: ignore[attr-defined]  # a list, as made above
        parent_id = None if parent is None else parent["opts"]["job_id"]
        self.model.add(job_id, parent_id, policy, has_children=has_children)
        return node  # type: ignore[return-value]  # as the keys above say

    @precondition(lambda self: self.model.jobs)
    @rule(number=ids, policy=policies)
    def add_child(self, number: int, policy: Any) -> None:
        """Add a child to a job that is there, wherever that is."""
        parent, job_id = self.pick(number), self.new_id()
        tie = Parent(parent, self.keys.queue, policy)
        extra = relation_members(None, tie, prefix="bull")
        new = new_job("n", "{}", JobOptions(job_id=job_id, extra=extra))
        assert self.run(add(self.broker, self.keys, [new], now_ms=NOW)) == [job_id]
        self.model.add(job_id, parent, policy, has_children=False)

    # ── working ─────────────────────────────────────────────────────────────

    @rule(kind=st.sampled_from(["complete", "complete", "fail", "await"]), count=st.integers(1, 3))
    def work(self, kind: str, count: int) -> None:
        """Claim jobs and end them so; one whose child failed it is failed instead."""
        token = uuid.uuid4().hex
        taken = self.run(
            claim(self.broker, self.keys, limit=count, token=token, lock_ms=LOCK_MS, now_ms=NOW)
        )
        # All before the first ends: it may be what fails another, which is told at its end.
        for row in taken.jobs:
            job = self.model.jobs[row.id.decode()]
            assert job.state == WAITING
            assert row.deferred_failure.decode() == (self._deferred_of(job) or "")
        for row in taken.jobs:
            self._end(row.id.decode(), token, "fail" if row.deferred_failure else kind)

    def _end(self, job_id: str, token: str, kind: str) -> None:
        code = self._settle(job_id, token, kind)
        wanted = {
            "complete": self.model.complete,
            "fail": self.model.fail,
            "await": self.model.await_children,
        }[kind](job_id)
        assert code == wanted
        if code:  # as the worker does
            assert self._settle(job_id, token, "fail") == self.model.fail(job_id) == 0

    def _settle(self, job_id: str, token: str, kind: str) -> int:
        transitions: dict[str, Transition] = {
            "complete": Complete(b"1", KEEP_ALL),
            "fail": Fail(Failed("no"), KEEP_ALL, None, 1),
            "await": AwaitChildren(),
        }
        row = Settlement(job_id.encode(), token.encode(), transitions[kind])
        (code,) = self.run(settle(self.broker, self.keys, [row], now_ms=NOW))
        return int(code)

    # ── operating ───────────────────────────────────────────────────────────

    @precondition(lambda self: self.model.jobs)
    @rule(number=ids)
    def retry(self, number: int) -> None:
        """Let a finished job run again."""
        job_id = self.pick(number)
        state = self.model.jobs[job_id].state
        if self.model.retry(job_id):
            resets = change_job.Resets(False, False)  # noqa: FBT003 - a pair of two that say so
            retried = change_job.retry(
                self.broker, self.keys, job_id, state=JobState(state), resets=resets
            )
            self.run(retried)

    @precondition(lambda self: self.model.jobs)
    @rule(number=ids)
    def unlink(self, number: int) -> None:
        """Cut a child from its parent."""
        job_id = self.pick(number)
        code = self.model.unlink(job_id)
        try:
            assert self.run(children.unlink(self.broker, self.keys, job_id)) == (code == 1)
        except ParentNotFound:
            assert code == -5

    @precondition(lambda self: self.model.jobs)
    @rule(number=ids, with_children=st.booleans())
    def remove(self, number: int, *, with_children: bool) -> None:
        """Remove a job."""
        job_id = self.pick(number)
        assert self.run(remove(self.broker, self.keys, job_id, with_children=with_children))
        self.model.remove(job_id, with_children=with_children)

    @precondition(lambda self: self.model.jobs)
    @rule(number=ids)
    def prune(self, number: int) -> None:
        """Remove the children that a job still waits for."""
        job_id = self.pick(number)
        pruned = self.run(children.prune(self.broker, self.keys, job_id, lambda _: None))
        assert pruned == self.model.prune(job_id)

    # ── what must hold after each step ──────────────────────────────────────

    @invariant()
    def server_and_model_agree(self) -> None:
        """Every job is where it should be, and knows of the same children."""
        if not hasattr(self, "keys"):
            return
        waiting, *scored = self.run(
            self.broker.pipeline(
                [
                    ("LRANGE", self.keys["wait"], 0, -1),
                    *(("ZRANGE", self.keys[name], 0, -1) for name in (FAMILY, COMPLETED, FAILED)),
                ]
            )
        )
        found = {
            job_id.decode(): name
            for name, members in zip(
                (WAITING, FAMILY, COMPLETED, FAILED), (waiting, *scored), strict=True
            )
            for job_id in members
        }
        assert found == {job.id: job.state for job in self.model.jobs.values()}
        for job in self.model.jobs.values():
            assert self._children_of(job.id) == (
                job.pending,
                job.processed,
                job.ignored,
                job.unsuccessful,
                self._deferred_of(job),
            )

    def _deferred_of(self, job: Member) -> str | None:
        return None if job.deferred is None else f"child {self.keys[job.deferred]} failed"

    def _children_of(self, job_id: str) -> tuple[Any, ...]:
        key = self.keys[job_id]
        *kinds, deferred = self.run(
            self.broker.pipeline(
                [
                    ("SMEMBERS", f"{key}:dependencies"),
                    ("HKEYS", f"{key}:processed"),
                    ("HKEYS", f"{key}:failed"),
                    ("ZRANGE", f"{key}:unsuccessful", 0, -1),
                    ("HGET", key, "defa"),
                ]
            )
        )
        base = self.keys.base
        named = [{child.decode().removeprefix(base) for child in kind} for kind in kinds]
        return (*named, deferred and deferred.decode())
