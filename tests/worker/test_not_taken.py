"""What the pool does not take, because it raises, goes back to the queue."""

from __future__ import annotations

import asyncio

import pytest

from sandboxq import Queue
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.config import WorkerSettings
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool.pool import Pool
from sandboxq.worker.blob_transfer import BlobTransfer
from sandboxq.worker.claimer import Claimer
from sandboxq.worker.context import HeldJobs, WorkerContext
from sandboxq.worker.settler import Settler
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import Caller
from tests.worker.test_worker import PROCESSOR

_JOBS = 5


def test_a_claim_goes_back_when_the_pool_raises(server_url: str, queue_name: str) -> None:
    """Held for ever, their locks would be renewed, and nobody would run them."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        held, telemetry = HeldJobs(), Telemetry()
        context = WorkerContext(broker, QueueKeys(queue_name), WorkerSettings(), held, telemetry)
        settler = Settler(context)
        # It takes nothing, for it was not started.
        pool = Pool(
            PROCESSOR, size=1, listener=Caller(), queue_name=queue_name, telemetry=telemetry
        )
        claimer = Claimer(
            context,
            pool=pool,
            blobs=BlobTransfer(context, settler, deliver=pool.submit),
            settler=settler,
            room=asyncio.Event(),
            on_lost=lambda _: None,
        )
        settling = asyncio.create_task(settler.run())
        try:
            async with Queue(queue_name, url=server_url) as queue:
                await queue.add_bulk([("echo", {"value": number}) for number in range(_JOBS)])
                with pytest.raises(AttributeError):
                    await claimer.claims.now(_JOBS, at_once=_JOBS)

                async def are_back() -> bool:
                    counts = await queue.counts()
                    is_back = (counts["waiting"], counts["active"]) == (_JOBS, 0)
                    return is_back and held.is_empty

                await wait_until_async(are_back)
        finally:
            settling.cancel()
            await claimer.close()
            await broker.close()

    run_async(main())
