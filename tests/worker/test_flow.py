"""Whole flows on a real server with real children: photographs, and the album made of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import FlowProducer, JobFailed, JobState, Worker
from tests.broker.servers import StoppableServer
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sandboxq.queue.flow_plan import FlowNode

_PHOTOGRAPHS = """
def process(job):
    if job.data.get("broken"):
        raise ValueError("no photograph: " + job.data["src"])
    return {"src": job.data["src"], "width": 320}
"""
_ALBUM = """
def process(job):
    return {
        "photographs": sorted(value["src"] for value in job.children_values().values()),
        "ignored": sorted(job.ignored_children_failures().values()),
        "counts": job.dependencies_count(),
        "pages": pages(job),
    }

def pages(job):
    cursor, number = "0:0:0:0", 0
    while cursor:
        page = job.dependencies(count=100, cursor=cursor)
        cursor, number = page.cursor, number + len(page.processed)
    return number
"""
_ASYNC_ALBUM = """
import asyncio

async def process(job):
    values, ignored, counts = await asyncio.gather(
        job.children_values(), job.ignored_children_failures(), job.dependencies_count())
    every = await job.dependencies()
    return {
        "photographs": sorted(value["src"] for value in values.values()),
        "ignored": sorted(ignored.values()),
        "counts": counts,
        "pages": len(every.processed),
    }
"""
_DYNAMIC = """
from sandboxq import Parent, Queue, WaitingChildrenError

def process(job):
    if not job.data.get("added"):
        with Queue.sync(job.queue_name + "-photos", job.data["url"]) as photos:
            for number in range(3):
                photos.add("resize", {"src": f"{number}.jpg"},
                           parent=Parent(job.id, job.queue_name, "fail"))
        job.update_data({**job.data, "added": True})
        raise WaitingChildrenError
    return sorted(value["src"] for value in job.children_values().values())
"""
_NONSENSE = """
def process(job):
    questions, seq = job._link.questions, job._seq
    refusals = []
    for kind, argument in ((0, b""), (99, b""), (6, b""), (6, b"\\xff\\xff\\xff\\xff0:0:0:0")):
        try:
            questions.ask(seq, kind, argument, list)
        except Exception as error:
            refusals.append(f"{type(error).__name__}: {error}")
    return refusals
"""
RESULT_SECONDS = 20


@contextlib.asynccontextmanager
async def working(
    url: str, queue: str, path: Path, text: str, **options: Any
) -> AsyncIterator[Worker]:
    """Run a worker for the duration of the block."""
    processor_file(path.parent, text, path.name)
    async with Worker(queue, path, url=url, **{"procs": 1, **options}) as worker:
        run = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            worker.stop()
            await run


def photograph(queue: str, src: str, **node: Any) -> FlowNode:
    """Return a child."""
    data = {"src": src, "broken": node.pop("broken", False)}
    return {"name": "resize", "queue": f"{queue}-photos", "data": data, **node}  # type: ignore[typeddict-item]  # **node


@pytest.mark.parametrize("album", [_ALBUM, _ASYNC_ALBUM], ids=["def", "async def"])
def test_an_album_of_photographs(
    server_url: str, queue_name: str, tmp_path: Path, album: str
) -> None:
    """The parent runs once all photographs have ended, and is told what became of them."""
    photos = [photograph(queue_name, f"{i:03}.jpg") for i in range(300)]
    broken = photograph(queue_name, "bad.jpg", broken=True, on_failure="ignore")

    async def main() -> None:
        url = server_url
        async with (
            FlowProducer(url) as producer,
            working(url, f"{queue_name}-photos", tmp_path / "photos.py", _PHOTOGRAPHS),
            working(url, queue_name, tmp_path / "album.py", album),
        ):
            flow = await producer.add(name="album", queue=queue_name, children=[*photos, broken])
            assert await flow.job.result(RESULT_SECONDS) == {
                "photographs": [f"{i:03}.jpg" for i in range(300)],
                "ignored": ["no photograph: bad.jpg"],
                "counts": {"processed": 300, "unprocessed": 0, "ignored": 1, "failed": 0},
                "pages": 300,
            }

    run_async(main())


@pytest.mark.parametrize(
    ("policy", "ending"),
    [
        ("fail", "child bull:{child} failed"),
        ("continue", ["no photograph: bad.jpg"]),
        ("ignore", ["no photograph: bad.jpg"]),
        ("remove", []),
        ("wait", None),
    ],
)
def test_what_a_failed_photograph_does_to_the_album(
    server_url: str, queue_name: str, tmp_path: Path, policy: str, ending: Any
) -> None:
    """Each policy from end to end: added here, failed here, felt by the parent here."""

    async def main() -> None:
        url = server_url
        broken = photograph(queue_name, "bad.jpg", broken=True, on_failure=policy)
        async with (
            FlowProducer(url) as producer,
            working(url, f"{queue_name}-photos", tmp_path / "photos.py", _PHOTOGRAPHS),
            working(url, queue_name, tmp_path / "album.py", _ALBUM),
        ):
            flow = await producer.add(name="album", queue=queue_name, children=[broken])
            job, child = flow.job, flow.children[0].job
            with pytest.raises(JobFailed):
                await child.result(RESULT_SECONDS)
            if ending is None:
                assert await job.state() is JobState.WAITING_CHILDREN
            elif isinstance(ending, str):
                with pytest.raises(JobFailed) as caught:
                    await job.result(RESULT_SECONDS)
                assert caught.value.reason == ending.format(child=f"{queue_name}-photos:{child.id}")
            else:
                assert (await job.result(RESULT_SECONDS))["ignored"] == ending

    run_async(main())


def test_a_question_waits_while_redis_is_away(tmp_path: Path, queue_name: str) -> None:
    """The job is not failed for it; the answer comes when Redis is back."""
    gate = tmp_path / "gate"
    album = f"""
