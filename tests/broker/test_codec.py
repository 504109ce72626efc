"""JSON, options and job hashes, against protocol.md 2.1 and 2.2."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.broker.codec import (
    CACHE_TEXT_BYTES,
    json_text,
    json_value,
    options_from_wire,
    options_to_wire,
)
from sandboxq.broker.commands.jobs import job_from_hash
from sandboxq.errors import OptionsUnreadable, UsageError
from sandboxq.model.backoff import Backoff
from sandboxq.model.job import (
    KEEP_ALL,
    KEEP_NONE,
    JobOptions,
    Keep,
)

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    SCALARS | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20
)

LOOP: list[Any] = []
LOOP.append(LOOP)


@given(JSON)
def test_json_comes_back_as_it_went(value: Any) -> None:
    """What a producer stores is what a processor gets, whatever it is."""
    assert json_value(json_text(value, "data").encode()) == value


NO_JSON: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "bytes": b"bytes",
    "set": {1, 2},
    "int key": {1: "a"},
    "None key": {None: 1},
    "deep int key": [{"a": {2: 3}}],
    "tuple key": {"deep": ({(1, 2): 3},)},
    "surrogate": "\ud800",
    "surrogate key": {"\udfff": 1},
    "object": object(),
    "datetime": dt.datetime.now(dt.UTC),
    "loop": LOOP,
    "endless digits": 10**5000,
}


@pytest.mark.parametrize("value", NO_JSON.values(), ids=NO_JSON)
def test_what_is_not_json_is_refused(value: Any) -> None:
    """A single NaN in the stream stops Node's QueueEvents for good; no key may change its type."""
    with pytest.raises(UsageError, match="the value"):
        json_text(value, "the value")


def test_large_integers_keep_their_digits() -> None:
    """Ids of other systems are often longer than a double can hold."""
    assert json_text({"id": 2**63 + 1}, "data") == '{"id":9223372036854775809}'


def test_text_stays_readable_utf8() -> None:
    """Node writes UTF-8 too; escapes would only cost memory."""
    assert json_text({"s": "é☃"}, "data") == '{"s":"é☃"}'


@pytest.mark.parametrize("text", [b"", b"nope", b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000])
def test_unreadable_json_is_a_value_error(text: bytes) -> None:
    """Whoever reads foreign text has one kind of error to expect."""
    with pytest.raises(ValueError, match=r"."):
        json_value(text)


def test_default_options_are_node_s() -> None:
    """Node always writes attempts, and nothing else unasked."""
    assert options_to_wire(JobOptions()) == '{"attempts":0}'


def test_options_have_node_s_names_and_units() -> None:
    """A Node worker reads these texts; milliseconds, seconds and short names must be its own."""
    options = JobOptions(
        delay=1.5,
        priority=3,
        attempts=4,
        backoff=Backoff.exponential(0.2, jitter=0.5),
        lifo=True,
        job_id="abc",
        timestamp_ms=1_700_000_000_000,
        timeout=30.0,
        remove_on_complete=Keep(count=5, age=3600, limit=7),
        remove_on_fail=Keep(count=9),
        keep_logs=3,
        stack_trace_limit=2,
        size_limit=100,
        extra={"de": {"id": "d"}, "foreign": [1]},
    )

    assert json.loads(options_to_wire(options)) == {
        "delay": 1500,
        "priority": 3,
        "attempts": 4,
        "backoff": {"type": "exponential", "delay": 200, "jitter": 0.5},
        "lifo": True,
        "jobId": "abc",
        "timestamp": 1_700_000_000_000,
        "timeout": 30_000,
        "removeOnComplete": {"count": 5, "age": 3600, "limit": 7},
        "removeOnFail": 9,
        "kl": 3,
        "stackTraceLimit": 2,
        "sizeLimit": 100,
        "de": {"id": "d"},
        "foreign": [1],
    }


@pytest.mark.parametrize(
    ("keep", "wire"), [(KEEP_NONE, True), (KEEP_ALL, False), (Keep(count=3), 3)], ids=str
)
def test_keep_is_written_in_its_shortest_form(keep: Keep, wire: object) -> None:
    """Dashboards show these values to people."""
    stored = json.loads(options_to_wire(JobOptions(remove_on_fail=keep)))
    assert stored["removeOnFail"] is wire or stored["removeOnFail"] == wire


