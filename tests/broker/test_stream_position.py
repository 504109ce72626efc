"""Where a reader of events is, and what it honestly must say it missed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxq.broker.commands.events import look_at_events
from sandboxq.broker.connect.stream_position import (
    Look,
    Missed,
    StreamPosition,
    id_from_text,
    text_from_id,
)
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from tests.broker.case import Case

NOTHING = Look(0, None, (0, 0), 0)


def look(first: int, last: int, *, is_counted: bool = True) -> Look:
    """Return what is seen of a stream whose entries are 1, 2, 3 …, those before first trimmed."""
    length = last - first + 1
    return Look(length, (first, 0) if length else None, (last, 0), last if is_counted else None)


def test_ids_there_and_back() -> None:
    """Text ids do not sort as numbers do, so they are compared as pairs."""
    assert id_from_text("99-12") < id_from_text("100-2") == (100, 2)
    assert text_from_id(id_from_text("7")) == "7-0"
    for wrong in ("", "$", "-1", "5-", "5-x", "٣-1", "1-2-3"):
        with pytest.raises(UsageError, match="no id of a stream"):
            id_from_text(wrong)


@given(steps=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.booleans()), max_size=40))
@settings(max_examples=300)
def test_every_entry_is_read_or_counted_as_missed(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is trimmed between reads, what was read and missed is all there ever was."""
    last, first = 0, 1
    place = StreamPosition.after("$", NOTHING)
    read = missed_count = 0
    for added, trimmed, reads in steps:
        last += added
        first = min(first + trimmed, last + 1)
        if reads:
            missed = place.missed(look(first, last))
            missed_count += 0 if missed is None else missed.count or 0
            new = list(range(max(first, place.id[0] + 1), last + 1))
            place.advance([(each, 0) for each in new])
            read += len(new)
    missed = place.missed(look(first, last))
    missed_count += 0 if missed is None else missed.count or 0
    assert read + missed_count + max(0, last - max(place.id[0], first - 1)) == last


def test_a_place_that_was_resumed_says_that_it_does_not_know_how_many() -> None:
    """Nobody can tell which number an old id had once it was trimmed."""
    assert StreamPosition.after("5", look(4, 9)).missed(look(4, 9)) is None
    assert StreamPosition.after("5", look(5, 9)).missed(look(5, 9)) is None
    assert StreamPosition.after("5", look(8, 9)).missed(look(8, 9)) == Missed(None)
    assert StreamPosition.after("5", look(6, 5)).missed(look(6, 5)) is None


def test_from_the_beginning_means_from_what_is_there() -> None:
    """Who asks for all that is there did not miss what was trimmed long ago."""
    place = StreamPosition.after("0", look(8, 9))
    assert place.missed(look(8, 9)) is None
    place.advance([(8, 0), (9, 0)])
    assert place.missed(look(20, 21)) == Missed(10)


def test_servers_that_do_not_count() -> None:
    """Redis 6.2: a trimmed place may mean a loss, and that is what is said."""
    place = StreamPosition.after("$", look(1, 5, is_counted=False))
    assert place.missed(look(1, 9, is_counted=False)) is None
    assert place.missed(look(7, 9, is_counted=False)) == Missed(None)
    assert StreamPosition.after("0", look(7, 9, is_counted=False)).missed(look(7, 9)) is None


def test_another_stream_under_the_same_name() -> None:
    """After obliterate, or a failover that lost its end, an old id must not deafen the reader."""
    place = StreamPosition.after("$", look(1, 50))
    assert place.missed(NOTHING) == Missed(None)
    assert place.id == (0, 0)
    assert place.missed(look(1, 2)) is None

    place = StreamPosition.after("$", look(1, 50))
    assert place.missed(look(1, 40)) == Missed(None)
    assert place.id == (40, 0)
    assert place.missed(look(1, 40)) is None

    place = StreamPosition.after("$", look(1, 5))
    newer = Look(9, (101, 0), (109, 0), 9)
    assert place.missed(newer) == Missed(None)
    assert place.missed(newer) is None


def test_what_the_server_says_of_a_stream(case: Case) -> None:
    """Both kinds of server count the entries of a stream, also those that are gone."""
    key = case.keys["events"]
    assert case.run(lambda broker: look_at_events(broker, case.keys)) == NOTHING
    now = int(time.time() * 1000)
    for number in range(5):
        case.redis.xadd(key, {"event": "e", "x": "y" * 1000}, id=f"{now}-{number}")
    case.redis.xtrim(key, maxlen=2, approximate=False)

    seen = case.run(lambda broker: look_at_events(broker, case.keys))

    assert seen == Look(2, (now, 3), (now, 4), 5)
    assert seen.trimmed == 3
    case.redis.xtrim(key, maxlen=0, approximate=False)
    assert case.run(lambda broker: look_at_events(broker, case.keys)) == Look(0, None, (now, 4), 5)
