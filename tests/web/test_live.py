"""What is live on the page, with real workers: tree, stream, one job, and the streams' lives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sandboxq.web.live import MOST_VIEWERS
from tests.broker.servers import StoppableServer
from tests.conftest import Gate, run_async, wait_until_async
from tests.web.live_page import Page, served
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sandboxq import Queue, Worker

STAY = {"do": "stay", "seconds": 600}


def beside(
    url: str, name: str, body: Callable[[Queue, Worker, Page], Awaitable[None]], /, **options: Any
) -> None:
    """Run a test beside a worker and the page."""

    async def main() -> None:
        async with (
            running(url, name, **options) as (queue, worker),
            served(url, queues=[name]) as page,
        ):
            await body(queue, worker, page)

    run_async(main())


def publishes() -> bool:
    """Tell whether a worker of this process sends anything."""
    return any(task.get_name() == "sandboxq facts" for task in asyncio.all_tasks())


async def is_silent() -> bool:
    """Tell whether none does."""
    return not publishes()


def workers_in(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the workers of a tree."""
    return [worker for host in state["hosts"] for worker in host["workers"]]


def test_the_tree_of_workers(server_url: str, queue_name: str) -> None:
    """Host, worker, child, job: what each uses, and how much there is to do."""

    async def body(queue: Queue, worker: Worker, page: Page) -> None:
        await queue.add("<b>resize", STAY)
        await queue.add_bulk([("wait", STAY, {}) for _ in range(3)])

        def is_whole(event: Any) -> bool:
            rows = [it for it in workers_in(event.data) if None not in {it["lag"], it["rate"]}]
            children = [child for row in rows for child in row["children"]]
            runs = len(children) == 2 and all(it["jobs"] and it["rss"] for it in children)
            return runs and any(each["waiting"] for each in event.data["queues"])

        state = (await page.until("workers", is_whole)).data
        (row,) = workers_in(state)
        assert (row["worker"], row["queue"], row["policy"]) == (worker.name, queue.name, "limits")
        assert (row["places"], row["free"], row["state"]) == (2, 0, "running")
        assert all(it["memory"] >= it["rss"] > 1 << 20 for it in row["children"])
        jobs = [job for child in row["children"] for job in child["jobs"]]
        assert {job["name"] for job in jobs} == {"<b>resize", "wait"}
        assert all(job["seconds"] > 0 for job in jobs)
        (about,) = state["queues"]
        assert (about["queue"], about["waiting"], about["workers"]) == (queue.name, 2, 1)
        assert (about["others"], about["free"]) == (0, 0)
        assert workers_in(await page.read("/workers"))[0]["id"] == row["id"]
        worker.cancel_all(grace=0)
        await queue.drain()

    beside(server_url, queue_name, body)


def test_passwords_that_are_printed_are_hidden(server_url: str, queue_name: str) -> None:
    """Beside the child that has printed them too."""

    async def body(queue: Queue, _worker: Worker, page: Page) -> None:
        said = ""
        async with asyncio.timeout(60), page.events("workers") as events:
            async for event in events:
                if workers_in(event.data):  # from now on it hears what is printed
                    break
            await queue.add("says", {"do": "say", "text": "at redis://me:hunter22@host/1"})
            async for event in events:
                (row,) = workers_in(event.data)
                said = "".join(child["printed"] for child in row["children"])
                if "redis://" in said:
                    break
        assert said == "at redis://me:•••@host/1"

    beside(server_url, queue_name, body, procs=1)


def test_the_stream_of_jobs(server_url: str, queue_name: str) -> None:
    """Before anybody looked, from Redis; then each end, deaths and what runs; short ones as one."""

    async def body(queue: Queue, worker: Worker, page: Page) -> None:
        before = await queue.add("before", {})
        await before.result(timeout=60)
        first = await page.until("stream", lambda event: event.name == "all")
        assert [bar[3] for bar in first.data["bars"]] == ["before"]

        names: dict[str, str] = {}
        counts: dict[str, int] = {}
        marks: set[str] = set()
        stays = None
        async with asyncio.timeout(90), page.events("stream", after=first.place) as events:
            await queue.add_bulk([("echo", {}) for _ in range(200)])
            await queue.add_bulk([("fail", {"do": "fail"}), ("die", {"do": "segv"})])
            stays = await queue.add("stays", STAY)
            async for event in events:
                assert event.name == "more"
                for bar in event.data["bars"]:
                    names[bar[3]] = bar[5]
                    counts[bar[3]] = counts.get(bar[3], 0) + bar[6]
                marks |= {mark[2] for mark in event.data["marks"]}
                runs = [each[2] for each in event.data["running"]]
                is_all = counts.get("echo") == 200 and "died" in marks and runs == ["stays"]
                if is_all and {"fail", "die"} <= names.keys():
                    break
        assert names | {"echo": "completed", "fail": "failed", "die": "died"} == names
        whole = await page.read("/stream")
        assert whole["event"] == "all"
        assert sum(bar[6] for bar in whole["bars"] if bar[3] == "echo") == 200
        rows = {row["id"]: row for row in whole["rows"]}
        assert {rows[bar[0]]["worker"] for bar in whole["bars"]} == {worker.name}
        assert len(rows) <= 3  # a child, those that took its place
        await stays.cancel(grace=0)

    beside(server_url, queue_name, body, procs=1, name="builder")


