"""What all parts of one worker share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.config import WorkerSettings
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.worker.held_jobs import HeldJobs


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """One queue on one broker, the settings, and the jobs whose locks are held."""

    broker: Broker
    keys: QueueKeys
    settings: WorkerSettings
    held: HeldJobs
    telemetry: Telemetry
