"""How many calls to hold ahead of the children, from measured run times: pure."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

# Above this a second call in the socket buys nothing (execution-layer.md B), and would wait.
SHORT = 0.0005
# What is sent ahead lasts a child about this part of the time for which work is kept ready: with
# 4 ms several wake-ups of the coordinator.
_SENT = 0.5
_DEEPEST = 32
# A round trip to Redis is hidden by one more call per slot; of longer jobs it is not worth a lock.
_WORTH_A_RESERVE = 0.05
# Jobs of microseconds: four batches are enough for the time that Redis takes to settle a batch and
# claim the next.
_LARGEST_RESERVE = 400
# Jobs of which so many are sent ahead are so short that a system call for each is what they cost:
# they share packets. More than this in one gives little, and a quarter of what is ahead flows best.
_PACKET = 8
# Calls that become the tasks of an event loop: as many as it has seats for, up to so many.
TASKS_PACKET = 16
# The newest run time's weight: a change of load is believed after about ten jobs.
_WEIGHT = 0.2
# Run times that differ by this part get nearly the same.
_SAME = 0.1


class Ahead(NamedTuple):
    """How much may be held beyond what the children run: so many calls, and work for so long.

    So much work is kept ready that Redis may take several milliseconds to settle a batch and claim
    the next while the children go on.
    """

    calls: int = 2500
    seconds: float = 0.004


USUAL = Ahead()


def average_with(average: float | None, seconds: float, *, count: int = 1) -> float:
    """Return the running average of run times with ``count`` more in it that took so long each."""
    if average is None:
        return seconds
    return seconds + (average - seconds) * (1 - _WEIGHT) ** count


def depth(average: float | None, ahead: Ahead = USUAL) -> int:
    """Return how many calls a child may hold for each that it runs: 1 unless jobs are short."""
    seconds = ahead.seconds * _SENT
    if average is None or average > SHORT or average > seconds:
        return 1
    if average * _DEEPEST <= seconds:
        return _DEEPEST
    return max(2, int(seconds / average))


def packet(average: float | None) -> int:
    """Return how many calls go into one packet: 1 unless jobs take microseconds."""
    return _PACKET if depth(average) == _DEEPEST else 1


def reserve(average: float | None, slots: int, ahead: Ahead = USUAL) -> int:
    """Return how many calls may wait in the coordinator, so that a free child finds one there."""
    if average is None or average > _WORTH_A_RESERVE or not ahead.seconds:
        return 0
    if average * _LARGEST_RESERVE <= slots * ahead.seconds:
        return max(slots, _LARGEST_RESERVE)
    return max(slots, int(slots * ahead.seconds / average))


def same_between(average: float | None, slots: int, ahead: Ahead = USUAL) -> tuple[float, float]:
    """Return between which run times all of these stay as good as the same."""
    shortest = min(ahead.seconds * _SENT / _DEEPEST, slots * ahead.seconds / _LARGEST_RESERVE)
    if average is None:
        return inf, 0.0
    if average <= shortest:
        return 0.0, shortest
    if average > _WORTH_A_RESERVE:
        return _WORTH_A_RESERVE, inf
    return average * (1 - _SAME), average * (1 + _SAME)
