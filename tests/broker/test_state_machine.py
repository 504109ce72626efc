"""Random operations on a real queue, and the same on a model of it: after each, both must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sandboxq.broker.connect.broker import Broker
from sandboxq.model.event_loop import loop_class
from tests.broker.family_machine import FamilyMachine
from tests.broker.machine_operators import OperatedQueueMachine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["server_url", "redis_url"], ids=["valkey", "redis"])
def on_server(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Yield loop and broker for each kind of server."""
    loop = loop_class()()
    broker = loop.run_until_complete(Broker.connect(request.getfixturevalue(request.param)))
    yield {"loop": loop, "broker": broker}
    loop.run_until_complete(broker.close())
    loop.close()


@pytest.fixture
def machine(on_server: dict[str, Any]) -> type[OperatedQueueMachine]:
    """Return the machine of producers, workers and operators."""
    return type("Machine", (OperatedQueueMachine,), on_server)


@pytest.fixture
def family(on_server: dict[str, Any]) -> type[FamilyMachine]:
    """Return the machine of parents and children."""
    return type("Family", (FamilyMachine,), on_server)


ALL = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.mark.timeout(300)  # thousands of round trips, on a machine that may be busy
def test_a_queue_behaves_as_its_model(machine: type[OperatedQueueMachine]) -> None:
    """Whatever is done to a queue, in whatever order, it is where the rules say."""
    run_state_machine_as_test(
        machine, settings=settings(ALL, max_examples=30, stateful_step_count=60, derandomize=True)
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_queue_behaves_as_its_model_for_long(machine: type[OperatedQueueMachine]) -> None:
    """The same for tens of thousands of steps, others in each run."""
    run_state_machine_as_test(
        machine, settings=settings(ALL, max_examples=500, stateful_step_count=100)
    )


@pytest.mark.timeout(300)
def test_families_behave_as_their_model(family: type[FamilyMachine]) -> None:
    """Whatever becomes of parents and children, nobody waits for what will never come."""
    run_state_machine_as_test(
        family, settings=settings(ALL, max_examples=40, stateful_step_count=40, derandomize=True)
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_families_behave_as_their_model_for_long(family: type[FamilyMachine]) -> None:
    """The same for tens of thousands of steps, others in each run."""
    run_state_machine_as_test(
        family, settings=settings(ALL, max_examples=400, stateful_step_count=80)
    )