import pathlib, time

def process(job):
    gate = pathlib.Path({str(gate)!r})
    gate.with_suffix(".asks").touch()
    while not gate.exists():
        time.sleep(0.01)
    return job.children_values()
"""

    async def main(server: StoppableServer) -> None:
        async with (
            FlowProducer(server.url) as producer,
            working(server.url, queue_name, tmp_path / "album.py", album) as worker,
        ):
            child = photograph(queue_name, "a.jpg")
            photos = working(
                server.url, f"{queue_name}-photos", tmp_path / "photos.py", _PHOTOGRAPHS
            )
            async with photos:
                flow = await producer.add(name="album", queue=queue_name, children=[child])

                async def has_begun() -> bool:
                    return gate.with_suffix(".asks").exists()

                await wait_until_async(has_begun)
            await asyncio.to_thread(server.stop)
            gate.touch()

            async def has_asked() -> bool:
                return bool(worker.parts.answers._asked)

            await wait_until_async(has_asked)
            await asyncio.to_thread(server.start)
            (value,) = (await flow.job.result(RESULT_SECONDS)).values()
            assert value["src"] == "a.jpg"
            assert (await flow.job.refresh()).attempts_started == 1

    with StoppableServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        run_async(main(server))


def test_a_question_that_redis_refuses(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Only that job hears of it; questions that came with it are answered."""

    async def main() -> None:
        async with (
            FlowProducer(server_url) as producer,
            working(server_url, queue_name, tmp_path / "album.py", _ALBUM, procs=2),
        ):
            good = await producer.add(name="album", queue=queue_name)
            bad = await producer.add(name="album", queue=queue_name, job_id="bad", delay=0.2)
            broker = bad.job.queue._broker
            assert broker is not None
            await broker.command("SET", bad.job.queue.keys["bad:processed"], "no hash")
            with pytest.raises(JobFailed, match="WRONGTYPE"):
                await bad.job.result(RESULT_SECONDS)
            assert (await good.job.result(RESULT_SECONDS))["photographs"] == []

    run_async(main())


def test_children_added_by_the_running_parent(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Only a look into the archive tells how many photographs there are."""

    async def main() -> None:
        async with (
            FlowProducer(server_url) as producer,
            working(server_url, f"{queue_name}-photos", tmp_path / "photos.py", _PHOTOGRAPHS),
            working(server_url, queue_name, tmp_path / "album.py", _DYNAMIC),
        ):
            flow = await producer.add(name="album", queue=queue_name, data={"url": server_url})
            assert await flow.job.result(RESULT_SECONDS) == ["0.jpg", "1.jpg", "2.jpg"]
            job = await flow.job.refresh()
            assert (job.attempts_started, job.attempts_made) == (2, 1)

    run_async(main())


def test_questions_that_make_no_sense(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """What a child sends is not to be trusted: it is refused, and reaches no Redis."""

    async def main() -> None:
        async with (
            FlowProducer(server_url) as producer,
            working(server_url, queue_name, tmp_path / "album.py", _NONSENSE),
        ):
            flow = await producer.add(name="album", queue=queue_name)
            refusals = await flow.job.result(RESULT_SECONDS)
            assert len(refusals) == 4
            assert all(each.startswith("QueueError: the question is not") for each in refusals)

    run_async(main())
