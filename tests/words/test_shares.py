"""Sharing children and memory among the workers of a group: pure decisions."""

from __future__ import annotations

import random

import pytest

from sandboxq import Share, UsageError
from sandboxq.sandbox.support import Part
from sandboxq.worker.group import Demand, children_by_share, parts_of


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (8, [Share(3), Share(1)], [6, 2]),
        (4, [Share(), Share(), Share()], [2, 1, 1]),
        (2, [Share(), Share(), Share()], [1, 1, 1]),  # each has one, however few cores there are
        (16, [Share(1, 1, 2), Share(4)], [2, 14]),
        (8, [Share(1, min=5), Share(100)], [5, 3]),
        (8, [Share.fixed(3), Share(), Share()], [3, 3, 2]),
        (8, [Share(max=2), Share(max=3)], [2, 3]),
    ],
)
def test_children_by_weight(total: int, shares: list[Share], counts: list[int]) -> None:
    """Weights decide, between least and most."""
    assert children_by_share(total, shares) == counts


def test_the_machine_is_asked_for_once() -> None:
    """Of whatever queues: no more children than there are places, bounds kept, no place empty."""
    draw = random.Random(13)
    for _ in range(300):
        shares = [
            Share(draw.choice([0.5, 1, 3]), draw.randint(1, 3), draw.choice([None, 3, 9]))
            for _ in range(draw.randint(1, 6))
        ]
        total = draw.randint(1, 40)
        counts = children_by_share(total, shares)
        for count, share in zip(counts, shares, strict=True):
            assert share.min <= count <= (share.max or total + 3)
        least, most = sum(each.min for each in shares), sum(each.max or total for each in shares)
        assert sum(counts) == max(least, min(total, most))


def test_one_child_more_takes_none_from_anybody() -> None:
    """A machine that grows, or ``scale``, makes nobody poorer."""
    shares = [Share(5), Share(3), Share(1, 1, 4)]
    former = children_by_share(3, shares)
    for total in range(4, 60):
        counts = children_by_share(total, shares)
        assert all(now >= before for now, before in zip(counts, former, strict=True))
        former = counts


def test_memory_is_promised_once() -> None:
    """What was promised to some is not shared by the others; each of them has the same."""
    giga = 1 << 30
    demands = [Demand(2, giga), Demand(3, None), Demand(1, None)]
    parts = parts_of(Part(6, 10 * giga), demands)
    assert [each.cores for each in parts] == [2, 3, 1]
    assert parts[1].memory == 3 * parts[2].memory == 6 * giga


def test_memory_is_never_nothing() -> None:
    """More was promised than there is: the others can still start."""
    parts = parts_of(Part(2, 1000), [Demand(4, 1000), Demand(1, None)])
    assert parts[1].memory == 100


@pytest.mark.parametrize(
    "wrong", [{"weight": 0}, {"weight": True}, {"weight": "2"}, {"min": 0}, {"min": 3, "max": 2}]
)
def test_nonsense_is_refused(wrong: dict[str, int]) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError):
        Share(**wrong)
