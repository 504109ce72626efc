"""What all parts of a pool share: its calls and its children, and the ways to end them.

Inbound messages (inbound.py), watches (watch/) and blame.py decide; this module acts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from sandboxq.model.outcome import Completed, HandedBack
from sandboxq.pool.breach import error_from_breach
from sandboxq.pool.calls import Calls
from sandboxq.pool.outcomes import failure_from_ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.errors import ChildError
    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.breach import Breach
    from sandboxq.pool.calls import Call, PoolListener
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.circuit import Circuit
    from sandboxq.pool.children.supervisor import Supervisor
    from sandboxq.pool.options import PoolOptions
    from sandboxq.pool.placement import Placement
    from sandboxq.pool.watch.recycler import Recycler

_log = logging.getLogger("sandboxq.pool")


class TakesProfiles(Protocol):
    """What is told the samples of a job (profiles.py)."""

    def take(self, child: Child, seq: int, payload: bytes) -> None:
        """Take what a child has sampled of one call."""


class PoolCore:
    """The part of a pool that its other parts know."""

    placement: Placement
    circuit: Circuit
    recycler: Recycler
    profiles: TakesProfiles

    def __init__(self, terms: PoolOptions, listener: PoolListener) -> None:
        """Begin without calls and children; ``listener`` is told the outcomes."""
        self._terms = terms
        self._listener = listener
        self._supervisor: Supervisor | None = None
        self.max_result = terms.max_result
        self.calls = Calls()
        self.is_ending = False
        # Told of each end, with the child, while somebody watches (worker/task_stream.py).
        self.on_end: Callable[[Child, Call, Outcome, float], None] | None = None

    @property
    def supervisor(self) -> Supervisor:
        """The children; only after ``start``."""
        assert self._supervisor is not None, "the pool was not started"  # noqa: S101 - a caller's slip
        return self._supervisor

    def tell(self, call: Call, outcome: Outcome, seconds: float = 0.0) -> None:
        """Tell the listener the end of a call."""
        if call.ending is not None and not isinstance(outcome, Completed):
            outcome = failure_from_ending(call.ending, outcome)
        self._listener.on_outcome(call, outcome, seconds)

    def unsend(self, child: Child) -> None:
        """Take back what a child has not read; at the end it goes to the worker at once."""
        self.placement.unsend(child)
        if self.is_ending:
            for call in self.placement.empty():
                self.tell(call, HandedBack())

    def kill_child(self, child: Child, error: ChildError, victim: Call | None = None) -> None:
        """Kill a child for ``error``, which is about ``victim`` if about one call."""
        if child.kill_reason is None:
            child.kill_reason, child.victim = error, victim
        if child in self.supervisor.ready:
            self.unsend(child)
        self.supervisor.leave(child)
        child.kill()

    def end_breach(self, child: Child, breach: Breach) -> None:
        """Kill a child that broke the protocol."""
        child.is_ignored = True
        if child.kill_reason is not None:
            return
        error = error_from_breach(breach, child.pid, is_strict=self._terms.is_strict)
        victim = child.running_call() or child.call_on_loop()
        if victim is None:
            _log.error("%s", error)
        self.kill_child(child, error, victim)
