"""What belongs to the whole process and outlives a job: looked at after jobs, and put back.

    zygote: remember, after the import ──fork──► child without setup(): reads again what its birth
                                                 and the user's hooks of fork change
    any other child, after its setup() ──► reads all

Read in some microseconds all together; each knows how it is put back, or that it cannot be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.child.interpreter_state import interpreter_states, names_state
from sandboxq.child.kernel_state import kernel_states, limit_states

if TYPE_CHECKING:
    from sandboxq.child.state import State


class States(NamedTuple):
    """What is looked at after each job, and after one that has set limits."""

    always: list[State]
    limits: list[State]


_of_zygote: list[States] = []


def states_now() -> States:
    """Return everything as it is now."""
    return States([names_state(), *kernel_states(), *interpreter_states()], limit_states())


def remember() -> None:
    """Keep, in a zygote with the processor imported, how everything is: children inherit it."""
    _of_zygote[:] = [states_now()]


def states_as_forked() -> States:
    """Return everything as it is now, in a child that has run no code of the user's yet."""
    if not _of_zygote:
        return states_now()
    for states in _of_zygote[0]:
        for state in states:
            if state.is_own:
                state.note()
    return _of_zygote[0]