def test_options_survive_the_round_trip() -> None:
    """Our worker must see what our producer asked for."""
    options = JobOptions(
        delay=0.25,
        backoff=Backoff("mine", 0.5),
        timeout=1.0,
        remove_on_complete=Keep(age=1.5),
        extra={"fpof": True},
    )
    assert options_from_wire(options_to_wire(options).encode()) == options


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (b'{"removeOnComplete":true}', "remove_on_complete", KEEP_NONE),
        (b'{"removeOnComplete":false}', "remove_on_complete", KEEP_ALL),
        (b'{"removeOnComplete":-1}', "remove_on_complete", KEEP_ALL),
        (b'{"removeOnFail":{"age":60,"count":-1}}', "remove_on_fail", Keep(age=60)),
        (b'{"backoff":500}', "backoff", Backoff.fixed(0.5)),
        (b'{"backoff":{"type":"custom"}}', "backoff", Backoff("custom")),
        (b'{"backoff":"soon"}', "backoff", None),
        (b'{"attempts":"3"}', "attempts", 3),
        (b'{"attempts":"many"}', "attempts", 0),
        (b'{"attempts":2.0}', "attempts", 2),
        (b'{"attempts":2.5}', "attempts", 3),
        (b"", "attempts", 0),
        (b'{"removeOnFail":"2"}', "remove_on_fail", KEEP_NONE),
        (b'{"removeOnFail":{"age":-1}}', "remove_on_fail", Keep(age=0)),
        (b'{"sizeLimit":0}', "size_limit", None),
        (b'{"attempts":null,"delay":[]}', "delay", 0.0),
        (b'{"kl":7,"stackTraceLimit":0}', "stack_trace_limit", 0),
        (b'{"timeout":1500}', "timeout", 1.5),
    ],
)
def test_foreign_options_are_read_as_their_writer_meant(
    text: bytes, field: str, value: Any
) -> None:
    """Other ports and old versions write other forms; a job must run all the same."""
    assert getattr(options_from_wire(text), field) == value


@pytest.mark.parametrize("text", [b"{", b"[]", b"null", b"NaN", b"\xff\xfe"])
def test_options_that_are_no_object_are_a_typed_error(text: bytes) -> None:
    """The worker fails such a job with a reason; Node lets it stall for ever."""
    with pytest.raises(OptionsUnreadable):
        options_from_wire(text)


def test_equal_texts_share_one_object() -> None:
    """Parsing anew for each claim would cost more than the claim; unusual texts are not hoarded."""
    short, long = b'{"attempts":77}', b'{"x":"' + b"y" * CACHE_TEXT_BYTES + b'"}'
    assert options_from_wire(short) is options_from_wire(bytes(bytearray(short)))
    assert options_from_wire(long) is not options_from_wire(bytes(bytearray(long)))


def test_job_from_a_full_hash() -> None:
    """Every field of protocol.md 2.1 has its place, and ours beside them."""
    job = job_from_hash(
        "q",
        "7",
        {
            b"name": b"resize",
            b"data": '{"s":"é"}'.encode(),
            b"opts": b'{"attempts":3}',
            b"timestamp": b"1700000000000",
            b"delay": b"5",
            b"priority": b"2",
            b"atm": b"1",
            b"ats": b"2",
            b"stc": b"1",
            b"processedOn": b"1700000000001",
            b"finishedOn": b"1700000000002",
            b"pb": b"w",
            b"progress": b'{"p":50}',
            b"returnvalue": b"[1]",
            b"failedReason": b'not "JSON"',
            b"stacktrace": b'["one","two"]',
            b"parentKey": b"bull:p:1",
            b"parent": b'{"id":"1","queueKey":"bull:p"}',
            b"defa": b"child failed",
            b"deid": b"d",
            b"rjk": b"sid",
            b"sq:cause": b"JobCrashed",
            b"sq:pid": b"12",
        },
    )

    assert (job.id, job.name, job.queue_name, job.data) == ("7", "resize", "q", {"s": "é"})
    assert (job.opts.attempts, job.timestamp_ms, job.delay_ms) == (3, 1_700_000_000_000, 5)
    assert (job.priority, job.attempts_made, job.attempts_started) == (2, 1, 2)
    assert (job.stalled_counter, job.processed_on_ms) == (1, 1_700_000_000_001)
    assert (job.finished_on_ms, job.processed_by) == (1_700_000_000_002, "w")
    assert (job.progress, job.returnvalue, job.failed_reason) == ({"p": 50}, [1], 'not "JSON"')
    assert (job.stacktrace, job.parent_key) == (("one", "two"), "bull:p:1")
    assert job.parent == {"id": "1", "queueKey": "bull:p"}
    assert (job.deferred_failure, job.deduplication_id) == ("child failed", "d")
    assert (job.scheduler_id, job.cause, job.extra) == ("sid", "JobCrashed", {"sq:pid": "12"})


def test_a_broken_job_can_still_be_looked_at() -> None:
    """Whoever repairs a queue must see what is wrong with it."""
    fields = {b"data": b"{oops", b"opts": b"?", b"timestamp": b"NaN", b"stacktrace": b"x"}
    job = job_from_hash("q", "1", {**fields, b"attemptsMade": b"2", b"parent": b"[]"})

    assert (job.name, job.data, job.opts) == ("", "{oops", JobOptions())
    assert (job.timestamp_ms, job.stacktrace, job.attempts_made) == (0, ("x",), 2)
    assert job.parent is None


def test_scalars_of_numpy_are_values_of_python() -> None:
    """What argmax returns can be the data of a job."""
    value = {"n": np.int64(3), "f": [np.float32(0.5), np.all([0])]}
    assert json_text(value, "data") == '{"n":3,"f":[0.5,false]}'
    with pytest.raises(UsageError, match="keys must be str"):
        json_text({np.int64(1): 2}, "data")
    with pytest.raises(UsageError, match="complex"):
        json_text(np.complex64(1), "data")