def test_one_job_live(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Stack, memory, what it printed and logged; after its end the last stack, marked as old."""

    async def body(queue: Queue, worker: Worker, page: Page) -> None:
        gate = Gate(tmp_path)
        job = await queue.add("slow", {"do": "sleep", "until": gate.path}, timeout=500)
        topic = f"job:{queue.name}:{job.id}"
        event = await page.until(topic, lambda it: it.data["job"] and it.data["job"]["stack"])
        found = event.data["job"]
        assert "in _sleep" in found["stack"]
        assert found["worker"] == worker.name
        assert found["child"] in worker.pool.pids
        assert 400 < found["left"] < 500
        assert found["rss"] > 1 << 20
        assert event.data["is_live"]
        gate.open()
        after = await page.until(topic, lambda it: it.data["state"] == "completed")
        assert after.data["job"] is None
        assert after.data["last_stack"]["is_old"]
        assert "in _sleep" in after.data["last_stack"]["text"]

    beside(server_url, queue_name, body)


def test_workers_stop_when_the_last_viewer_goes(server_url: str, queue_name: str) -> None:
    """A hundred look, by a bounded number of connections to Redis; then nobody does."""

    async def body(_queue: Queue, worker: Worker, page: Page) -> None:
        async def clients() -> int:
            reply: bytes = await worker.broker.command("CLIENT", "LIST")
            return reply.count(b"\n")

        async with asyncio.TaskGroup() as tasks:
            done = asyncio.Event()
            seen: set[int] = set()

            async def look(number: int) -> None:
                async with page.events("workers") as events:
                    async for _ in events:
                        seen.add(number)
                        if done.is_set():
                            return

            await page.read("/workers")
            before = await clients()
            for number in range(100):
                tasks.create_task(look(number))

            async def have_all() -> bool:
                return len(seen) == 100

            await wait_until_async(have_all)
            assert publishes()
            assert len(page.live.topics) == 1
            assert await clients() <= before + 20
            done.set()
        await wait_until_async(is_silent)
        assert not page.live.topics
        assert page.live.viewers == 0

    beside(server_url, queue_name, body)


def test_viewers_are_bounded(server_url: str, queue_name: str) -> None:
    """One more than may look is told so; what is no topic too."""

    async def main() -> None:
        async with served(server_url, queues=[queue_name]) as page:
            page.live.viewers = MOST_VIEWERS
            answer = await page.http.get("/live?topic=workers")
            assert answer.status_code == 503
            page.live.viewers = 0
            for topic in ("", "nothing", "job:", f"job:{queue_name}:"):
                answer = await page.http.get("/live", params={"topic": topic})
                assert answer.status_code in {400, 404}, topic

    run_async(main())


def test_redis_goes_away_and_comes_back(tmp_path: Path, queue_name: str) -> None:
    """The stream goes on, says so, and has the workers again."""

    async def main(server: StoppableServer) -> None:
        async with running(server.url, queue_name), served(server.url) as page:
            await page.until("workers", lambda it: workers_in(it.data))
            async with asyncio.timeout(150), page.events("workers") as events:
                await anext(events)
                await asyncio.to_thread(server.stop)
                async for event in events:
                    if "away" in event.data["note"]:
                        break
                await asyncio.to_thread(server.start)
                async for event in events:
                    if not event.data["note"] and workers_in(event.data):
                        break
                assert event.data["is_live"]

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_the_stream_ends_with_the_page(server_url: str, queue_name: str) -> None:
    """Who looks is told by the end; workers are left alone."""

    async def body(_queue: Queue, _worker: Worker, page: Page) -> None:
        async with asyncio.timeout(60), page.events("workers") as events:
            await anext(events)
            await page.app.close()
            async for _ in events:
                pass
        await wait_until_async(is_silent)

    beside(server_url, queue_name, body)
