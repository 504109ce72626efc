"""Any JSON as the options of a job: it is claimed, run and settled, and its neighbours too."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxq.broker.codec import options_from_wire
from sandboxq.broker.commands.attempts import Report, Settlement, settle
from sandboxq.errors import OptionsUnreadable, UsageError
from sandboxq.model.outcome import (
    Completed,
    Failed,
    HandedBack,
    Postponed,
    RateLimited,
    Retention,
    RetryRules,
    decide,
)
from sandboxq.worker.scheduler import iteration_after
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from sandboxq.broker.commands.claim import ClaimedJob
    from sandboxq.model.outcome import Outcome
    from tests.broker.case import Case

NAMES = [
    "attempts",
    "backoff",
    "delay",
    "jobId",
    "kl",
    "lifo",
    "priority",
    "removeOnComplete",
    "removeOnFail",
    "sizeLimit",
    "stackTraceLimit",
    "timeout",
    "timestamp",
    "tm",
    "omc",
    "repeat",
    "prevMillis",
    "repeatJobKey",
    "de",
    "parent",
]
INNER = [
    "count",
    "age",
    "limit",
    "type",
    "delay",
    "jitter",
    "id",
    "x",
    "pattern",
    "every",
    "tz",
    "startDate",
    "endDate",
    "offset",
    "hashSeed",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([2**31, 2**53, 2**63, -(2**63), 10**25, 10**400]),
    st.sampled_from([0.5, -0.5, 1e21, 1e300, 1.7976931348623157e308, -1.7e308]),
    st.sampled_from(["", "5", "nan", "1e400", "é", "fixed", "exponential", "* * * * *", "\x00"]),
)
MEMBERS = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(st.sampled_from(INNER), SCALARS, max_size=4),
)
OPTIONS = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), MEMBERS, max_size=5).map(json.dumps),
    st.sampled_from(["", "{", "[]", "null", "7", '{"a":' * 1500, '{"attempts":1e999}']),
    st.sampled_from(['{"attempts":' + "9" * 5000 + "}", '{"removeOnComplete":{"age":1e308}}']),
)
OUTCOMES: list[Outcome] = [
    Completed(b"1"),
    Failed("r", "s", "c"),
    Failed("r", "", "JobCrashed", is_crash=True),
    HandedBack(),
    HandedBack(was_started=True, is_neighbour=True),
    Postponed(5),
    RateLimited(5),
]
RULES, RETENTION = RetryRules(), Retention()


@pytest.mark.timeout(300)
@given(
    odd=st.lists(st.tuples(OPTIONS, st.sampled_from(OUTCOMES)), min_size=1, max_size=8),
    metrics=st.sampled_from([0, 5]),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_json_is_survived(case: Case, odd: list[tuple[str, Outcome]], metrics: int) -> None:
    """Each ends in one place; what cannot be read fails, and the others end as they should."""
    for key in list(case.redis.scan_iter(case.keys["*"])):
        case.redis.delete(key)
    for place, (options, _) in enumerate(odd):
        case.waiting(f"odd{place}", opts=options)
        case.waiting(f"beside{place}")

    jobs = case.claim(limit=100).jobs
    assert len(jobs) == 2 * len(odd)
    ended = [
        Completed(b"1") if job.id.startswith(b"b") else odd[int(job.id[3:])][1] for job in jobs
    ]
    token = TOKEN.encode()
    rows = [
        Settlement(job.id, token, _transition(job, outcome), is_plain=job.is_plain)
        for job, outcome in zip(jobs, ended, strict=True)
    ]
    logs = [Report(job.id, token, "log", b"x", _options(job).keep_logs or 0) for job in jobs]

    assert case.report(*logs) == [0] * len(jobs)
    codes = case.run(
        lambda broker: settle(broker, case.keys, rows, now_ms=NOW + 5, metrics_points=metrics)
    )
    assert codes == [0] * len(jobs)
    assert case.items("active") == []
    # Told, not stored: the rule of an odd one may remove what completed before it, as with Node.
    told = [fields for _, fields in case.redis.xrange(case.keys["events"])]
    completed = {_text(each["jobId"]) for each in map(_texts, told) if each["event"] == "completed"}
    assert completed >= {f"beside{place}" for place in range(len(odd))}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _texts(fields: dict[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in fields.items()}


def _options(job: ClaimedJob) -> Any:
    try:
        return options_from_wire(job.opts)
    except OptionsUnreadable:
        return options_from_wire(b"{}")


def _transition(job: ClaimedJob, outcome: Outcome) -> Any:
    with contextlib.suppress(UsageError, OptionsUnreadable):
        iteration_after(job._replace(scheduler_id=b"s"), NOW)
    return decide(outcome, _options(job), attempts_made=0, retention=RETENTION, rules=RULES)
