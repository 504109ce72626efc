"""The states of a child, and the ways from one to the next."""

from __future__ import annotations

import enum


class ChildState(enum.Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    DEAD = "dead"


TRANSITIONS: dict[ChildState, frozenset[ChildState]] = {
    ChildState.STARTING: frozenset({ChildState.READY, ChildState.LEAVING, ChildState.DEAD}),
    ChildState.READY: frozenset({ChildState.LEAVING, ChildState.DEAD}),
    ChildState.LEAVING: frozenset({ChildState.DEAD}),
    ChildState.DEAD: frozenset(),
}
