"""The page behind Sentinels: its streams outlive the death of the master."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sandboxq import BrokerUnavailable, Queue, Worker
from tests.conftest import run_async, wait_until_async
from tests.sentinel.servers import SentinelSet
from tests.web.live_page import served

pytestmark = pytest.mark.slow

PROCESSOR = str(Path(__file__).parents[1] / "processors_for_tests.py")


def test_the_tree_is_there_again_on_the_new_master(tmp_path: Path, queue_name: str) -> None:
    """Both, the page and the worker, find the new master, and each other."""

    async def main(sentinels: SentinelSet) -> None:
        url = sentinels.url
        async with (
            Queue(queue_name, url=url) as queue,
            Worker(queue_name, PROCESSOR, url=url, procs=1) as worker,
            served(url, queues=[queue_name]) as page,
        ):
            running = asyncio.create_task(worker.run())
            async with asyncio.timeout(150), page.events("workers") as events:
                await anext(events)
                await asyncio.to_thread(sentinels.master().kill)

                async def is_added() -> bool:
                    try:
                        await queue.add("echo", {})
                    except BrokerUnavailable:
                        return False
                    return True

                await wait_until_async(is_added)
                async for event in events:
                    if event.data["summary"]["completed"] and not event.data["note"]:
                        break
                assert event.data["is_live"]
            worker.stop()
            await running

    with SentinelSet(tmp_path) as sentinels:
        run_async(main(sentinels))
