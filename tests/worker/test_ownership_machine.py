"""What a worker has claimed, under everything that happens to it at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sandboxq import Queue, Worker
from sandboxq.broker.connect.broker import Broker
from sandboxq.model.event_loop import loop_class
from tests.broker.servers import StoppableServer
from tests.worker.ownership_machine import PROCESSOR, OwnershipMachine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What happens depends on the moment: a shorter example would hardly show it again.
LIMITS = settings(
    deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None
)


@pytest.fixture
def machine(tmp_path: Path, queue_name: str) -> Iterator[type[OwnershipMachine]]:
    """Return the machine, with a worker on a server whose data survives it."""
    loop = loop_class()()
    with StoppableServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        members = loop.run_until_complete(_started(server, queue_name))
        yield type(
            "Machine",
            (OwnershipMachine,),
            {**members, "loop": loop, "server": server, "directory": tmp_path},
        )
        loop.run_until_complete(_ended(**members))
    loop.close()


async def _started(server: StoppableServer, queue_name: str) -> dict[str, Any]:
    options: dict[str, Any] = {"lock_duration": 4, "stalled_interval": 1, "drain_delay": 1}
    worker = Worker(queue_name, PROCESSOR, url=server.url, procs=2, **options)
    await worker.start()
    await worker.broker.command("LPUSH", worker.keys["de:list"], "no string")
    return {
        "broker": await Broker.connect(server.url),
        "queue": Queue(queue_name, url=server.url),
        "worker": worker,
        "running": asyncio.create_task(worker.run()),
    }


async def _ended(broker: Broker, queue: Queue, worker: Worker, running: asyncio.Task[None]) -> None:
    worker.stop()
    worker.stop()
    await running
    for part in (worker, queue, broker):
        await part.close()


@pytest.mark.timeout(600)
def test_what_is_claimed_ends_once(
    machine: type[OwnershipMachine], caplog: pytest.LogCaptureFixture
) -> None:
    """Unreadable rows, dead connections, restarts, stolen locks, pauses, in any order."""
    limits = settings(LIMITS, max_examples=16, stateful_step_count=12, derandomize=True)
    run_state_machine_as_test(machine, settings=limits)
    assert "crashed" not in caplog.text


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_claimed_ends_once_for_long(machine: type[OwnershipMachine]) -> None:
    """The same with other steps in each run."""
    limits = settings(LIMITS, max_examples=500, stateful_step_count=20)
    run_state_machine_as_test(machine, settings=limits)
