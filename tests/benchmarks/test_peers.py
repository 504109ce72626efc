"""Peers are timed from outside: what is seen of a queue must be turned into a rate rightly."""

from __future__ import annotations

import time

import pytest

from benchmarks.peer_list import OURS, PEERS, Peer
from benchmarks.peer_runs import PROGRAMS, Seen, drain, watched


def test_a_drain_is_timed_from_the_first_job_that_left() -> None:
    """How long a worker takes to start is not part of its rate."""
    lengths = iter([10, 10, 10, 9, 9, 5, 0, 0])
    left = 10

    def shorter() -> int:
        nonlocal left
        left = next(lengths, 0)
        return left

    first, last = watched(shorter, lambda: Seen(time.monotonic(), left, 0.0, 0.0))

    assert (first.left, last.left) == (9, 0)
    assert last.at > first.at


def test_claimed_jobs_that_a_queue_no_longer_shows_do_not_count_as_done() -> None:
    """A peer that prefetches would else seem to have done at once all that it prefetched."""
    lengths = iter([10, 10, 8, 7, 6, 0])
    left = 10

    def shorter() -> int:
        nonlocal left
        left = next(lengths, 0)
        return left

    first, _ = watched(shorter, lambda: Seen(time.monotonic(), left, 0.0, 0.0), hidden=3)

    assert first.left == 6


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_peer_has_a_program(peer: Peer) -> None:
    """A missing file would be noticed only after minutes of other peers."""
    assert (PROGRAMS / peer.program[-1]).is_file()


def test_our_own_queue_is_drained_through_the_same_steps() -> None:
    """The whole way but the installation: program, worker, looks at the queue, rates."""
    ours = next(peer for peer in PEERS if peer.name == OURS)

    found = drain(ours, "noop", [{}] * 3_000)

    assert found["per_second"] > 0
    assert found["workers"] > 0
