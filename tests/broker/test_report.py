"""Progress, log lines and changed data of running jobs (protocol.md 3.17)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.commands.attempts import Report
from tests.broker.case import TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case

T = TOKEN.encode()


def test_progress(case: Case) -> None:
    """In the hash and as an event, whose JSON text QueueEvents parses."""
    case.active("1")
    assert case.report(Report(b"1", T, "progress", '{"p":"é"}'.encode())) == [0]
    assert case.hash("1")["progress"] == '{"p":"é"}'
    assert [list(event.items()) for event in case.events()] == [
        [("event", "progress"), ("jobId", "1"), ("data", '{"p":"é"}')]
    ]


def test_data(case: Case) -> None:
    """Without an event."""
    case.active("1")
    assert case.report(Report(b"1", T, "data", b"[1]")) == [0]
    assert case.hash("1")["data"] == "[1]"
    assert case.events() == []


def test_log(case: Case) -> None:
    """In order; the last `keep_logs` stay, 0 keeps all."""
    case.active("1", "2")
    for line in (b"a", b"b", b"c"):
        case.report(Report(b"1", T, "log", line, 2), Report(b"2", T, "log", line))
    assert case.items("1:logs") == ["b", "c"]
    assert case.items("2:logs") == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["progress", "data", "log"])
def test_only_the_holder_of_the_lock_may_report(case: Case, kind: str) -> None:
    """A run that lost its job must not write into the run of another."""
    case.active("1", "2", "3")
    case.redis.set(case.keys["1:lock"], "other")
    case.redis.delete(case.keys["2:lock"], case.keys["3"])
    before = [case.hash("1"), case.hash("2")]
    reports = [Report(i, T, kind, b"5") for i in (b"1", b"2", b"3")]
    assert case.report(*reports) == [-6, -2, -1]
    assert [case.hash("1"), case.hash("2")] == before
    assert case.keys_of("1") == {"1", "1:lock"}
    assert case.keys_of("3") == {"3:lock"}
    assert case.events() == []


def test_any_number(case: Case) -> None:
    """None at all, and more than one script call holds."""
    assert case.report() == []
    case.active("1")
    assert case.report(*[Report(b"1", T, "log", b"%d" % n) for n in range(250)]) == [0] * 250
    assert case.items("1:logs") == [str(number) for number in range(250)]
