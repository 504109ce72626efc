"""Which kind of children a worker gets, and what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from sandboxq.errors import UsageError
from sandboxq.pool.kinds import Interpreter, Kind, Wanted, decide
from sandboxq.sandbox.environment import oversubscription
from sandboxq.sandbox.policy import Policy

_USUAL = Interpreter((3, 13), is_free_threaded=False, has_gil=True)
_FREE = Interpreter((3, 13), is_free_threaded=True, has_gil=False)
_FREE_WITH_GIL = Interpreter((3, 13), is_free_threaded=True, has_gil=True)
_NEW = Interpreter((3, 14), is_free_threaded=False, has_gil=True)
_NONE = Policy("none")


def _wanted(isolation: str, policy: Policy = _NONE, **more: Any) -> Wanted:
    return Wanted(isolation, **{"processor": "chores.py", "policy": policy, **more})


@pytest.mark.parametrize(
    ("wanted", "interpreter", "kind", "note"),
    [
        (_wanted("auto"), _USUAL, Kind.PROCESS, ""),
        (_wanted("auto"), _NEW, Kind.PROCESS, ""),
        (_wanted("auto"), _FREE, Kind.THREAD, "no GIL"),
        (_wanted("auto"), _FREE_WITH_GIL, Kind.PROCESS, "GIL on"),
        (_wanted("auto", Policy("limits")), _FREE, Kind.PROCESS, "'limits'"),
        (_wanted("auto", timeout=3.0), _FREE, Kind.PROCESS, "timeout"),
        (_wanted("auto", max_rss=1), _FREE, Kind.PROCESS, "max_rss"),
        (_wanted("auto", processor="sandboxq.functions"), _FREE, Kind.PROCESS, "secret"),
        (_wanted("process", Policy("strict")), _FREE, Kind.PROCESS, ""),
        (_wanted("thread"), _USUAL, Kind.THREAD, "only code that drops it"),
        (_wanted("thread"), _FREE, Kind.THREAD, ""),
        (_wanted("thread", timeout=3.0), _FREE, Kind.THREAD, "given up, not killed"),
        (_wanted("interpreter"), _NEW, Kind.INTERPRETER, "experimental"),
    ],
)
def test_the_kind_that_fits(
    wanted: Wanted, interpreter: Interpreter, kind: Kind, note: str
) -> None:
    """What cannot be killed has no limits; auto never weakens what was asked for, and says why."""
    choice = decide(wanted, interpreter)
    assert choice.kind is kind
    assert note in " ".join(choice.notes)
    assert bool(note) == bool(choice.notes)


@pytest.mark.parametrize(
    ("wanted", "interpreter", "text"),
    [
        (_wanted("thread", Policy("limits")), _FREE, "--policy none"),
        (_wanted("interpreter", Policy("strict")), _NEW, "--policy none"),
        (_wanted("thread", Policy("none", cpu_seconds=1)), _FREE, "cpu_seconds"),
        (_wanted("thread", max_rss=1), _FREE, "max_rss_per_child"),
        (_wanted("thread", processor="sandboxq.functions"), _FREE, "sandboxq.functions"),
        (_wanted("interpreter"), _USUAL, "3.14"),
        (_wanted("greenlet"), _USUAL, "auto, process, thread, interpreter"),
    ],
)
def test_what_cannot_be_is_refused(wanted: Wanted, interpreter: Interpreter, text: str) -> None:
    """With what to change."""
    with pytest.raises(UsageError, match=text):
        decide(wanted, interpreter)


def test_oversubscription_is_said() -> None:
    """More children than cores, or more threads in them; what divides the cores is fine."""
    assert oversubscription(2, 2, {}) == []
    assert oversubscription(2, 4, {"OMP_NUM_THREADS": "2"}) == []
    assert "more children (3) than cores (2)" in oversubscription(3, 2, {})[0]
    assert "OMP_NUM_THREADS=2 in 2 children" in oversubscription(2, 2, {"OMP_NUM_THREADS": "2"})[0]
