"""The profile of a job on the page: asked for, drawn, downloaded; a job's texts harm nobody."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.attempts import Report, report
from sandboxq.broker.commands.workers import ask_for_facts
from tests.conftest import Gate
from tests.profile.sampling import JOBS
from tests.worker.test_worker import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Client

NASTY = "<img src=x onerror=alert(1)>"


def stored(**members: Any) -> bytes:
    """Return a profile as Redis has it."""
    document = {
        "id": "first", "job_id": "1", "name": "job", "attempt": 1, "worker": "w", "pid": 7,
        "at": 1_700_000_000.5, "clock": "wall", "hz": 100, "seconds": 2.0, "ended": "end",
        "samples": 30, "missed": 0, "note": "",
        "functions": [["", "", 0], ["process", "/app/jobs.py", 3], [NASTY, "/app/jobs.py", 9]],
        "nodes": [[0, 0, 0, 0, 0, 0], [0, 1, 5, 10, 500_000, 400], [1, 2, 11, 20, 1_500_000, 0]],
        **members,
    }  # fmt: skip
    return zlib.compress(json.dumps(document).encode())


def keep(client: Client, queue: str, job_id: str, profile: bytes) -> None:
    """Write a profile as a worker does, without a lock."""

    async def main() -> None:
        async with client.queue(queue) as it:
            rows = [Report(job_id.encode(), b"0", "profile", profile)]
            await it.connect()
            codes = await report(await client.app.dashboard.broker(), it.keys, rows)
            assert codes == [0]

    client.run(main())


def test_a_profile_is_shown_and_downloaded(client: Client) -> None:
    """With names that a job has chosen, which are text and nothing else."""
    (job_id,) = client.add("q", ("job", {}))
    path = f"/queues/q/jobs/{job_id}/profile"
    empty = client.read(path)
    assert (empty["profile"], empty["profiles"], empty["hot"]) == (None, [], [])
    assert "No profile yet" in client.get(path).text
    keep(client, "q", job_id, stored())
    keep(client, "q", job_id, stored(id="second", clock="cpu"))
    answer = client.read(path)
    assert [each["id"] for each in answer["profiles"]] == ["second", "first"]
    first = client.read(f"{path}?profile=first")
    assert first["profile"]["total"] == 2.0
    assert first["hot"][0] == {
        "name": NASTY, "file": "/app/jobs.py", "line": 9, "self_s": 1.5, "total_s": 1.5
    }  # fmt: skip
    page = client.get(f"{path}?profile=first").text
    assert NASTY not in page
    assert "flame.js" in page
    speedscope = client.get(f"/api/v1{path}/speedscope?profile=first")
    assert speedscope.json()["profiles"][0]["weights"] == [0.5, 1.5]
    assert "attachment" in speedscope.headers["content-disposition"]
    folded = client.get(f"/api/v1{path}/folded?profile=first").text
    assert folded.splitlines()[0] == "process (jobs.py):5 500000"
    for wrong in (f"{path}/svg", f"{path}/folded?profile=none"):
        assert client.get(f"/api/v1{wrong}").status_code == 404
    assert client.get("/api/v1/queues/q/jobs/none/profile").status_code == 404


def test_what_is_no_profile_is_not_shown(client: Client) -> None:
    """Anybody may write to the list: rubbish, bombs, trees that are none."""
    (job_id,) = client.add("q", ("job", {}))
    ring = [[0, 0, 0, 0, 0, 0], [2, 1, 0, 1, 1, 1], [1, 1, 0, 1, 1, 1]]
    wrongs = [
        b"rubbish",
        zlib.compress(b"[]"),
        zlib.compress(b" " * (64 << 20)),
        stored(nodes=ring),
        stored(nodes=[[0, 99, 0, 1, 1, 1]]),
        stored(functions=None),
        stored(nodes=[[0, 0, 0, 1, 1e400, 1]]),
        stored(seconds=1e400),
        stored(at=-1e400),
        stored(attempt=10**400),
    ]
    for each in wrongs:
        keep(client, "q", job_id, each)
        assert client.read(f"/queues/q/jobs/{job_id}/profile")["profiles"] == []
        assert client.get(f"/queues/q/jobs/{job_id}/profile").status_code == 200


def test_sampling_from_the_page(client: Client, tmp_path: Path) -> None:
    """A running job by a click, the next runs of its name by another."""
    gate = Gate(tmp_path)

    async def main() -> None:
        options: dict[str, Any] = {"processor": JOBS, "procs": 1, "prefix": client.prefix}
        async with client.queue("q") as queue, running(client.url, "q", **options):
            broker = await client.app.dashboard.broker()
            # A worker that answers knows which jobs are wanted.
            while not await ask_for_facts(broker, [queue.keys]):
                pass
            await queue.resume()
            job = await queue.read_job(job_id)
            gate.open()
            await job.result(timeout=60)

    (job_id,) = client.add("q", ("split", {"do": "split", "gate": gate.path}))
    refused = client.post(f"/api/v1/queues/q/jobs/{job_id}/profile", json={"seconds": 1})
    assert (refused.status_code, "waiting" in refused.text) == (409, True)
    assert client.post("/api/v1/queues/q/jobs/none/profile", json={}).status_code == 404
    assert (
        client.post("/api/v1/queues/q/profile", json={"name": "x", "runs": -1}).status_code == 400
    )
    told = client.act("/queues/q/profile", name="split", runs=1)
    assert "next 1 runs of split" in told["message"]
    assert client.read(f"/queues/q/jobs/{job_id}/profile")["wanted"] == 1
    client.act("/queues/q/pause")
    client.run(main())
    answer = client.read(f"/queues/q/jobs/{job_id}/profile")
    assert (answer["wanted"], len(answer["profiles"]), answer["state"]) == (0, 1, "completed")
