"""What a finished child does to its parent (protocol.md 3.0, 3.11.4)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.keys import QueueKeys
from sandboxq.model.job import KEEP_ALL, KEEP_NONE
from sandboxq.model.outcome import Complete, Fail, Failed
from tests.broker.case import NOW, Case

if TYPE_CHECKING:
    from sandboxq.model.job import Keep

THEN = NOW + 5
RELEASED = {"event": "waiting", "jobId": "p", "prev": "waiting-children"}


class Family:
    """A parent `p` in a queue of its own, waiting for the children `c` and `d` of ``case``."""

    def __init__(self, case: Case, flags: dict[str, bool] | None = None, **parent: Any) -> None:
        """Claim `c`, so that it can finish; `d` stays pending."""
        self.case = case
        self.parents = Case(case.url, case.keys.queue + "-parents")
        self.parents.job("p", **parent)
        self.parents.redis.zadd(self.parents.keys["waiting-children"], {"p": NOW})
        link = {"id": "p", "queueKey": f"bull:{self.parents.keys.queue}", **(flags or {})}
        fields = {"parentKey": self.parents.keys["p"], "parent": json.dumps(link)}
        case.waiting("c", "d", **fields)
        case.redis.sadd(self.parents.keys["p:dependencies"], case.keys["c"], case.keys["d"])
        case.claim(limit=1)

    def forget_d(self) -> None:
        """Make `c` the last pending child."""
        self.case.redis.srem(self.parents.keys["p:dependencies"], self.case.keys["d"])

    def complete(self, keep: Keep = KEEP_ALL) -> None:
        """Complete `c` with 42."""
        assert self.case.settle(("c", Complete(b"42", keep))) == [0]

    def fail(self, keep: Keep = KEEP_ALL) -> None:
        """Fail `c` with boom."""
        assert self.case.settle(("c", Fail(Failed("boom"), keep, None, 1))) == [0]

    def pending(self) -> set[str]:
        """Return the pending children by id."""
        keys = self.parents.redis.smembers(self.parents.keys["p:dependencies"])
        return {key.removeprefix(self.case.keys.base) for key in keys}

    def has_left(self) -> bool:
        """Whether the parent no longer waits for children."""
        return not self.parents.scores("waiting-children")


def test_the_value_reaches_the_parent_which_waits_on(case: Case) -> None:
    """`processed` maps the child's full key to its JSON value."""
    family = Family(case)
    family.complete()
    assert family.parents.redis.hgetall(family.parents.keys["p:processed"]) == {
        case.keys["c"]: "42"
    }
    assert family.pending() == {"d"}
    assert not family.has_left()


def test_the_last_child_releases_the_parent_to_the_front(case: Case) -> None:
    """Into wait, before all others, with event and marker in its own queue."""
    family = Family(case)
    family.forget_d()
    family.parents.waiting("other")
    family.complete()
    assert family.has_left()
    assert family.parents.items("wait") == ["other", "p"]
    assert family.parents.events() == [RELEASED]
    assert family.parents.scores("marker") == {"0": 0.0}


def test_a_prioritized_parent_goes_behind_its_equals(case: Case) -> None:
    """Release honours the priority."""
    family = Family(case, priority=3)
    family.forget_d()
    family.complete()
    assert family.parents.scores("prioritized") == {"p": 3 * 2**32 + 1}
    assert family.parents.events() == [RELEASED]


def test_a_delayed_parent_is_delayed_now(case: Case) -> None:
    """Its delay begins when the children are done; exact score, no tie-break."""
    family = Family(case, delay=700)
    family.forget_d()
    family.complete()
    due = THEN + 700
    assert family.parents.scores("delayed") == {"p": due * 4096}
    assert family.parents.events() == [{"event": "delayed", "jobId": "p", "delay": str(due)}]
    assert family.parents.scores("marker") == {"1": due}


def test_a_paused_v5_queue_gets_its_parent_into_its_list(case: Case) -> None:
    """The rule of 9.2 holds for the parent's queue, not for the child's."""
    family = Family(case)
    family.forget_d()
    meta = family.parents.keys["meta"]
    family.parents.redis.hset(meta, mapping={"paused": 1, "version": "bullmq:5.81.5"})
    family.complete()
    assert family.parents.items("paused") == ["p"]
    assert family.parents.scores("marker") == {}


def test_a_parent_that_runs_is_only_told(case: Case) -> None:
    """A child added by an active parent: nothing to release."""
    family = Family(case)
    family.forget_d()
    family.parents.redis.delete(family.parents.keys["waiting-children"])
    family.complete()
    assert family.pending() == set()
    assert family.parents.events() == []


def test_a_child_without_parent_json_is_split_from_the_key(case: Case) -> None:
    """Old producers write only parentKey."""
    family = Family(case)
    family.forget_d()
    case.redis.hdel(case.keys["c"], "parent")
    family.complete()
    assert family.parents.items("wait") == ["p"]


