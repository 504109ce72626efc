"""Each line of a job says which job, attempt and trace it is of, in text and in JSON."""

from __future__ import annotations

import json

import pytest

from sandboxq.cli import logs
from sandboxq.observe.telemetry import AttemptFailed, Event, JobLines

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f'{{"traceparent":"00-{ID}-00f067aa0ba902b7-01"}}'
LINES = JobLines("7", 42, "stdout", ["one", "two"], 2, TRACE)
FAILED = AttemptFailed(
    "7", "name", "boom", "for good", 0.5, queue="images", attempt=2, attempts=3, trace=TRACE
)


@pytest.mark.parametrize("event", [LINES, FAILED])
def test_json_has_fields(event: Event) -> None:
    """By the same names, whatever the line says."""
    rows = logs.Format(logs.JSON).event(0.5, event, "images").splitlines()
    for row in map(json.loads, rows):
        found = (row["job_id"], row["queue"], row["attempt"], row["trace_id"])
        assert found == ("7", "images", 2, ID)


def test_text_names_them_where_they_say_something() -> None:
    """A first attempt without a trace is told by its job alone."""
    text = logs.Format(logs.TEXT)
    first, second = text.event(0.5, LINES).splitlines()
    assert first.endswith(f"[job 7 attempt 2 trace {ID}] one")
    assert second.endswith(f"[job 7 attempt 2 trace {ID}] two")
    assert f"attempt 2 of 3, after 0.500 s: boom (trace {ID})" in text.event(0.5, FAILED)
    assert text.event(0.5, JobLines("7", 42, "stdout", ["x"], 1)).endswith("[job 7] x\n")
    assert text.event(0.5, JobLines("", 42, "stdout", ["x"])).endswith("[child 42] x\n")


@pytest.mark.parametrize(
    "trace", ["", "[]", '{"traceparent": "\x1b[2J"}', '{"traceparent":7}', "{"]
)
def test_what_is_no_trace_is_none(trace: str) -> None:
    """It is the producer's text."""
    line = logs.Format(logs.TEXT).event(0.5, JobLines("7", 42, "stdout", ["x"], 1, trace))
    assert line.endswith("[job 7] x\n")
