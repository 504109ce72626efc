"""Replaces children that have done enough, hold too much memory or are too old, one at a time.

Two ways to leave. A child that is *due* works on until its successor is ready. A child that has
been given as many calls as it may have is *spent*: it gets no more, a successor is started at once,
and it leaves with its last answer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandboxq.errors import UsageError
from sandboxq.pool.watch.usage import resident_bytes

if TYPE_CHECKING:
    import asyncio

    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.supervisor import Supervisor

# How often memory and age are looked at.
_INTERVAL = 0.25
# Children of one start must not all leave at the same time: each is due after this share of its
# jobs or its age.
_SOONEST, _LATEST = 0.8, 0.95
_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a child is replaced; None: never for that reason.

    ``max_jobs`` is exact: no child ever runs more. ``max_rss`` is in bytes and ``max_age`` in
    seconds; both are looked at some times a second, and the job that runs is finished first.
    """

    max_jobs: int | None = None
    max_rss: int | None = None
    max_age: float | None = None


NO_RECYCLING = Recycling()


class Recycler:
    """Looks at the children of one pool."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, supervisor: Supervisor, limits: Recycling
    ) -> None:
        """Watch ``supervisor``; nothing happens before ``start``."""
        self._loop = loop
        self._supervisor = supervisor
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look at memory and age, if they are limited.

        Raises:
            UsageError: a child holds more than ``max_rss`` before its first job.
        """
        limit = self._limits.max_rss
        for child in self._supervisor.ready:
            held = resident_bytes(child.pid)
            if limit is not None and held >= limit:
                message = (
                    f"max_rss_per_child is {limit // _MB} MB, and a child holds {held // _MB} MB "
                    "before its first job: every job would have a child of its own. Allow more"
                )
                raise UsageError(message)
        if limit is not None or self._limits.max_age is not None:
            self._timer = self._loop.call_later(_INTERVAL, self._look)

    def stop(self) -> None:
        """Look no more; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def welcome(self, child: Child) -> None:
        """Choose when a new child will be due: at random, so that not all are at once."""
        share = random.uniform(_SOONEST, _LATEST)  # noqa: S311 - no secret
        if self._limits.max_jobs is not None:
            child.most_calls = self._limits.max_jobs
            child.due_calls = max(1, int(self._limits.max_jobs * share))
        if self._limits.max_age is not None:
            child.due_at = self._loop.time() + self._limits.max_age * share

    def answered(self, child: Child) -> None:
        """Replace a child that has done enough."""
        if child.answered >= child.most_calls:
            self._supervisor.dismiss(child, f"after {child.answered} jobs")
        elif child.answered >= child.due_calls:
            self._supervisor.replace(child, f"after {child.answered} jobs")

    def _look(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL, self._look)
        now = self._loop.time()
        for child in list(self._supervisor.ready):
            if now >= child.due_at:
                self._supervisor.replace(child, "for its age")
            elif child.answered and self._limits.max_rss is not None:
                held = resident_bytes(child.pid) - child.arena.resident()
                if held >= self._limits.max_rss:
                    self._supervisor.replace(child, f"for its memory, {held // _MB} MB")
