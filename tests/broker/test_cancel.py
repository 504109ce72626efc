"""Cancelling what has not begun: one script call, and the job has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands.change_job import cancel
from sandboxq.errors import (
    CancelNotHeard,
    JobBelongsToScheduler,
    JobNotFound,
    JobNotInState,
    QueueError,
)
from tests.broker.case import NOW, Case, traces

if TYPE_CHECKING:
    from collections.abc import Callable

REASON = "cancelled by me: no longer needed"


def cancelled(case: Case, job_id: str) -> str | None:
    """Cancel a job."""
    worker: str | None = case.run(
        lambda broker: cancel(broker, case.keys, job_id, reason=REASON, grace=1, now_ms=NOW + 5)
    )
    return worker


def _in_list(case: Case, name: str) -> None:
    case.redis.lpush(case.keys[name], "1")


def _in_set(case: Case, name: str) -> None:
    case.redis.zadd(case.keys[name], {"1": 5})


@pytest.mark.parametrize(
    ("put", "state"),
    [
        (_in_list, "wait"),
        (_in_list, "paused"),
        (_in_set, "prioritized"),
        (_in_set, "delayed"),
        (_in_set, "waiting-children"),
    ],
)
def test_what_waits_has_failed_at_once(
    case: Case, put: Callable[[Case, str], None], state: str
) -> None:
    """Nobody will run it, no attempt counts, and who waits for it hears why."""
    case.job("1", atm=1)
    put(case, state)

    assert cancelled(case, "1") is None

    assert case.scores("failed") == {"1": NOW + 5}
    fields = case.hash("1")
    wanted = {
        "failedReason": REASON,
        "finishedOn": str(NOW + 5),
        "atm": "1",
        "sq:cause": "JobCancelled",
    }
    assert {name: fields[name] for name in wanted} == wanted
    assert traces(fields) == [f"JobCancelled: {REASON}"]
    assert not case.redis.exists(case.keys[state], case.keys["active"], case.keys["1:lock"])
    failed = {"event": "failed", "jobId": "1", "failedReason": REASON, "prev": "active"}
    assert failed.items() <= case.events()[0].items()
    assert "retries-exhausted" not in [event["event"] for event in case.events()]


def test_others_stay(case: Case) -> None:
    """One job is meant, and the marker of those that wait is not lost."""
    case.waiting("1", "2", "3")
    cancelled(case, "2")
    assert case.items("wait") == ["3", "1"]
    assert "drained" not in [event["event"] for event in case.events()]


def test_what_its_options_say_of_failed_jobs_holds(case: Case) -> None:
    """A job that is not to be kept when it fails is gone; options that are no JSON say nothing."""
    case.waiting("1", opts='{"removeOnFail":true,"attempts":3}')
    case.waiting("2", opts="{not json")
    cancelled(case, "1")
    cancelled(case, "2")
    assert case.scores("failed") == {"2": NOW + 5}
    assert case.hash("1") == {}


def test_a_parent_hears_of_it(case: Case) -> None:
    """A cancelled child has failed, with what that means for its parent."""
    parent = case.job("p")
    case.redis.zadd(case.keys["waiting-children"], {"p": NOW})
    case.redis.sadd(f"{parent}:dependencies", case.keys["c"])
    stored = f'{{"id":"p","queueKey":"{case.keys.base[:-1]}","fpof":true}}'
    case.waiting("c", parentKey=parent, parent=stored)

    cancelled(case, "c")

    assert case.hash("p")["defa"] == f"child {case.keys['c']} failed"
    assert case.items("wait") == ["p"]


def test_its_deduplication_ends(case: Case) -> None:
    """The next add is not turned away for the sake of a job that will never run."""
    case.waiting("1", deid="once")
    case.redis.set(case.keys["de:once"], "1")
    cancelled(case, "1")
    assert not case.redis.exists(case.keys["de:once"])


def _completed(case: Case) -> None:
    case.job("1")
    case.redis.zadd(case.keys["completed"], {"1": 1})


def _failed(case: Case) -> None:
    case.job("1")
    case.redis.zadd(case.keys["failed"], {"1": 1})


def _nowhere(case: Case) -> None:
    case.job("1")


def _next_of_scheduler(case: Case) -> None:
    case.redis.zadd(case.keys["repeat"], {"daily": 77})
    job_id = "repeat:daily:77"
    case.job(job_id, rjk="daily")
    case.redis.zadd(case.keys["delayed"], {job_id: 77 * 4096})


@pytest.mark.parametrize(
    ("given", "job_id", "error", "text"),
    [
        (_completed, "1", JobNotInState, "is completed"),
        (_failed, "1", JobNotInState, "is failed"),
        (_nowhere, "1", JobNotInState, "is unknown"),
        (_nowhere, "2", JobNotFound, "does not exist"),
        (_next_of_scheduler, "repeat:daily:77", JobBelongsToScheduler, "scheduler"),
        (lambda case: case.active("1"), "1", CancelNotHeard, "no worker of sandboxq"),
    ],
)
def test_nothing_to_cancel(
    case: Case, given: Callable[[Case], Any], job_id: str, error: type[QueueError], text: str
) -> None:
    """The caller is told what the matter is, and nothing has changed."""
    given(case)
    before = (case.hash(job_id), case.scores("failed"), case.items("active"), case.events())
    with pytest.raises(error, match=text):
        cancelled(case, job_id)
    after = (case.hash(job_id), case.scores("failed"), case.items("active"), case.events())
    assert after == before
