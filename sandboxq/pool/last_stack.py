"""Where a job was when it was ended: its stack, taken before the kill and kept with the failure.

ask ──STACKS_SIGNAL──► the handler writes to the child's StackPage ──► add_to(error)

Nothing waits for it: the kill comes when it is due, and takes what is there by then. A child whose
handler does not run, or that is no process, has no last stack; the code of event loops is the
thread's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.child.stacks import STACKS_SIGNAL
from sandboxq.pool.stacks import without_ours
from sandboxq.sandbox.processes import is_caught

if TYPE_CHECKING:
    from sandboxq.errors import ChildError
    from sandboxq.pool.children.child import Child

# Under which the failure keeps it, as ``sq:last_stack``.
FACT = "last_stack"
# Seconds that a kill which is due at once leaves the handler: some 0.1 ms on a free core.
TAKING_SECONDS = 0.01
# Characters that are kept.
_MOST_TEXT = 8192


def ask(child: Child) -> bool:
    """Have a child write its stack, if it can; False: none will come."""
    own = child.own_stack()
    if own or child.page.fd < 0 or child.page.turn.locked():  # who reads it has it written
        return bool(own)
    if not is_caught(child.pid, STACKS_SIGNAL):
        return False  # the signal would end it: it has replaced its program
    child.page.restart()
    child.signal(STACKS_SIGNAL)
    return True


def add_to(error: ChildError, child: Child) -> None:
    """Put what the child has written into the facts of the error for which it is ended."""
    text = child.own_stack()
    if not text and child.page.fd >= 0 and child.page.size():
        text = child.page.text()
    put(error, without_ours(text))


def put(error: ChildError, stack: str) -> None:
    """Keep a stack with an error, unless there is none, or one already."""
    facts = error.facts or {}
    if stack and FACT not in facts:
        error.facts = {**facts, FACT: stack[:_MOST_TEXT]}
