"""Outcomes of microsecond jobs gather before they are written; any other is written at once."""

from __future__ import annotations

import asyncio

import pytest

from sandboxq import Queue
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.config import WorkerSettings
from sandboxq.model.outcome import Completed
from sandboxq.observe.telemetry import Event, JobsSettled, Telemetry
from sandboxq.worker.claims import Claims
from sandboxq.worker.context import HeldJobs, WorkerContext
from sandboxq.worker.settler import Settler
from tests.conftest import run_async, wait_until_async

_JOBS = 4


@pytest.mark.parametrize(("is_rushed", "exchanges"), [(True, [_JOBS]), (False, [1, _JOBS - 1])])
def test_outcomes_gather_while_more_will_come_at_once(
    server_url: str, queue_name: str, *, is_rushed: bool, exchanges: list[int]
) -> None:
    """An exchange for each would cost Redis and the worker more than the jobs."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        held, telemetry = HeldJobs(), Telemetry()
        settled: list[int] = []

        def note(event: Event) -> None:
            if isinstance(event, JobsSettled):
                settled.append(event.completed)

        telemetry.subscribe(note)
        context = WorkerContext(broker, QueueKeys(queue_name), WorkerSettings(), held, telemetry)
        settler = Settler(context)
        settler.is_rushed = lambda: is_rushed
        claims = Claims(
            context, settler=settler, start=lambda _: None, on_taken_over=lambda _: None
        )
        settling = asyncio.create_task(settler.run())
        try:
            async with Queue(queue_name, url=server_url) as queue:
                await queue.add_bulk([("echo", {})] * _JOBS)
            await claims.now(_JOBS, at_once=_JOBS)
            first, *others = list(held.values())
            settler.end(first, Completed(b"1"))
            await asyncio.sleep(0)  # the settler has its turn
            for attempt in others:
                settler.end(attempt, Completed(b"1"))

            async def are_settled() -> bool:
                return sum(settled) == _JOBS

            await wait_until_async(are_settled)
            assert settled == exchanges
        finally:
            settling.cancel()
            await claims.close()
            await broker.close()

    run_async(main())
