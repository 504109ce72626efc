"""Counts, lists, states, endings, queues and workers (protocol.md 3.24)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands.events import endings_in_stream, last_event_id
from sandboxq.broker.commands.jobs import (
    counts_of,
    endings_of,
    job_of,
    jobs_in,
    logs_of,
    state_of,
)
from sandboxq.broker.commands.queues import queue_names
from sandboxq.broker.commands.workers import workers_of
from sandboxq.broker.keys import QueueKeys
from sandboxq.model.job import JobState

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from tests.broker.case import Case


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.UNKNOWN])
def test_state_and_counts(case: Case, state: JobState) -> None:
    """A job is found in each state, and counted once."""
    case.job("1")
    if state in {JobState.WAITING, JobState.ACTIVE}:
        case.redis.lpush(case.keys["wait" if state is JobState.WAITING else "active"], "1")
    else:
        case.redis.zadd(case.keys[state.value], {"1": 5})

    assert case.run(lambda broker: state_of(broker, case.keys, "1")) is state
    assert case.run(lambda broker: state_of(broker, case.keys, "2")) is JobState.UNKNOWN
    counts = case.run(lambda broker: counts_of(broker, case.keys))
    assert {name: count for name, count in counts.items() if count} == {state.value: 1}


def test_what_v5_keeps_paused_waits(case: Case) -> None:
    """On a queue shared with v5 both lists hold waiting jobs (9.2)."""
    case.waiting("1")
    case.job("2")
    case.redis.lpush(case.keys["paused"], "2")

    assert case.run(lambda broker: counts_of(broker, case.keys))["waiting"] == 2
    assert case.run(lambda broker: state_of(broker, case.keys, "2")) is JobState.WAITING
    assert ids(case, JobState.WAITING) == ["1", "2"]


def ids(case: Case, state: JobState, **options: Any) -> list[str]:
    """Return the ids of the jobs in a state."""
    wanted = {"start": 0, "end": -1, "ascending": False, **options}
    jobs = case.run(lambda broker: jobs_in(broker, case.keys, [state], **wanted))
    return [job.id for job in jobs]


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.COMPLETED])
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "edcba"),
        ({"ascending": True}, "abcde"),
        ({"end": 1}, "ed"),
        ({"start": 1, "end": 3, "ascending": True}, "bcd"),
        ({"start": 3}, "ba"),
        ({"start": 3, "ascending": True}, "de"),
        ({"start": 9}, ""),
        ({"start": -2, "ascending": True}, "de"),
    ],
    ids=str,
)
def test_ranges(case: Case, state: JobState, options: dict[str, Any], wanted: str) -> None:
    """Lists are stored newest first, sets oldest first; pages must not depend on that."""
    for place, name in enumerate("abcde"):
        case.job(name)
        if state is JobState.WAITING:
            case.redis.lpush(case.keys["wait"], name)
        else:
            case.redis.zadd(case.keys["completed"], {name: place})

    assert ids(case, state, **options) == list(wanted)


def test_ids_without_a_job_are_left_out(case: Case) -> None:
    """Ghosts exist; a list of jobs must not fail on them."""
    case.waiting("1")
    case.redis.lpush(case.keys["wait"], "ghost")

    assert ids(case, JobState.WAITING) == ["1"]
    assert case.run(lambda broker: job_of(broker, case.keys, "ghost")) is None


def test_more_jobs_than_one_trip(case: Case) -> None:
    """Hashes are read in several trips; the order is one."""
    names = [str(i) for i in range(450)]
    case.waiting(*names)
    assert ids(case, JobState.WAITING, ascending=True) == names


def test_logs(case: Case) -> None:
    """Lines come in the order in which they were written."""
    case.redis.rpush(case.keys["1:logs"], "a", "b", "ü")

    def read(start: int, end: int) -> Any:
        return case.run(lambda broker: logs_of(broker, case.keys, "1", start=start, end=end))

    assert (read(0, -1), read(1, 1)) == (["a", "b", "ü"], ["b"])


def test_endings(case: Case) -> None:
    """What a caller of result() needs, in one call for many."""
    case.job("done", returnvalue='"v"')
    case.redis.zadd(case.keys["completed"], {"done": 1})
    case.job("bad", failedReason="why", **{"sq:cause": "JobTimeout"})
    case.job("worse")
    case.redis.zadd(case.keys["failed"], {"bad": 1, "worse": 2})
    case.waiting("waits")

    endings = case.run(
        lambda broker: endings_of(broker, case.keys, ["done", "bad", "worse", "waits", "gone"])
    )

    assert [tuple(ending)[:4] for ending in endings] == [
        (True, JobState.COMPLETED, b'"v"', ""),
        (True, JobState.FAILED, b"why", "JobTimeout"),
        (True, JobState.FAILED, b"", ""),
        (True, None, b"", ""),
        (False, None, b"", ""),
    ]


def test_endings_in_the_stream(case: Case) -> None:
    """The only trace of a job that was removed when it completed; the newest entry counts."""
    empty = case.run(lambda broker: last_event_id(broker, case.keys))
    add = case.redis.xadd
    add(case.keys["events"], {"event": "failed", "jobId": "1", "failedReason": "first"})
    add(case.keys["events"], {"event": "completed", "jobId": "1", "returnvalue": "2"})
    later = [add(case.keys["events"], {"event": "waiting", "jobId": "1"}) for _ in range(2500)]

    found = case.run(lambda broker: endings_in_stream(broker, case.keys, ["1", "2"]))

    assert found == {"1": {"event": "completed", "jobId": "1", "returnvalue": "2"}}
    assert empty == "0-0"
    assert case.run(lambda broker: last_event_id(broker, case.keys)) == later[-1]


def test_queue_names(case: Case) -> None:
    """Only queues of this prefix, whatever characters it has; keys of jobs are no queues."""
    prefix = f"[x*]?{case.keys.queue}"
    for name in ("b", "a b", "ü"):
        case.redis.hset(f"{prefix}:{name}:meta", "version", "1")
    case.redis.hset(f"{prefix}:b:c:meta", "version", "1")
    case.redis.hset(f"x{prefix[1:]}:other:meta", "version", "1")

    assert case.run(lambda broker: queue_names(broker, prefix=prefix)) == ["a b", "b", "ü"]


def test_workers(case: Case) -> None:
    """Node's and our workers are found by their blocking connection's name; readers are not."""
    own = QueueKeys(case.keys.queue).client_name

    async def body(broker: Broker) -> list[dict[str, str]]:
        names = (own, f"{own}:w:named", f"{own}:qe", f"{own}x")
        readers = [await broker.blocking(name, "key") for name in names]
        found = await workers_of(broker, case.keys)
        for reader in readers:
            await reader.close()
        return found

    workers = case.run(body)

    assert sorted(row["rawname"] for row in workers) == [own, f"{own}:w:named"]
    assert {row["name"] for row in workers} == {case.keys.queue}
    assert all("addr" in row and "age" in row for row in workers)
