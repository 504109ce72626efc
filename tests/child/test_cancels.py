"""The pipe that says which calls are to end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sandboxq.child.cancels import Cancels, ask, open_cancels

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[Cancels, int]]:
    """Yield the child's end and the descriptor of the other."""
    far, near = open_cancels()
    yield Cancels(far), near
    for fd in (far, near):
        os.close(fd)


def test_only_the_call_that_was_named_is_told(pipe: tuple[Cancels, int]) -> None:
    """A word that came too late for one call must not end the next."""
    cancels, near = pipe
    assert not cancels.tell(7)
    ask(near, 7)
    ask(near, 9)
    assert [cancels.tell(seq) for seq in (7, 8, 9)] == [True, False, True]
    assert cancels.tell(7)


def test_forgets_what_has_ended(pipe: tuple[Cancels, int]) -> None:
    """Only a call whose code was told has returned for that reason."""
    cancels, near = pipe
    ask(near, 7)
    assert not cancels.forget(7)
    ask(near, 8)
    assert cancels.tell(8)
    assert cancels.forget(8)
    assert not cancels.told


def test_a_fork_of_the_job_takes_nothing(pipe: tuple[Cancels, int]) -> None:
    """The word is for the job, not for whichever of its processes looks first."""
    cancels, near = pipe
    ask(near, 7)
    pid = os.fork()
    if pid == 0:
        os._exit(cancels.tell(7))
    assert os.waitpid(pid, 0)[1] == 0
    assert cancels.tell(7)


def test_a_full_pipe_blocks_nobody(pipe: tuple[Cancels, int]) -> None:
    """The coordinator has all locks to renew."""
    cancels, near = pipe
    for seq in range(10_000):
        ask(near, seq)
    assert cancels.tell(1)
