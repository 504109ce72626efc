"""The API is what its document says; a read costs no more on a large queue than on a small one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from sandboxq.broker.connect.broker import Broker
from sandboxq.queue.schedulers import Repeat
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Client

PROCESSOR = """
import os

def process(job):
    job.log("a line")
    if job.name == "crash":
        os.abort()
    if job.name == "fail":
        raise ValueError("it failed")
    return {"n": 1}
"""
# What reads or walks over a whole key, or the whole database.
WHOLE = {"keys", "smembers", "hgetall", "hvals", "sort", "zunion", "sunion"}


@pytest.fixture
def filled(client: Client, queue_name: str, tmp_path: Path) -> Client:
    """Fill a queue with jobs in every state."""
    path = tmp_path / "work.py"
    path.write_text(PROCESSOR)

    async def main() -> None:
        async with client.queue(queue_name) as queue:
            await queue.add_bulk([("good", {"a": 1}), ("fail", {}), ("crash", {})])
            await queue.upsert_scheduler("s", Repeat(cron="*/5 * * * *"), data={"x": [1]})
            async with Worker(
                *(queue_name, str(path)), url=client.url, prefix=client.prefix, max_crashes=1
            ) as worker:
                await worker.run(burst=True)
            await queue.add("waits", {})
            await queue.add("later", {}, delay=900)

    client.run(main())
    client.act(f"/queues/{queue_name}/pause")
    return client


def _paths(document: dict[str, Any], queue: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the address of each read for some jobs, and its schema."""
    found = []
    for path, methods in document["paths"].items():
        if "get" in methods:
            content = methods["get"]["responses"]["200"]["content"]
            for job_id in ("1", "2", "3", "4"):
                address = path.replace("{queue}", queue).replace("{job_id}", job_id)
                address = address.replace("{field}", "data")
                found.append((address, content["application/json"]["schema"]))
    return list({address: (address, schema) for address, schema in found}.values())


def test_each_read_answers_as_the_document_says(filled: Client, queue_name: str) -> None:
    """No member is missing, and none is there that is not described."""
    document = filled.read("/openapi.json")
    checked = 0
    for path, schema in _paths(document, queue_name):
        jsonschema.Draft202012Validator.check_schema(schema)
        answer = filled.get(f"/api/v1{path}")
        if answer.status_code != 200:
            error = document["components"]["responses"]["Error"]["content"]["application/json"]
            jsonschema.validate(answer.json(), error["schema"])
            continue
        jsonschema.validate(answer.json(), schema)
        checked += 1
    assert checked > 15
    for state in ("active", "waiting", "delayed", "completed", "failed", "waiting-children"):
        operation = document["paths"]["/queues/{queue}/jobs"]["get"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        answer = filled.read(f"/queues/{queue_name}/jobs?state={state}&search=%2A")
        jsonschema.validate(answer, schema)


def test_each_action_is_described(filled: Client, queue_name: str) -> None:
    """By its body and its answer; what it refuses is an error of the document."""
    document = filled.read("/openapi.json")
    error = document["components"]["responses"]["Error"]["content"]["application/json"]["schema"]
    posts = {
        path: methods["post"] for path, methods in document["paths"].items() if "post" in methods
    }
    assert len(posts) > 20
    for path, operation in posts.items():
        assert operation["summary"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator.check_schema(body)
        names = {it["name"] for it in operation["parameters"]}
        assert names == {part[1:-1] for part in path.split("/") if part.startswith("{")}
        nowhere = path.replace("{queue}", "nowhere").replace("{", "").replace("}", "")
        answer = filled.post(f"/api/v1{nowhere}", json={"nonsense": 1})
        assert answer.status_code == 400
        jsonschema.validate(answer.json(), error)
    done = filled.act(f"/queues/{queue_name}/resume")
    schema = posts["/queues/{queue}/resume"]["responses"]["200"]["content"]["application/json"]
    jsonschema.validate(done, schema["schema"])


def _fill(client: Client, queue: str, count: int) -> None:
    """Make so many jobs in each state that can be large."""
    script = """
    local base = KEYS[1]
    local lists =
      { 'wait', 'active', 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }
    redis.call('HSET', base .. 'meta', 'version', 'x')
    for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
      local state = lists[i % #lists + 1]
      local id = tostring(i)
      redis.call('HSET', base .. id, 'name', 'x', 'data', '{"n":' .. i .. '}', 'timestamp', i,
        'failedReason', 'row ' .. i, 'finishedOn', i, 'processedOn', i)
      if state == 'wait' or state == 'active' then
        redis.call('LPUSH', base .. state, id)
      else
        redis.call('ZADD', base .. state, i, id)
      end
    end
    """

    base = client.queue(queue).keys.base

    async def main() -> None:
        broker = await Broker.connect(client.url)
        for first in range(1, count + 1, 7000):  # no script of seconds
            await broker.command("EVAL", script, 1, base, first, min(first + 6999, count))
        await broker.close()

    client.run(main())


def _cost(client: Client, path: str) -> tuple[int, set[str]]:
    """Return how many commands a read takes, those in scripts too, and which.

    The steps of the walk that looks for queues are left out: it goes on beside the reads.
    """

    async def ask(*command: str) -> Any:
        broker = await Broker.connect(client.url)
        try:
            return await broker.command(*command)
        finally:
            await broker.close()

    client.run(ask("CONFIG", "RESETSTAT"))
    client.read(path)
    lines = client.run(ask("INFO", "commandstats")).decode().splitlines()
    pairs = [line.removeprefix("cmdstat_").split(":calls=") for line in lines if ":calls=" in line]
    calls = {name: int(rest.partition(",")[0]) for name, rest in pairs}
    calls.pop("scan", None)
    return sum(calls.values()), set(calls)


PATHS = (
    "/overview",
    "/queues/{q}",
    *(f"/queues/{{q}}/jobs?state={state}" for state in ("waiting", "active", "failed")),
    *(f"/queues/{{q}}/jobs?state={state}&start=1500" for state in ("completed", "delayed")),
    "/queues/{q}/jobs/7",
    "/queues/{q}/jobs/9",
    "/queues/{q}/jobs/9/flow",
    "/queues/{q}/jobs/9/logs",
    "/failures?within=500",
    "/deaths?within=500",
    *("/latency", "/schedulers", "/doctor", "/audit"),
)


def test_a_large_queue_costs_what_a_small_one_does(client: Client, queue_name: str) -> None:
    """Beyond what a page shows or samples, more jobs take no more commands; none of a whole key."""
    paths = [path.replace("{q}", queue_name) for path in PATHS]
    _fill(client, queue_name, 14_000)
    client.read("/overview")
    small = {path: _cost(client, path)[0] for path in paths}
    _fill(client, queue_name, 84_000)
    for path in paths:
        calls, names = _cost(client, path)
        assert calls <= small[path] + 50, path
        assert not names & WHOLE, path


def test_a_search_looks_at_so_many(client: Client, queue_name: str) -> None:
    """The newest ten thousand; it says how many it was."""
    _fill(client, queue_name, 84_000)
    page = client.read(f"/queues/{queue_name}/jobs?state=failed&search=nothing")
    assert 0 < page["looked_at"] <= 10_000
