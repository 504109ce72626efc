"""The reads: what each tells of queues that real producers and workers have filled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.queue.schedulers import Repeat
from sandboxq.worker.worker import Worker
from tests.broker.servers import StoppableServer
from tests.conftest import Gate, wait_until_async
from tests.web.conftest import Client

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.queue.queue import Queue

PROCESSOR = """
import os, signal

def process(job):
    print("it says", job.id)
    job.log("a line of " + job.id)
    if job.name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.name == "fail":
        raise ValueError(f"row {job.data['row']} of 9 is bad")
    return {"token": "t-secret", "n": 1}
"""


@pytest.fixture
def ran(client: Client, queue_name: str, tmp_path: Path) -> dict[str, str]:
    """Run one good job, two that fail alike and one that crashes; return their ids by name."""
    path = tmp_path / "work.py"
    path.write_text(PROCESSOR)

    async def main() -> dict[str, str]:
        async with client.queue(queue_name) as queue:
            good = await queue.add("good", {"password": "hunter22", "user": {"id": 7}})
            one = await queue.add("fail", {"row": 1})
            await queue.add("fail", {"row": 2})
            crash = await queue.add("crash", {})
            async with Worker(
                queue_name, str(path), url=client.url, prefix=client.prefix, procs=1, max_crashes=1
            ) as worker:
                await worker.run(burst=True)
            return {"good": good.id, "fail": one.id, "crash": crash.id}

    ids: dict[str, str] = client.run(main())
    return ids


def test_a_job_that_ran(client: Client, queue_name: str, ran: dict[str, str]) -> None:
    """Data and value without their secrets, the log, the state."""
    job = client.read(f"/queues/{queue_name}/jobs/{ran['good']}")
    assert job["job"]["state"] == "completed"
    assert job["data"]["value"] == {"password": "•••", "user": {"id": 7}}
    assert job["returnvalue"]["value"] == {"token": "•••", "n": 1}
    assert job["usage"]["wall"] >= 0
    assert job["is_ours"]
    log = client.read(f"/queues/{queue_name}/jobs/{ran['good']}/logs")
    assert f"a line of {ran['good']}" in [line["text"] for line in log["lines"]]
    assert "hunter22" not in client.get(f"/api/v1/queues/{queue_name}/jobs").text


def test_a_job_that_failed(client: Client, queue_name: str, ran: dict[str, str]) -> None:
    """Each attempt has its error and its trace."""
    job = client.read(f"/queues/{queue_name}/jobs/{ran['fail']}")
    (attempt,) = job["attempts"]
    assert attempt["number"] == 1
    assert attempt["error"] == "ValueError: row 1 of 9 is bad"
    assert 'work.py", line' in attempt["trace"]


def test_failures_that_are_alike_are_one_group(client: Client, ran: dict[str, str]) -> None:
    """Cause, text without numbers, frame."""
    groups = client.read("/failures")["groups"]
    alike = next(group for group in groups if group["cause"] == "ValueError")
    assert alike["count"] == 2
    assert alike["pattern"] == "row # of # is bad"
    assert "work.py:" in alike["frame"]
    assert len(groups) == 2
    assert ran["fail"] in [job["id"] for job in alike["samples"]]


def test_a_death_is_told(client: Client, queue_name: str, ran: dict[str, str]) -> None:
    """Of what the child died, and how often."""
    (death,) = client.read(f"/deaths?queue={queue_name}")["deaths"]
    assert death["job"]["id"] == ran["crash"]
    assert (death["cause"], death["signal"]) == ("JobCrashed", "SIGSEGV")
    assert death["history"] == ["SIGSEGV"]
    assert death["crashes"] == 1
    assert death["peak"] > 0


def test_who_ran_beside_a_death(client: Client, queue_name: str, tmp_path: Path) -> None:
    """The job in another child of the worker is named, as it may have taken the memory."""
    gate = Gate(tmp_path)
    path = tmp_path / "beside.py"
    path.write_text(
        "import os, pathlib, time\n"
        "def process(job):\n"
        "    if job.name == 'waits':\n"
        "        while not pathlib.Path(job.data).exists():\n"
        "            time.sleep(0.01)\n"
        "        return\n"
        "    os.abort()\n"
    )

    async def main() -> list[str]:
        async with client.queue(queue_name) as queue:
            waits = await queue.add("waits", gate.path)
            async with Worker(
                *(queue_name, str(path)),
                url=client.url,
                prefix=client.prefix,
                procs=2,
                max_crashes=1,
            ) as worker:
                running = asyncio.ensure_future(worker.run())
                await wait_until_async(lambda: is_active(queue, waits.id))
                crash = await queue.add("crash", {})
                await wait_until_async(lambda: has_failed(queue, crash.id))
                gate.open()
                worker.stop()
                await running
            return [waits.id, crash.id]

    waits, crash = client.run(main())
    (death,) = client.read(f"/deaths?queue={queue_name}")["deaths"]
    assert (death["job"]["id"], death["neighbours"]) == (crash, [waits])


async def is_active(queue: Queue, job_id: str) -> bool:
    """Tell whether a job is being run."""
    return await queue.job_state(job_id) == "active"


async def has_failed(queue: Queue, job_id: str) -> bool:
    """Tell whether a job has failed."""
    return await queue.job_state(job_id) == "failed"


def test_latency_and_limits(client: Client, queue_name: str, ran: dict[str, str]) -> None:
    """Percentiles of what completed, and the limits that were set."""
    (row,) = client.read("/latency")["queues"]
    assert row["sample"] == 1
    assert 0 <= row["run"]["p50"] <= row["run"]["most"]
    assert row["empty_in"] == 0
    assert client.read(f"/queues/{queue_name}")["usage"]["attempts"] >= 1
    assert ran


def test_pages_of_a_state(client: Client, queue_name: str) -> None:
    """What waits comes as it will be run, in pages that fit together."""
    ids = client.add(queue_name, *(("x", {"n": n}) for n in range(120)))
    seen: list[str] = []
    start: int | None = 0
    while start is not None:
        page = client.read(f"/queues/{queue_name}/jobs?state=waiting&start={start}&count=50")
        seen += [job["id"] for job in page["jobs"]]
        start = page["next"]
    assert seen == ids
    assert client.read(f"/queues/{queue_name}/jobs/{ids[3]}")["place"] == 3


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("name:ALPHA", [0, 2]),
        ("data.user.id:7", [0]),
        ("data.user.id:8", [1]),
        ("data.user.id:78", []),
        ("data.tags:b*", [1]),
        ("data.note:*café*", [2]),
        ("café", [2]),
        ("name:alpha data.user.id:7", [0]),
        ("state:waiting", [0, 1, 2, 3]),
        ("state:failed", []),
        ("hunter", []),
        ("data.password:hunter22", []),
        ('"two words"', [3]),
        ("%", []),
        ("queue:other", []),
    ],
)
def test_searches(client: Client, queue_name: str, search: str, found: list[int]) -> None:
    """Qualified or free; a secret is never found, as it could be guessed letter by letter."""
    ids = client.add(
        queue_name,
        ("alpha", {"user": {"id": 7}, "password": "hunter22"}),
        ("beta", {"user": {"id": 8}, "tags": ["a", "bc"]}),
        ("alphabet", {"note": "the café"}),
        ("x", {"text": "two words here", "user": {"id": "70"}}),
    )
    answer = client.read("/search", params={"q": search})
    assert sorted(ids.index(job["id"]) for job in answer["jobs"]) == found
    page = client.read(f"/queues/{queue_name}/jobs", params={"search": search})
    assert page["total"] == len(found)


def test_a_job_of_five_megabytes(client: Client, queue_name: str) -> None:
    """The page cuts it, the download is whole, secrets are hidden in both."""
    (job_id,) = client.add(queue_name, ("big", {"secret": "s" * 100, "text": "ü" * 2_500_000}))
    answer = client.get(f"/api/v1/queues/{queue_name}/jobs/{job_id}")
    assert len(answer.content) < 500_000
    data = answer.json()["data"]
    assert data["is_cut"]
    assert data["bytes"] > 5_000_000
    assert "sss" not in data["text"]
    whole = client.get(f"/api/v1/queues/{queue_name}/jobs/{job_id}/data")
    assert whole.json() == {"secret": "•••", "text": "ü" * 2_500_000}
    assert "attachment" in whole.headers["content-disposition"]
    assert len(client.get(f"/api/v1/queues/{queue_name}/jobs").content) < 5000


def test_numbers_that_others_wrote(client: Client, queue_name: str) -> None:
    """What is none, or larger than any: it is not counted with, and no page fails by it."""
    (job_id,) = client.add(queue_name, ("odd", {}))
    odd = {"atm": "²", "sq:max_rss": "9" * 1000, "sq:limit": "²", "sq:cause": "JobCrashed"}

    async def main() -> None:
        async with client.queue(queue_name) as queue:
            broker = await client.app.dashboard.broker()
            await broker.command("HSET", queue.keys[job_id], *(x for it in odd.items() for x in it))

    client.run(main())
    assert client.read(f"/queues/{queue_name}/jobs/{job_id}")["attempts"] == []
    assert client.get(f"/queues/{queue_name}/jobs/{job_id}").status_code == 200


def test_schedulers_are_said_in_a_sentence(client: Client, queue_name: str) -> None:
    """Their next times too."""

    async def main() -> None:
        async with client.queue(queue_name) as queue:
            await queue.upsert_scheduler("a", Repeat(every=300), data={"api_key": "k"})
            await queue.upsert_scheduler("b", Repeat(cron="30 9 * * 1-5", tz="Europe/Berlin"))

    client.run(main())
    rows = {row["id"]: row for row in client.read("/schedulers")["schedulers"]}
    assert rows["a"]["sentence"] == "every 5 minutes"
    assert rows["a"]["data"]["value"] == {"api_key": "•••"}
    assert rows["b"]["sentence"] == "every weekday at 09:30 (Europe/Berlin)"
    assert len(rows["b"]["upcoming"]) == 5


def test_a_flow_is_drawn_from_its_top(client: Client, queue_name: str) -> None:
    """From any job of it."""
    from sandboxq.queue.flow import FlowProducer

    async def main() -> list[str]:
        async with FlowProducer(client.url, prefix=client.prefix) as flows:
            children: Any = [{"name": f"c{n}", "queue": queue_name, "data": {}} for n in range(3)]
            flow = await flows.add(name="top", queue=queue_name, data={}, children=children)
            return [flow.job.id, flow.children[0].job.id]

    top, child = client.run(main())
    answer = client.read(f"/queues/{queue_name}/jobs/{child}/flow")
    assert answer["nodes"][0]["name"] == "top"
    assert sorted(node["name"] for node in answer["nodes"][1:]) == ["c0", "c1", "c2"]
    assert answer["nodes"][0]["children"]["unprocessed"] == 3
    assert answer["is_complete"]
    assert answer["root"].endswith(top)
    few = client.read(f"/queues/{queue_name}/jobs/{child}/flow?depth=1")
    assert not few["is_complete"]


def test_results_of_children_are_not_copied_for_a_drawing(tmp_path: Path) -> None:
    """They may have megabytes each; a walk over the hash would: this server has no such command."""
    server = StoppableServer(tmp_path, "--rename-command", "HSCAN", "")
    server.start()
    client = Client(server.url)
    top, *children = client.add("q", *(("it", {}) for _ in range(4)))

    async def main() -> None:
        broker = await client.app.dashboard.broker()
        ended = [part for child in children for part in (f"bull:q:{child}", "x" * 1000)]
        await broker.command("HSET", f"bull:q:{top}:processed", *ended)

    client.run(main())
    answer = client.read(f"/queues/q/jobs/{top}/flow")
    client.close()
    server.stop()
    assert answer["nodes"][0]["id"] == top
    assert {node["id"] for node in answer["nodes"][1:]} == set(children)


def test_doctor(client: Client, queue_name: str) -> None:
    """It says what stands in the way."""
    client.add(queue_name, ("x", {}))
    answer = client.read("/doctor")
    assert answer["redis"]["version"]
    assert answer["mechanisms"]
    (problem,) = answer["queues"]
    assert "no worker" in problem["problem"]


def test_a_queue_that_is_not_there(client: Client) -> None:
    """It is said, and nothing is made of it."""
    for path in ("", "/jobs", "/jobs/1", "/jobs/1/flow"):
        answer = client.get(f"/api/v1/queues/nowhere{path}")
        assert answer.status_code == 404, answer.text
        assert "nowhere" in answer.json()["error"]["message"]


def test_long_lines_and_large_neighbours_are_cut(client: Client, queue_name: str) -> None:
    """Of logs and lists so much is copied as a page can show."""
    ids = client.add(queue_name, *(("big", {"text": "x" * 300_000}) for _ in range(3)))

    async def main() -> None:
        async with client.queue(queue_name) as queue:
            for number in range(30):
                await queue.add_job_log(ids[0], f"{number} " + "y" * 500_000)

    client.run(main())
    page = client.read(f"/queues/{queue_name}/jobs")
    assert [job["data_bytes"] > 300_000 for job in page["jobs"]] == [True] * 3
    answer = client.get(f"/api/v1/queues/{queue_name}/jobs/{ids[0]}/logs?start=0")
    log = answer.json()
    assert (log["total"], log["start"]) == (30, 0)
    assert log["next"] == len(log["lines"]) == 20
    assert log["lines"][1]["text"].startswith("1 yyy")
    assert len(answer.content) < 200_000
    found = client.read("/search?q=xxx")
    assert found["too_large"] == 3


def test_a_job_that_is_watched_is_cut_too(client: Client, queue_name: str) -> None:
    """Each second, whoever wrote its log and its error."""
    (job_id,) = client.add(queue_name, ("big", {}))

    async def main() -> None:
        async with client.queue(queue_name) as queue:
            for number in range(30):
                await queue.add_job_log(job_id, f"{number} " + "y" * 500_000)
            broker = await client.app.dashboard.broker()
            await broker.command("HSET", queue.keys[job_id], "failedReason", "z" * 1_000_000)

    client.run(main())
    answer = client.get(f"/api/v1/queues/{queue_name}/jobs/{job_id}/live")
    told = answer.json()
    assert (told["log"]["total"], len(told["log"]["lines"])) == (30, 20)
    assert len(answer.content) < 50_000
    assert told["state"] == "waiting"


def test_a_search_looks_into_so_much_at_once(client: Client, queue_name: str) -> None:
    """However many texts it asks for: Redis answers nobody meanwhile."""
    words = " ".join(f"word{number}" for number in range(9))
    client.add(queue_name, *(("big", {"text": words + "x" * 60_000}) for _ in range(100)))
    found = client.read("/search", params={"q": f"{words} absent"})
    assert found["looked_at"] == 100
    assert 0 < found["too_large"] < 100


def test_schedulers_far_behind_are_not_read(client: Client) -> None:
    """All before them would be."""
    assert client.get("/api/v1/schedulers?start=2001").status_code == 400
