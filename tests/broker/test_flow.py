"""Trees of jobs: what one add of them writes, and that it writes all of it or nothing (3.23)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands.add import add_flow
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import ParentCannotBeReplaced, ParentNotFound
from sandboxq.queue.flow_plan import plan_of
from tests.broker.case import NOW, Case

if TYPE_CHECKING:
    from sandboxq.queue.flow_plan import FlowNode


POLICIES = {"wait": None, "fail": "fpof", "continue": "cpof", "ignore": "idof", "remove": "rdof"}


class Tree:
    """Parents in the case's queue, children in one beside it."""

    def __init__(self, case: Case) -> None:
        """Name both queues."""
        self.parents = case
        self.children = Case(case.url, f"{case.keys.queue}-children")

    def parent(self, job_id: str, *children: FlowNode, **node: Any) -> FlowNode:
        """Return a parent."""
        own = {"name": "album", "queue": self.parents.keys.queue, "children": children, **node}
        own["opts"] = {"job_id": job_id, **node.get("opts", {})}
        return own  # type: ignore[return-value]  # as the keys above say

    def child(self, job_id: str, **node: Any) -> FlowNode:
        """Return a child."""
        own = {"name": "resize", "queue": self.children.keys.queue, "data": {"a": 1}, **node}
        own["opts"] = {"job_id": job_id, **node.get("opts", {})}
        return own  # type: ignore[return-value]  # as the keys above say

    def add(self, *roots: FlowNode) -> list[str]:
        """Add at NOW."""
        nodes = [each.node() for each in plan_of(roots, prefix="bull", queue_defaults=None)]
        ids: list[str] = self.parents.run(lambda broker: add_flow(broker, nodes, now_ms=NOW))
        return ids

    def everything(self) -> set[str]:
        """Return the names of all keys of both queues."""
        return set(self.parents.redis.keys(f"bull:{self.parents.keys.queue}*"))

    def complete(self, job_id: str, value: str = "42") -> None:
        """Leave a completed child behind, of an earlier time."""
        self.children.job(job_id, returnvalue=value, finishedOn=NOW - 1)
        self.children.redis.zadd(self.children.keys["completed"], {job_id: NOW - 1})


@pytest.fixture
def tree(case: Case) -> Tree:
    """Return two empty queues."""
    return Tree(case)


def test_a_parent_waits_for_its_children(tree: Tree) -> None:
    """These keys, fields and events are what every BullMQ worker and dashboard reads."""
    ids = tree.add(tree.parent("p", tree.child("c"), tree.child("d", on_failure="ignore")))

    assert ids == ["p", "c", "d"]
    parents, children = tree.parents, tree.children
    assert parents.scores("waiting-children") == {"p": NOW}
    assert parents.scores("marker") == {}
    assert parents.redis.smembers(parents.keys["p:dependencies"]) == {
        children.keys["c"],
        children.keys["d"],
    }
    assert parents.events() == [
        {"event": "added", "jobId": "p", "name": "album"},
        {"event": "waiting-children", "jobId": "p"},
    ]
    assert parents.redis.get(parents.keys["id"]) == "1"
    assert children.items("wait") == ["d", "c"]
    assert children.scores("marker") == {"0": 0}
    fields = children.hash("d")
    assert fields["parentKey"] == parents.keys["p"]
    link = {"id": "p", "queueKey": f"bull:{parents.keys.queue}"}
    assert json.loads(fields["parent"]) == {**link, "idof": True}
    assert json.loads(fields["opts"]) == {
        "attempts": 0,
        "jobId": "d",
        "idof": True,
        "parent": {"id": "p", "queue": link["queueKey"]},
    }


@pytest.mark.parametrize(("policy", "flag"), POLICIES.items())
def test_policies(tree: Tree, policy: str, flag: str | None) -> None:
    """Whoever fails the child reads the policy from its field `parent`."""
    tree.add(tree.parent("p", tree.child("c", on_failure=policy)))

    flags = {flag: True} if flag else {}
    link = json.loads(tree.children.hash("c")["parent"])
    assert link == {"id": "p", "queueKey": f"bull:{tree.parents.keys.queue}", **flags}


def test_where_the_jobs_of_a_deep_tree_go(tree: Tree) -> None:
    """Delay and priority count for a child at once, for a parent when it is released."""
    middle = tree.child("m", children=[tree.child("x", opts={"delay": 5})], opts={"priority": 3})
    later = tree.child("y", opts={"priority": 2})
    tree.add(tree.parent("p", middle, later, opts={"delay": 7.5}))

    children = tree.children
    assert children.scores("waiting-children") == {"m": NOW}
    assert children.scores("delayed") == {"x": (NOW + 5000) * 4096}
    assert children.scores("prioritized") == {"y": 2 * 2**32 + 1}
    assert children.hash("m")["priority"] == "3"
    assert children.hash("x")["parentKey"] == children.keys["m"]
    assert tree.parents.hash("p")["delay"] == "7500"
    assert tree.parents.scores("delayed") == {}


def test_a_completed_child_is_done_and_the_others_are_waited_for(tree: Tree) -> None:
    """Releasing the parent at once, as older versions do, would run it without the others."""
    tree.complete("old")
    tree.add(tree.parent("p", tree.child("old"), tree.child("new")))

    parents = tree.parents
    assert parents.redis.hgetall(parents.keys["p:processed"]) == {tree.children.keys["old"]: "42"}
    assert parents.redis.smembers(parents.keys["p:dependencies"]) == {tree.children.keys["new"]}
    assert parents.scores("waiting-children") == {"p": NOW}
    assert tree.children.hash("old")["parentKey"] == parents.keys["p"]
    assert tree.children.events()[0] == {"event": "duplicated", "jobId": "old"}


