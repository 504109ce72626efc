"""The waiting loop by itself: its delays, its relapses, its failures."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.broker.connect.recovery import (
    LONGEST_DELAY,
    SHORTEST_DELAY,
    Recovery,
    delay_before_try,
)
from sandboxq.errors import BrokerUnavailable
from sandboxq.observe.telemetry import (
    BrokerBack,
    BrokerLost,
    Event,
    Telemetry,
)
from tests.conftest import run_async


@given(st.integers(min_value=1, max_value=10**9))
def test_delays_are_never_nothing_and_never_long(tries: int) -> None:
    """Full jitter spreads a fleet; its bounds keep each member calm and prompt."""
    assert SHORTEST_DELAY <= delay_before_try(tries) <= LONGEST_DELAY


def test_delays_double_up_to_the_longest() -> None:
    """The upper bounds are what the interface promises: 0.05 s doubling to 2 s."""
    bounds = [delay_before_try(tries, uniform=lambda _, longest: longest) for tries in range(9)]

    assert bounds == [0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_single_broken_connection_costs_no_delay_and_no_words() -> None:
    """A dropped connection is not an outage when Redis answers at once."""
    told: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(told.append)

    async def probe() -> None:
        return

    run_async(Recovery(probe).wait(telemetry))

    assert told == []


def test_a_server_that_answers_and_refuses_the_work_is_slowed_down_for_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read-only replica answers PING; callers that fail and wait in turn must not spin.

    It is said once, and back it is when the work succeeds, not when PING does.
    """
    monkeypatch.setattr("sandboxq.broker.connect.recovery.RELAPSE_SECONDS", 0.5)
    told: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(told.append)

    async def probe() -> None:
        return

    async def main() -> int:
        recovery = Recovery(probe)
        rounds = 0
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            await recovery.wait(telemetry)
            rounds += 1
        assert [type(event) for event in told] == [BrokerLost]
        await asyncio.sleep(0.6)
        return rounds

    assert run_async(main()) < 30
    assert [type(event) for event in told] == [BrokerLost, BrokerBack]


def test_a_listener_that_comes_late_is_told_too() -> None:
    """Services notice an outage one after the other; each telemetry hears of it once."""
    told: list[tuple[str, Event]] = []
    first, second = Telemetry(), Telemetry()
    first.subscribe(lambda event: told.append(("first", event)))
    second.subscribe(lambda event: told.append(("second", event)))
    is_away = True

    async def probe() -> None:
        if is_away:
            message = "away"
            raise BrokerUnavailable(message)

    async def main() -> None:
        nonlocal is_away
        recovery = Recovery(probe)
        waiting = [asyncio.create_task(recovery.wait(first))]
        await asyncio.sleep(0.02)
        waiting += [asyncio.create_task(recovery.wait(t)) for t in (second, first, None)]
        await asyncio.sleep(0.02)
        is_away = False
        await asyncio.gather(*waiting)

    run_async(main())

    assert [(who, type(event)) for who, event in told] == [
        ("first", BrokerLost),
        ("second", BrokerLost),
        ("first", BrokerBack),
        ("second", BrokerBack),
    ]


def test_a_bug_in_the_probe_reaches_those_who_wait() -> None:
    """The worst outcome of a bug here is a worker that waits for ever and says nothing."""

    async def probe() -> None:
        message = "bug"
        raise ZeroDivisionError(message)

    with pytest.raises(ZeroDivisionError):
        run_async(Recovery(probe).wait())
