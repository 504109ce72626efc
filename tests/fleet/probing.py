"""Asks the probes of a fleet all the time, and notes what they must not say."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fleet.coordinator import Coordinator

# Seconds from SIGTERM until /readyz must not say 200 any more, on a machine that others use too.
_GRACE = 5.0
_PAUSE = 0.1
# Redis may take longer than the second that /readyz gives it, on such a machine, now and then.
_MOST_UNREADY = 4


class Prober:
    """A thread that asks each coordinator in turn."""

    def __init__(self) -> None:
        """Begin; nobody is asked yet."""
        self._coordinators: list[Coordinator] = []
        self._unready: dict[Coordinator, int] = {}  # times in a row
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.asked = 0
        self.found: list[str] = []
        self._thread.start()

    def watch(self, coordinator: Coordinator) -> None:
        """Ask one that is ready, until it has ended."""
        self._coordinators.append(coordinator)

    def close(self) -> None:
        """Ask no more."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        told: dict[Coordinator, float] = {}
        while not self._is_over.wait(_PAUSE):
            for coordinator in list(self._coordinators):
                if coordinator.is_told_to_stop:
                    told.setdefault(coordinator, time.monotonic())
                if coordinator.process.poll() is None:
                    self._ask(coordinator, told.get(coordinator))

    def _ask(self, coordinator: Coordinator, told_at: float | None) -> None:
        """Ask both; after SIGTERM nobody may listen any more, and it is not ready for jobs."""
        is_leaving = told_at is not None
        live, ready = coordinator.probe("/livez"), coordinator.probe("/readyz")
        self.asked += 2
        if coordinator.is_told_to_stop != is_leaving or coordinator.process.poll() is not None:
            return  # it was told meanwhile: either answer may be
        pid = coordinator.process.pid
        if live != 200 and not (is_leaving and live is None):
            self.found.append(f"/livez of {pid} said {live} while it ran")
        unready = 0 if ready == 200 else self._unready.get(coordinator, 0) + 1
        self._unready[coordinator] = unready
        if not is_leaving and unready == _MOST_UNREADY:
            self.found.append(f"/readyz of {pid} said {ready} while it took jobs")
        if told_at is not None and ready == 200 and time.monotonic() - told_at > _GRACE:
            self.found.append(f"/readyz of {pid} said 200 long after SIGTERM")
