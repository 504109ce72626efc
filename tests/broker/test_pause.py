"""Pausing and resuming, also on queues shared with v5 clients (protocol.md 3.19, 9.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.commands.settings import is_paused, pause, resume

if TYPE_CHECKING:
    from tests.broker.case import Case


def test_pause_and_resume_as_v6_does(case: Case) -> None:
    """The lists stay as they are; the marker goes and comes back."""
    case.waiting("a", "b")
    case.redis.zadd(case.keys["marker"], {"0": 0})

    case.run(lambda broker: pause(broker, case.keys))
    paused = case.run(lambda broker: is_paused(broker, case.keys))
    assert paused
    assert (case.items("wait"), case.scores("marker")) == (["b", "a"], {})
    case.run(lambda broker: resume(broker, case.keys))

    assert not case.run(lambda broker: is_paused(broker, case.keys))
    assert (case.items("wait"), case.scores("marker")) == (["b", "a"], {"0": 0.0})
    assert case.events() == [{"event": "paused"}, {"event": "resumed"}]


def test_resume_tells_when_the_next_delayed_job_is_due(case: Case) -> None:
    """Workers that slept through the pause must learn about delayed jobs (1.4)."""
    case.redis.zadd(case.keys["delayed"], {"d": 5000 * 4096})

    case.run(lambda broker: pause(broker, case.keys))
    case.run(lambda broker: resume(broker, case.keys))

    assert case.scores("marker") == {"1": 5000.0}


def test_pausing_a_v5_queue_saves_what_waits(case: Case) -> None:
    """A v5 client's resume overwrites ``wait`` with ``paused``; so everything has to be there."""
    case.redis.hset(case.keys["meta"], "version", "bullmq:5.81.5")
    case.waiting(*(f"{i}" for i in range(6000)))
    case.redis.lpush(case.keys["paused"], "older")

    case.run(lambda broker: pause(broker, case.keys))

    assert case.items("wait") == []
    assert case.items("paused")[::-1] == ["older", *(f"{i}" for i in range(6000))]
    assert case.events() == [{"event": "paused"}]


def test_resume_merges_both_lists(case: Case) -> None:
    """Nothing may be lost, whoever paused and whoever added; what v5 kept goes first."""
    case.redis.hset(case.keys["meta"], "paused", 1)
    case.redis.lpush(case.keys["paused"], *(f"{i}" for i in range(6000)))
    case.waiting("late", "later")

    case.run(lambda broker: resume(broker, case.keys))

    assert case.items("paused") == []
    assert case.items("wait")[::-1] == [*(f"{i}" for i in range(6000)), "late", "later"]
    assert case.events() == [{"event": "resumed"}]
    assert case.scores("marker") == {"0": 0.0}
