"""What ``add`` accepts and refuses: everything Node validates, and what it forgets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandboxq.errors import UsageError
from sandboxq.model.backoff import Backoff
from sandboxq.model.job import (
    KEEP_ALL,
    KEEP_NONE,
    Deduplication,
    JobOptions,
    Keep,
    Parent,
)
from sandboxq.queue.options import checked_name, checked_options, checked_size

NAN = float("nan")
PARENT = Parent("1", "q")


def checked(**options: Any) -> JobOptions:
    """Check as add does."""
    return checked_options(options, prefix="bull")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("delay", value) for value in (-1, -0.001, NAN, float("inf"), "5", True, 1e300)),
        ("delay", timedelta(seconds=-1)),
        *(("priority", value) for value in (-1, 1.0, 1.5, 2_097_152, "1", True)),
        *(("attempts", value) for value in (-1, 2.5, "3")),
        *(("backoff", value) for value in (-1, NAN, "soon", Backoff("fixed", -1.0))),
        *(("backoff", value) for value in (Backoff("fixed", 1.0, 2.0), Backoff("", 1.0))),
        ("lifo", 1),
        *(
            ("job_id", value)
            for value in ("", "0", "17", "-3", "0:1", "0:1:2", "a:b", "a:b:c:d", 5, "\ud800")
        ),
        *(
            ("job_id", value)
            for value in ("metrics:completed:data", "repeat:s:1", "de:a:b", "dn:a:b")
        ),
        *(
            ("job_id", value)
            for value in ("wait", "meta", "id", "events", "repeat", "stalled-check")
        ),
        *(("timeout", value) for value in (0, -1, 0.0001, NAN)),
        *(("remove_on_complete", value) for value in (-1, 1.5, "all", Keep(count=-1))),
        *(("remove_on_fail", value) for value in (Keep(age=-1.0), Keep(limit=-1))),
        ("keep_logs", -1),
        ("stack_trace_limit", 1.5),
        ("size_limit", -1),
        *(("timestamp_ms", value) for value in (-1, 1.7e12)),
        *(("deduplication", value) for value in ("id", Deduplication(""))),
        ("deduplication", Deduplication("d", ttl=0)),
        ("deduplication", Deduplication("d", extend=True)),
        ("deduplication", Deduplication("d", replace=True, reschedule=True)),
        *(("parent", value) for value in ({"id": "1"}, Parent("", "q"), Parent("1", "a:b"))),
        ("parent", Parent("1", "q", "explode")),  # type: ignore[arg-type]  # as untyped code would
    ],
    ids=repr,
)
def test_refused_with_the_argument_s_name(name: str, value: Any) -> None:
    """A wrong option that Redis accepts shows up as a job that never runs."""
    with pytest.raises(UsageError, match=f"{name}|queue name"):
        checked(**{name: value})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"delay": timedelta(minutes=1)}, JobOptions(delay=60.0)),
        ({"delay": 0, "priority": 0}, JobOptions()),
        ({"priority": 2_097_151}, JobOptions(priority=2_097_151)),
        ({"backoff": 2}, JobOptions(backoff=Backoff("fixed", 2.0))),
        ({"backoff": timedelta(seconds=3)}, JobOptions(backoff=Backoff("fixed", 3.0))),
        ({"backoff": Backoff("mine", 1.0)}, JobOptions(backoff=Backoff("mine", 1.0))),
        ({"remove_on_complete": True}, JobOptions(remove_on_complete=KEEP_NONE)),
        ({"remove_on_fail": False}, JobOptions(remove_on_fail=KEEP_ALL)),
        ({"remove_on_fail": 7}, JobOptions(remove_on_fail=Keep(count=7))),
        ({"job_id": "007"}, JobOptions(job_id="007")),
        ({"job_id": "photo-ä"}, JobOptions(job_id="photo-ä")),
        ({"timeout": timedelta(seconds=1.5)}, JobOptions(timeout=1.5)),
    ],
    ids=str,
)
def test_accepted(given: dict[str, Any], wanted: JobOptions) -> None:
    """Each option has a short form and a full one."""
    assert checked(**given) == wanted


def test_none_means_not_given() -> None:
    """Callers pass on options of their own that may not be set."""
    names = ["delay", "priority", "attempts", "backoff", "lifo", "job_id", "timeout", "parent"]
    assert checked(**dict.fromkeys([*names, "deduplication", "size_limit"])) == JobOptions()


def test_an_unknown_option_is_named_with_those_there_are() -> None:
    """A misspelt option must not be dropped silently."""
    with pytest.raises(UsageError, match=r"'prio'.*priority"):
        checked(prio=1)


def test_relations_are_stored_by_their_wire_names() -> None:
    """The rest of sandboxq passes them on as they are."""
    dedup = Deduplication("d", ttl=timedelta(seconds=5), extend=True)
    assert checked(deduplication=dedup).extra == {"de": {"id": "d", "ttl": 5000, "extend": True}}
    assert checked(parent=Parent("1", "q", "remove")).extra == {
        "parent": {"id": "1", "queue": "bull:q"},
        "rdof": True,
    }


def test_deduplication_and_parent_exclude_each_other() -> None:
    """Node refuses it, too: a dropped child would leave its parent waiting."""
    with pytest.raises(UsageError, match="together"):
        checked(deduplication=Deduplication("d"), parent=PARENT)


@pytest.mark.parametrize("name", ["", None, 5, "\ud800"], ids=repr)
def test_job_names(name: Any) -> None:
    """A job without a name is a ghost to every worker."""
    with pytest.raises(UsageError, match="name"):
        checked_name(name)


def test_size_is_counted_in_bytes() -> None:
    """Two characters may be five bytes, and it is bytes that fill Redis."""
    checked_size("aé☃", "n", 6)
    with pytest.raises(UsageError, match="job n exceeds the limit 5 bytes"):
        checked_size("aé☃", "n", 5)
