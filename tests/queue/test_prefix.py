"""$SANDBOXQ_PREFIX is for commands, producers, workers and readers alike, as $SANDBOXQ_URL is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sandboxq import FlowProducer, Queue, QueueEvents, SandboxExecutor, UsageError, Worker
from sandboxq.broker.connect.broker import Broker
from sandboxq.integrations.fastapi import Sandboxq
from sandboxq.queue.queue import queue_names
from sandboxq.tasks.enqueued import close_tasks, connect_tasks
from sandboxq.tasks.task import task
from sandboxq.web.settings import settings_from_options
from tests.conftest import run_async, wait_until

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "of-the-environment"


@pytest.fixture
def own(server_url: str, queue_name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a queue's name, with the variables set that say where it is."""
    monkeypatch.setenv("SANDBOXQ_URL", server_url)
    monkeypatch.setenv("SANDBOXQ_PREFIX", PREFIX)
    return queue_name


def test_a_command_and_a_program_mean_the_same_queue(own: str, tmp_path: Path) -> None:
    """What `add` has added, the Queue of a program sees; the queue under "bull" stays empty."""
    command = [sys.executable, "-m", "sandboxq", "add", own, "job", "{}"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    with Queue.sync(own) as queue, Queue.sync(own, prefix="bull") as other:
        assert queue.counts()["waiting"] == 1
        assert other.counts()["waiting"] == 0


def test_whatever_takes_a_prefix_takes_the_variable(own: str) -> None:
    """Producers, readers, workers, tasks, FastAPI, the page: one forgotten would be elsewhere."""

    @task(queue=own)
    def work() -> None: ...

    connect_tasks()
    try:
        added = work.enqueue()
        assert added.state() == "waiting"
    finally:
        close_tasks()

    async def body() -> None:
        async with Queue(own) as queue, QueueEvents(own, last_id="0") as events:
            assert await queue.job_state(added.id) == "waiting"
            assert (await anext(events)).job_id == added.id
        async with FlowProducer() as flows:
            flow = await flows.add(name="a", queue=own)
        async with Queue(own, prefix=PREFIX) as queue:
            assert await queue.job_state(flow.job.id) == "waiting"
        application = Sandboxq()
        async with application.lifespan():
            assert application.open_queue(own).keys.prefix == PREFIX
        broker = await Broker.connect()
        try:
            assert own in await queue_names(broker)
            assert own not in await queue_names(broker, "bull")
        finally:
            await broker.close()

    run_async(body())
    assert settings_from_options(None, {}).prefix == PREFIX
    assert Worker(own).keys.prefix == PREFIX
    assert Worker(own, prefix="said").keys.prefix == "said"


def test_an_executor_takes_the_variable(own: str) -> None:
    """Its calls are signed for the prefix too: a worker elsewhere would refuse them."""
    with SandboxExecutor(own, secret="s" * 32) as executor, Queue.sync(own) as queue:
        call = executor.submit(divmod, 7, 2)
        wait_until(lambda: queue.counts()["waiting"] == 1)
        call.cancel()


@pytest.mark.parametrize("kind", [Queue, QueueEvents, Worker])
def test_a_variable_that_cannot_be_a_prefix_is_named(
    kind: type[Queue | QueueEvents | Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets the error has not written the value where it is raised."""
    monkeypatch.setenv("SANDBOXQ_PREFIX", "two words")
    with pytest.raises(UsageError, match=r"^\$SANDBOXQ_PREFIX 'two words' must be"):
        kind("images")


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the commands: SANDBOXQ_PREFIX= in a file of settings means the default."""
    monkeypatch.setenv("SANDBOXQ_PREFIX", "")
    assert Worker("images").keys.prefix == "bull"
