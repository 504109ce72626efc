"""Shares a machine among the workers of a group: who gets how many children, and which memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import UsageError
from sandboxq.model.validation import checked_whole, shown
from sandboxq.sandbox.support import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

# However much the others have been promised, a worker is given this part of its share of memory.
_LEAST_OF_MEMORY = 0.1
# More is a slip of the finger.
_MOST_WEIGHT = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker of a group is to get of the children: by weight, between ``min`` and ``max``.

    A worker whose ``procs`` is a number has that many, whatever its share says.
    Raises: UsageError.
    """

    weight: float = 1.0
    min: int = 1
    max: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be shared by."""
        _check_weight(self.weight)
        checked_whole("min", self.min, least=1)
        if self.max is not None:
            checked_whole("max", self.max, least=self.min, hint="; it must not be below min")

    @classmethod
    def fixed(cls, procs: int) -> Share:
        """Return the share of a worker that has so many children."""
        return cls(1.0, procs, procs)


def _check_weight(weight: object) -> None:
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 < weight <= _MOST_WEIGHT:  # type: ignore[operator]  # it is a number
        message = f"weight must be a number above 0, not {shown(weight)}"
        raise UsageError(message)


class Demand(NamedTuple):
    """What a worker's children are and need."""

    children: int
    memory: int | None  # bytes that each was promised; None: its part of what is left


def children_by_share(total: int, shares: Sequence[Share]) -> list[int]:
    """Return how many children each gets, ``total`` together if their bounds allow that.

    Each has its ``min``, even where that is more in all. The others go one by one to whoever has
    least for its weight (Sainte-Laguë), so that one child more in all takes none from anybody.
    """
    counts = [share.min for share in shares]
    limits = [math.inf if share.max is None else share.max for share in shares]
    for _ in range(total - sum(counts)):
        open_to = [index for index, limit in enumerate(limits) if counts[index] < limit]
        if not open_to:
            break
        poorest = min(open_to, key=lambda index: (counts[index] + 0.5) / shares[index].weight)
        counts[poorest] += 1
    return counts


def parts_of(machine: Part, demands: Sequence[Demand]) -> list[Part]:
    """Return the part of the machine that each worker's children share.

    What was promised is taken from the memory first; of the rest each child has the same.
    """
    everybody = max(1, sum(each.children for each in demands))
    promised = sum(each.children * each.memory for each in demands if each.memory)
    left = max(machine.memory - promised, int(machine.memory * _LEAST_OF_MEMORY))
    sharing = sum(each.children for each in demands if not each.memory)
    return [
        Part(
            max(1, machine.cores * each.children // everybody),
            machine.memory if each.memory else left * each.children // max(1, sharing),
        )
        for each in demands
    ]
