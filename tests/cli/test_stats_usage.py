"""`stats --usage`: what jobs have cost, for eyes and for programs."""

from __future__ import annotations

import json

from sandboxq import Queue, Worker
from tests.commands import run_command
from tests.conftest import SOON, run_async
from tests.worker.test_worker import PROCESSOR


def test_costs_of_a_queue(server_url: str, queue_name: str) -> None:
    """Who pays for the machine asks which queue it is for."""

    async def work() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk([("sleep", {"do": "sleep", "seconds": 0.1})] * 3)
        async with Worker(queue_name, PROCESSOR, url=server_url, procs=1) as worker:
            await worker.run(burst=True)

    run_async(work())
    rows = json.loads(_stats(server_url, queue_name, "--json"))[queue_name]
    assert (rows["attempts"], rows["crashes"]) == (3, 0)
    assert 0.3 <= rows["wall"] < SOON
    assert rows["peak_rss"] > 1 << 20
    header, row = _stats(server_url, queue_name).splitlines()
    assert header.split()[:3] == ["queue", "attempts", "crashes"]
    assert row.split()[:3] == [queue_name, "3", "0"]


def _stats(url: str, *arguments: str) -> str:
    done = run_command("stats", "--usage", *arguments, "--url", url)
    assert done.returncode == 0, done.stderr
    return done.stdout