@pytest.mark.parametrize(
    ("opts", "place", "score"),
    [
        ({}, "wait", None),
        ({"priority": 4}, "prioritized", 4 * 2**32 + 1),
        ({"delay": 2}, "delayed", (NOW + 2000) * 4096),
    ],
)
def test_a_parent_without_pending_children_is_released(
    tree: Tree, opts: dict[str, Any], place: str, score: float | None
) -> None:
    """When all children had completed before, nobody else would ever release it."""
    tree.complete("old")
    tree.complete("older", "7")
    tree.add(tree.parent("p", tree.child("old"), tree.child("older"), opts=opts))

    parents = tree.parents
    assert parents.scores("waiting-children") == {}
    assert (parents.items("wait") == ["p"]) == (place == "wait")
    if score is not None:
        assert parents.scores(place) == {"p": score}
    assert parents.events()[-1]["event"] == ("delayed" if place == "delayed" else "waiting")
    assert len(parents.redis.hgetall(parents.keys["p:processed"])) == 2


def test_a_released_parent_is_a_pending_child_of_its_own(tree: Tree) -> None:
    """Release goes one level: the grandparent waits until the parent has run."""
    tree.complete("old")
    tree.add(tree.parent("top", tree.parent("p", tree.child("old"))))

    parents = tree.parents
    assert parents.items("wait") == ["p"]
    assert parents.scores("waiting-children") == {"top": NOW}
    assert parents.redis.smembers(parents.keys["top:dependencies"]) == {parents.keys["p"]}


def test_a_child_of_another_parent_stops_the_whole_flow(tree: Tree) -> None:
    """Node drops it without a word, and the parent waits for ever."""
    tree.add(tree.parent("p", tree.child("c")))
    before, events = tree.everything(), tree.children.events()

    with pytest.raises(ParentCannotBeReplaced, match="'resize' with id c"):
        tree.add(tree.parent("q", tree.child("new"), tree.parent("r", tree.child("c"))))

    assert tree.everything() == before
    assert tree.children.events() == events
    assert tree.parents.redis.get(tree.parents.keys["id"]) == "1"


def test_a_child_whose_parent_is_gone_gets_the_new_one(tree: Tree) -> None:
    """A flow that is added again after its parent was removed takes up its children (≥ 6.5)."""
    tree.add(tree.parent("p", tree.child("c")))
    tree.parents.redis.delete(tree.parents.keys["p"])
    tree.add(tree.parent("q", tree.child("c")))

    assert tree.children.hash("c")["parentKey"] == tree.parents.keys["q"]
    tree.parents.redis.delete(tree.parents.keys["q"])
    # The old parent would come back before its child is looked at.
    with pytest.raises(ParentCannotBeReplaced):
        tree.add(tree.parent("q"), tree.parent("s", tree.child("c")))


def test_the_same_flow_again_changes_nothing(tree: Tree) -> None:
    """Producers repeat an add when the answer was lost."""
    flow = tree.parent("p", tree.child("c"))
    tree.add(flow)
    before = (tree.children.hash("c"), tree.parents.hash("p"), tree.everything())

    assert tree.add(flow) == ["p", "c"]

    assert (tree.children.hash("c"), tree.parents.hash("p"), tree.everything()) == before
    assert tree.children.items("wait") == ["c"]


def test_children_can_join_a_parent_that_waits(tree: Tree) -> None:
    """A second flow with the same root adds to what it waits for."""
    tree.add(tree.parent("p", tree.child("c")))
    tree.add(tree.parent("p", tree.child("d")))

    names = tree.parents.redis.smembers(tree.parents.keys["p:dependencies"])
    assert names == {tree.children.keys["c"], tree.children.keys["d"]}


def test_a_flow_below_a_parent_that_does_not_exist(tree: Tree) -> None:
    """Nothing could ever be told to that parent."""
    from sandboxq.model.job import Parent

    root = tree.parent("p", tree.child("c"), opts={"parent": Parent("no", "other")})

    with pytest.raises(ParentNotFound, match="'album' with id p"):
        tree.add(root)
    meta = {tree.parents.keys["meta"], tree.children.keys["meta"]}
    assert tree.everything() <= meta


def test_a_flow_can_stand_below_a_job_that_runs(tree: Tree) -> None:
    """A processor may add whole trees below its own job."""
    from sandboxq.model.job import Parent

    tree.parents.active("run")
    parent = Parent("run", tree.parents.keys.queue, "fail")
    tree.add(tree.parent("p", tree.child("c"), opts={"parent": parent}))

    parents = tree.parents
    assert parents.redis.smembers(parents.keys["run:dependencies"]) == {parents.keys["p"]}
    assert json.loads(parents.hash("p")["parent"])["fpof"] is True
    assert parents.items("active") == ["run"]


def test_a_paused_or_full_queue_is_not_woken(tree: Tree) -> None:
    """Each queue of the flow has its own settings."""
    tree.children.redis.hset(tree.children.keys["meta"], "paused", 1)
    tree.add(tree.parent("p", tree.child("c")))

    assert tree.children.scores("marker") == {}
    assert tree.children.items("wait") == ["c"]


def test_meta_of_a_queue_that_was_never_seen(tree: Tree) -> None:
    """Trimming needs the length, other clients the version."""
    tree.add(tree.parent("p", tree.child("c")))

    meta = tree.children.redis.hgetall(QueueKeys(tree.children.keys.queue)["meta"])
    assert meta == {"opts.maxLenEvents": "10000", "version": "bullmq:6.7.0"}
