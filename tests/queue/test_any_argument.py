"""Whatever a caller says is refused in words, or is what a worker reads."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from sandboxq.broker.codec import options_from_wire, options_to_wire
from sandboxq.broker.connect.endpoint import endpoint_from_url
from sandboxq.broker.keys import QueueKeys
from sandboxq.config import RateLimit, WorkerSettings, settings_from_options
from sandboxq.errors import UsageError
from sandboxq.model.backoff import Backoff
from sandboxq.model.job import Deduplication, Keep, Parent
from sandboxq.model.validation import LONGEST_WAIT, MAX_SAFE_INTEGER
from sandboxq.queue.options import AddOptions, checked_options
from sandboxq.queue.schedulers import Repeat
from sandboxq.sandbox.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = st.one_of(
    st.integers(),
    st.integers(-2, 9),
    st.floats(),
    st.sampled_from([2**31, 2**53, 2**63, 10**25, 10**400, 1e16, 1e300, -0.0]),
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "\ud800", "a\nb", "my app", "wörker", "a:b", "a:b:c", "5", "nan"]),
)
PLAIN = st.one_of(
    NUMBERS,
    TEXTS,
    st.booleans(),
    st.none(),
    st.timedeltas(),
    st.just(b"x"),
    st.lists(st.integers(), max_size=2),
)
JUNK = st.one_of(
    PLAIN,
    st.builds(Keep, count=PLAIN, age=PLAIN, limit=PLAIN),
    st.builds(Backoff, kind=TEXTS, delay=PLAIN, jitter=PLAIN),
    st.builds(Parent, id=PLAIN, queue=PLAIN, on_failure=PLAIN),
    st.builds(Deduplication, id=PLAIN, ttl=PLAIN, extend=PLAIN),
    st.dictionaries(TEXTS, PLAIN, max_size=2),
)


def made(make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what is made, None for what is refused; anything else is an error of ours."""
    try:
        return make(*args, **options)
    except UsageError:
        return None


@given(st.dictionaries(st.sampled_from(sorted(AddOptions.__annotations__)), JUNK, max_size=4))
def test_options_of_a_job(given_options: dict[str, Any]) -> None:
    """What ``add`` takes comes back from the wire as it was, to the millisecond."""
    options = made(checked_options, given_options, prefix="bull")
    if options is None:
        return
    read = options_from_wire(options_to_wire(options).encode())
    for name, wanted in _rounded(dataclasses.asdict(options)).items():
        assert _rounded(dataclasses.asdict(read))[name] == wanted, name


def _rounded(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members as the wire has them: whole milliseconds, no relations."""
    for name in ("delay", "timeout"):
        members[name] = members[name] and round(members[name] * 1000)
    if members["backoff"]:
        members["backoff"]["delay"] = round(members["backoff"]["delay"] * 1000)
    keeps_all = {"count": None, "age": None, "limit": None}
    for name in ("remove_on_complete", "remove_on_fail"):
        members[name] = None if members[name] == keeps_all else members[name]
    members["timestamp_ms"] = members["timestamp_ms"] or None
    return members


@given(
    st.dictionaries(
        st.sampled_from(sorted(each.name for each in dataclasses.fields(WorkerSettings))),
        JUNK,
        max_size=3,
    )
)
def test_settings_of_a_worker(options: Any) -> None:
    """No setting that is taken is beyond what timers, Redis and connections can have."""
    settings: WorkerSettings | None = made(settings_from_options, options)
    if settings is None:
        return
    for name in ("lock_duration", "stalled_interval", "drain_delay", "shutdown_timeout"):
        assert 0 <= getattr(settings, name) <= LONGEST_WAIT
    assert 100 <= settings.lock_ms <= MAX_SAFE_INTEGER
    assert settings.name.isascii()
    assert " " not in settings.name
    for keep in (settings.remove_on_complete, settings.remove_on_fail):
        assert keep.age is None or math.isfinite(keep.age)


@given(st.data())
def test_what_callers_build(data: st.DataObject) -> None:
    """Limits, repeats, policies and keys are made of numbers that can be counted with."""
    limit = made(RateLimit, data.draw(JUNK), data.draw(JUNK))
    assert limit is None or 1 <= limit.duration_ms <= MAX_SAFE_INTEGER
    names = sorted(each.name for each in dataclasses.fields(Repeat))
    repeat = made(Repeat, **data.draw(st.dictionaries(st.sampled_from(names), JUNK, max_size=3)))
    if repeat is not None and repeat.every_ms is not None:
        assert 1 <= repeat.every_ms <= MAX_SAFE_INTEGER
    numbers = ("memory", "files", "file_size", "scratch", "processes", "cpu_seconds")
    made(Policy, **data.draw(st.dictionaries(st.sampled_from(numbers), JUNK, max_size=2)))
    keys = made(QueueKeys, data.draw(JUNK), data.draw(JUNK))
    if keys is not None:
        assert keys.client_name.isascii()
        assert keys["x"].encode().decode() == keys["x"]
    for make in (Backoff.fixed, Backoff.exponential):
        backoff = made(make, data.draw(JUNK), jitter=data.draw(JUNK))
        assert backoff is None or math.isfinite(backoff.delay)


@given(
    st.sampled_from(["socket_timeout", "socket_connect_timeout", "db", "x", "socket_keepalive"]),
    st.one_of(NUMBERS.map(str), st.just("nan"), st.just("-inf"), st.just("1e999")),
)
def test_what_a_url_says(name: str, value: str) -> None:
    """A timeout of nan never passes, and one of 0 always has."""
    endpoint = made(endpoint_from_url, f"redis://127.0.0.1?{name}={value}")
    if endpoint is not None:
        assert 0 < endpoint.answer_timeout <= LONGEST_WAIT
        assert 0 < endpoint.connect_timeout <= LONGEST_WAIT


def test_dates_beyond_the_calendar() -> None:
    """The first and the last date that Python has."""
    east, west = (dt.timezone(dt.timedelta(hours=hours)) for hours in (14, -14))
    for zone in (east, west, dt.UTC):
        made(Repeat, every=1, start_date=dt.datetime(1, 1, 1, tzinfo=zone))
        made(Repeat, every=1, end_date=dt.datetime(9999, 12, 31, 23, tzinfo=zone))