def test_a_parent_that_is_gone_is_not_revived(case: Case) -> None:
    """No hash, no release."""
    family = Family(case)
    family.forget_d()
    family.parents.redis.delete(family.parents.keys["p"])
    family.complete()
    assert family.parents.items("wait") == []
    assert not family.parents.redis.exists(family.parents.keys["p"])


def test_failing_without_policy_leaves_the_parent_waiting(case: Case) -> None:
    """Until the child is retried to success or removed."""
    family = Family(case)
    family.fail()
    assert family.pending() == {"c", "d"}
    assert not family.has_left()


def test_fail_parent_on_failure(case: Case) -> None:
    """The parent is released at once, to be failed by who claims it."""
    family = Family(case, {"fpof": True})
    family.fail()
    assert family.pending() == {"d"}
    reason = f"child {case.keys['c']} failed"
    assert family.parents.hash("p")["defa"] == reason
    assert family.parents.scores("p:unsuccessful") == {case.keys["c"]: THEN}
    assert family.parents.items("wait") == ["p"]
    assert family.parents.events() == [RELEASED]


def test_fail_parent_that_is_delayed(case: Case) -> None:
    """It is taken out of delayed; its delay no longer counts."""
    family = Family(case, {"fpof": True}, delay=9000)
    family.parents.redis.delete(family.parents.keys["waiting-children"])
    family.parents.redis.zadd(family.parents.keys["delayed"], {"p": 1})
    family.fail()
    assert family.parents.items("wait") == ["p"]
    fields = family.parents.hash("p")
    assert fields["delay"] == "0"
    assert "defa" in fields
    assert family.parents.scores("delayed") == {}


@pytest.mark.parametrize("state", ["active", "failed"])
def test_fail_parent_elsewhere(case: Case, state: str) -> None:
    """An active one is told for its next claim; one that has failed already is left alone."""
    family = Family(case, {"fpof": True})
    family.parents.redis.delete(family.parents.keys["waiting-children"])
    if state == "failed":
        family.parents.redis.zadd(family.parents.keys["failed"], {"p": 1})
    family.fail()
    assert ("defa" in family.parents.hash("p")) == (state == "active")
    assert family.parents.items("wait") == []


def test_continue_parent_on_failure(case: Case) -> None:
    """The parent runs although other children are pending, and is told the reason."""
    family = Family(case, {"cpof": True})
    family.fail()
    assert family.parents.redis.hgetall(family.parents.keys["p:failed"]) == {case.keys["c"]: "boom"}
    assert family.parents.items("wait") == ["p"]
    assert family.pending() == {"d"}


@pytest.mark.parametrize("policy", ["idof", "rdof"])
def test_ignore_and_remove_dependency(case: Case, policy: str) -> None:
    """The failure counts as done; only `idof` leaves a note of it."""
    family = Family(case, {policy: True})
    family.fail()
    assert family.pending() == {"d"}
    assert not family.has_left()
    noted = family.parents.redis.hgetall(family.parents.keys["p:failed"])
    assert noted == ({case.keys["c"]: "boom"} if policy == "idof" else {})


@pytest.mark.parametrize("policy", ["idof", "rdof"])
def test_the_last_ignored_child_releases(case: Case, policy: str) -> None:
    """As a completed one would."""
    family = Family(case, {policy: True})
    family.forget_d()
    family.fail()
    assert family.parents.items("wait") == ["p"]


def test_a_removed_failing_child_releases_its_parent(case: Case) -> None:
    """With removeOnFail and without policy (3.11.6): the parent's priority is ignored there."""
    family = Family(case, priority=3)
    family.forget_d()
    family.fail(KEEP_NONE)
    assert family.parents.items("wait") == ["p"]
    assert family.parents.events() == [RELEASED]
    assert case.keys_of("c") == set()


def test_a_removed_completed_child_leaves_its_value(case: Case) -> None:
    """Removal on completion must not cost the parent the result."""
    family = Family(case)
    family.forget_d()
    family.complete(KEEP_NONE)
    assert family.parents.redis.hget(family.parents.keys["p:processed"], case.keys["c"]) == "42"
    assert family.parents.items("wait") == ["p"]


def test_a_child_failing_in_the_batch_of_its_parent(case: Case) -> None:
    """Both active in one queue: the parent's completion, later in the batch, is refused (-9)."""
    case.active("c", "p")
    link = {"id": "p", "queueKey": case.keys.base[:-1], "fpof": True}
    case.redis.hset(
        case.keys["c"], mapping={"parentKey": case.keys["p"], "parent": json.dumps(link)}
    )
    case.redis.sadd(case.keys["p:dependencies"], case.keys["c"])
    codes = case.settle(
        ("c", Fail(Failed("x"), KEEP_ALL, None, 1)), ("p", Complete(b"1", KEEP_ALL))
    )
    assert codes == [0, -9]


def test_the_two_queues_are_apart(case: Case) -> None:
    """The child's own queue gets its own event, not the parent's."""
    family = Family(case)
    family.forget_d()
    family.complete()
    names = [event["event"] for event in case.events(QueueKeys(case.keys.queue))]
    assert names == ["active", "completed"]
