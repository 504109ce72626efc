"""Streams of a job's events, on a real server: what they leave, and who comes when."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("fastapi")

from sandboxq.integrations.fastapi import Sandboxq

if TYPE_CHECKING:
    from fastapi.responses import StreamingResponse


async def next_event(answer: StreamingResponse) -> Any:
    """Return the data of the next event."""
    async for text in answer.body_iterator:
        if "data: " in str(text):
            return json.loads(str(text).partition("data: ")[2])
    return None


def test_who_comes_when_the_last_one_leaves_hears_of_the_job(
    server_url: str, queue_name: str
) -> None:
    """The reader that ends with the last stream is not the one of the next."""

    async def main() -> None:
        sandboxq = Sandboxq(server_url)
        async with asyncio.timeout(60), sandboxq.lifespan():
            queue = sandboxq.open_queue(queue_name)
            job = await queue.add("x", {})
            first = await sandboxq.events(queue, job.id)
            await next_event(first)
            await first.body_iterator.aclose()  # type: ignore[attr-defined]  # a generator
            second = await sandboxq.events(queue, job.id)
            assert await next_event(second) == {"progress": 0}
            await job.update_progress(50)
            assert await next_event(second) == {"progress": 50}

    asyncio.run(main())


def test_a_stream_that_nobody_reads_watches_nothing(server_url: str, queue_name: str) -> None:
    """A browser may have gone before the answer begins."""

    async def main() -> None:
        sandboxq = Sandboxq(server_url)
        async with asyncio.timeout(60), sandboxq.lifespan():
            queue = sandboxq.open_queue(queue_name)
            job = await queue.add("x", {})
            answer = await sandboxq.events(queue, job.id)
            (reading,) = [each for each in asyncio.all_tasks() if each.get_name() == of(queue_name)]
            del answer
            gc.collect()
            await asyncio.wait({reading})

    asyncio.run(main())


def test_a_stream_ends_with_the_application(server_url: str, queue_name: str) -> None:
    """It is told that nothing more is read."""

    async def main() -> None:
        sandboxq = Sandboxq(server_url)
        async with asyncio.timeout(60):
            async with sandboxq.lifespan():
                queue = sandboxq.open_queue(queue_name)
                answer = await sandboxq.events(queue, (await queue.add("x", {})).id)
                await next_event(answer)
            assert await next_event(answer) is None

    asyncio.run(main())


def of(queue_name: str) -> str:
    """Return the name of the task that reads a queue's events."""
    return f"events of {queue_name}"
