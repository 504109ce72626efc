"""Cron patterns, by examples checked with Node; tests/interop/test_cron.py has thousands."""

from __future__ import annotations

import datetime as dt

import pytest

from sandboxq.errors import UsageError
from sandboxq.schedule.cron import parse
from sandboxq.schedule.wall_clock import zone_named


def following(pattern: str, after: str, zone: str = "UTC", *, count: int = 1) -> list[str]:
    """Return the next times as ISO texts in the zone; ``after`` is one too."""
    place = zone_named(zone)
    at = round(dt.datetime.fromisoformat(after).timestamp() * 1000)
    found = []
    for _ in range(count):
        next_ms = parse(pattern).next_ms(at, place)
        assert next_ms is not None
        at = next_ms
        found.append(dt.datetime.fromtimestamp(at / 1000, place).isoformat())
    return found


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("0 0 3 * * *", "2026-05-02T03:00:00+00:00"),
        ("30 4 * * *", "2026-05-02T04:30:00+00:00"),
        ("*/10 * * * * *", "2026-05-01T12:00:10+00:00"),
        ("0 0 0 L * *", "2026-05-31T00:00:00+00:00"),
        ("0 0 0 * * 5L", "2026-05-29T00:00:00+00:00"),
        ("0 0 0 * * 1#2", "2026-05-11T00:00:00+00:00"),
        ("0 0 0 ? * SUN", "2026-05-03T00:00:00+00:00"),
        ("0 0 0 13 * 5", "2026-05-08T00:00:00+00:00"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00+00:00"),
        ("0 0 0 1 jan-mar/2 *", "2027-01-01T00:00:00+00:00"),
        ("@weekly", "2026-05-03T00:00:00+00:00"),
    ],
)
def test_the_next_time(pattern: str, expected: str) -> None:
    """The dialect: seconds first, names, L, #, and days that are either."""
    assert following(pattern, "2026-05-01T12:00:00+00:00") == [expected]


def test_a_skipped_time_comes_later_and_a_repeated_one_once() -> None:
    """Twice a year, a nightly job must neither be lost nor run twice."""
    spring = following("0 30 2 * * *", "2026-03-28T12:00+01:00", "Europe/Berlin", count=2)
    autumn = following("0 30 2 * * *", "2026-10-24T12:00+02:00", "Europe/Berlin", count=2)

    assert spring == ["2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"]
    assert autumn == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]


def test_every_hour_follows_real_time() -> None:
    """A job that runs every hour runs in both of the two hours that have one name."""
    autumn = following("0 0 * * * *", "2026-10-25T01:30+02:00", "Europe/Berlin", count=3)

    assert [each[11:] for each in autumn] == ["02:00:00+02:00", "02:00:00+01:00", "03:00:00+01:00"]


def test_clocks_that_go_back_by_half_an_hour() -> None:
    """Node finds no next time here at all, which would end a daily schedule for good."""
    assert following("0 30 9 * * *", "2026-04-04T09:30+11:00", "Australia/Lord_Howe") == [
        "2026-04-05T09:30:00+10:30"
    ]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "fields"),
        ("* * * * * * *", "fields"),
        ("@never", "L|not allowed here|day of week"),
        ("60 * * * * *", "second '60'"),
        ("* * 24 * * *", "hour '24'"),
        ("0 0 0 32 * *", "day of month"),
        ("0 0 0 30 2 *", "at most 29 days"),
        ("0 0 0 * 13 *", "month"),
        ("0 0 0 * * 8", "day of week"),
        ("0 0 0 * * L", "5L"),
        ("0 0 0 * * 1#6", "1 to 5"),
        ("0 0 0 * * 1,2#1", "no list"),
        ("0 0 0 * * FOO", "FOO"),
        ("5-1 * * * * *", "ascend"),
        ("*/0 * * * * *", "step"),
        ("1,1 * * * * *", "twice"),
        ("0 0 0 15W * *", "not allowed here"),
    ],
)
def test_what_is_refused(pattern: str, said: str) -> None:
    """Said with the field's name, as the pattern is all that its author sees."""
    with pytest.raises(UsageError, match=said):
        parse(pattern)


def test_a_pattern_that_never_comes() -> None:
    """The day is in none of its months: who makes a scheduler is told so."""
    with pytest.raises(UsageError, match="the month has at most 30 days"):
        parse("0 0 0 31 2,4 *")


def test_a_midnight_that_clocks_jump_over() -> None:
    """The day begins at one o'clock then, and what runs daily runs: as cron-parser 5.10.6 does."""
    zone = zone_named("America/Havana")
    before = dt.datetime(2026, 3, 7, 12, tzinfo=zone)
    found = parse("@daily").next_ms(round(before.timestamp() * 1000), zone)
    assert found is not None
    assert dt.datetime.fromtimestamp(found / 1000, zone).isoformat() == "2026-03-08T01:00:00-04:00"


def test_a_seed_spreads_evenly() -> None:
    """`H` is there so that a thousand schedulers do not run in the same minute."""
    minutes = {parse("H * * * *", seed=f"s{number}").minutes for number in range(1000)}

    assert len(minutes) == 60
    assert parse("H * * * *", seed="a") == parse("H * * * *", seed="a")


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "Europe", "UTC+99"])
def test_unknown_zones(name: str) -> None:
    """A zone that one machine takes for UTC would move jobs by hours."""
    with pytest.raises(UsageError, match="time zone"):
        zone_named(name)


def test_zones_that_node_takes() -> None:
    """Records written by Node name zones in these ways."""
    now = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)
    offsets = {"utc": 0, "GMT": 0, "UTC-5:30": -5.5, "UTC+3": 3, "europe/berlin": 2}

    for name, hours in offsets.items():
        assert zone_named(name).utcoffset(now) == dt.timedelta(hours=hours), name


def test_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a zone Node takes that of the process."""
    zone_named.cache_clear()
    monkeypatch.setenv("TZ", "Asia/Kathmandu")

    local = zone_named("")

    zone_named.cache_clear()
    assert local.utcoffset(dt.datetime(2026, 7, 1, tzinfo=dt.UTC)) == dt.timedelta(minutes=345)
