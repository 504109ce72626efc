"""The actions: what comes of each, who may, and that it is written down."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from sandboxq.broker.connect.broker import Broker
from sandboxq.worker.worker import Worker
from tests.web.conftest import OWN, Client

if TYPE_CHECKING:
    from pathlib import Path


def counts(client: Client, queue: str) -> dict[str, int]:
    """Return the queue's jobs by state, those with any."""
    found: dict[str, int] = client.read(f"/queues/{queue}")["queue"]["counts"]
    return {state: count for state, count in found.items() if count}


def fail_all(client: Client, queue: str, folder: Path) -> None:
    """Run what waits by a processor that fails."""
    path = folder / "fails.py"
    path.write_text("def process(job):\n    raise ValueError(f'bad {job.data}')\n")

    async def main() -> None:
        async with Worker(
            queue, str(path), url=client.url, prefix=client.prefix, procs=1
        ) as worker:
            await worker.run(burst=True)

    client.run(main())


def test_a_job_is_added_and_changed(client: Client, queue_name: str) -> None:
    """From the form to the priority that it has then."""
    client.add(queue_name, ("first", {}))
    path = f"/queues/{queue_name}/jobs"
    added = client.act(path, name="new", data={"n": 1}, delay=60, attempts=3)
    job_id = added["id"]
    assert counts(client, queue_name) == {"waiting": 1, "delayed": 1}
    client.act(f"{path}/{job_id}/delay", delay=120)
    client.act(f"{path}/{job_id}/promote")
    client.act(f"{path}/{job_id}/priority", priority=3)
    job = client.read(f"{path}/{job_id}")
    assert (job["job"]["state"], job["job"]["priority"]) == ("prioritized", 3)
    assert job["options"]["value"]["attempts"] == 3
    client.act(f"{path}/{job_id}/remove")
    assert client.post(f"/api/v1{path}/{job_id}/remove").status_code == 404
    assert counts(client, queue_name) == {"waiting": 1}


def test_a_form_does_the_same(client: Client, queue_name: str) -> None:
    """Its texts become what the parameters are."""
    client.add(queue_name, ("first", {}))
    form = {"name": "new", "data": '{"n": [1]}', "priority": "5", "delay": ""}
    answer = client.post(f"/queues/{queue_name}/jobs", data=form)
    assert "was added" in answer.text
    (job,) = client.read(f"/queues/{queue_name}/jobs?state=prioritized")["jobs"]
    assert (job["data"], job["priority"]) == ('{"n":[1]}', 5)


def test_failed_jobs_are_retried_by_search_and_by_group(
    client: Client, queue_name: str, tmp_path: Path
) -> None:
    """The set that is shown is the set that is acted on: never more."""
    jobs: list[tuple[Any, ...]] = [("odd" if n % 2 else "even", {"n": n}) for n in range(30)]
    client.add(queue_name, *jobs)
    fail_all(client, queue_name, tmp_path)
    assert counts(client, queue_name) == {"failed": 30}
    done = client.act(f"/queues/{queue_name}/jobs/retry", state="failed", search="name:odd")
    assert (done["count"], counts(client, queue_name)) == (15, {"failed": 15, "waiting": 15})
    (group,) = client.read(f"/failures?queue={queue_name}")["groups"]
    done = client.act(f"/queues/{queue_name}/failures/{group['id']}/remove")
    assert (done["count"], counts(client, queue_name)) == (15, {"waiting": 15})
    picked = [job["id"] for job in client.read(f"/queues/{queue_name}/jobs")["jobs"]][:2]
    assert client.act(f"/queues/{queue_name}/jobs/remove", ids=picked)["count"] == 2
    assert counts(client, queue_name) == {"waiting": 13}


_MANY = """for i = 1, 12000 do
  redis.call('HSET', KEYS[1] .. i, 'name', 'x', 'data', '{}', 'opts', '{}', 'timestamp', i)
  redis.call('ZADD', KEYS[1] .. 'failed', i, i)
end"""


def test_of_more_jobs_than_are_searched_the_rest_is_said(client: Client, queue_name: str) -> None:
    """What was done is done to the newest; it may be done again."""
    client.add(queue_name, ("x", {}))

    async def main() -> None:
        broker = await Broker.connect(client.url)
        await broker.command("EVAL", _MANY, 1, client.queue(queue_name).keys.base)
        await broker.close()

    client.run(main())
    act = functools.partial(client.act, f"/queues/{queue_name}/jobs/remove", search="name:x")
    first = act()
    assert first["count"] == 10_000
    assert "10,000 jobs of this state were looked at, there may be more" in first["message"]
    assert act() == {"message": "2,000 jobs removed", "count": 2000}


def test_nothing_is_done_to_what_was_not_named(client: Client, queue_name: str) -> None:
    """A form that lost its search must not mean all jobs."""
    client.add(queue_name, ("x", {}))
    bodies: list[dict[str, Any]] = [
        {},
        {"search": "  "},
        {"ids": []},
        {"ids": ["1"], "search": "x"},
    ]
    for body in bodies:
        answer = client.post(f"/api/v1/queues/{queue_name}/jobs/remove", json=body)
        assert answer.status_code == 400, answer.text
    assert client.act(f"/queues/{queue_name}/jobs/remove", search="nix", state="waiting") == {
        "message": "no job fits: nothing was done",
        "count": 0,
    }
    assert counts(client, queue_name) == {"waiting": 1}


def test_whole_queues(client: Client, queue_name: str, tmp_path: Path) -> None:
    """Retry, clean, promote and drain say to how many jobs it was done."""
    client.add(queue_name, *(("x", {}) for _ in range(5)), ("later", {}, {"delay": 600}))
    fail_all(client, queue_name, tmp_path)
    assert client.act(f"/queues/{queue_name}/retry")["count"] == 5
    assert client.act(f"/queues/{queue_name}/promote")["count"] == 1
    assert client.act(f"/queues/{queue_name}/drain")["count"] == 6
    client.add(queue_name, ("y", {}))
    fail_all(client, queue_name, tmp_path)
    assert client.act(f"/queues/{queue_name}/clean", state="failed")["message"] == (
        "1 job removed (failed)"
    )
    assert counts(client, queue_name) == {}


def test_limits(client: Client, queue_name: str) -> None:
    """They are set and taken away."""
    client.add(queue_name, ("x", {}))
    path = f"/queues/{queue_name}/limits"
    client.act(path, concurrency=4, rate_max=10, rate_seconds=2.5)
    limits = client.read(f"/queues/{queue_name}")["limits"]
    assert (limits["concurrency"], limits["rate_max"], limits["rate_seconds"]) == (4, 10, 2.5)
    assert client.post(f"/api/v1{path}", json={"rate_max": 3}).status_code == 400
    client.act(path)
    limits = client.read(f"/queues/{queue_name}")["limits"]
    assert (limits["concurrency"], limits["rate_max"], limits["rate_seconds"]) == (None, None, None)


def test_schedulers(client: Client, queue_name: str) -> None:
    """Made, changed, run, removed."""
    client.add(queue_name, ("x", {}))
    path = f"/queues/{queue_name}/schedulers"
    client.act(
        path, id="nightly", cron="0 3 * * *", tz="UTC", name="tidy", data={"n": 1}, attempts=4
    )
    client.act(path, id="nightly", every=3600.0, name="tidy", data={"n": 2})
    (row,) = client.read("/schedulers")["schedulers"]
    assert (row["sentence"], row["data"]["value"]) == ("every hour", {"n": 2})
    client.act(f"{path}/nightly/run")
    page = client.read(f"/queues/{queue_name}/jobs?state=waiting&search=name:tidy")
    assert page["total"] >= 1
    client.act(f"{path}/nightly/remove")
    assert client.post(f"/api/v1{path}/nightly/run").status_code == 404
    assert client.read("/schedulers")["total"] == 0


@pytest.mark.parametrize("end_ms", [2**53 - 1, 1 - 2**53])
def test_a_scheduler_that_ends_in_no_year(client: Client, queue_name: str, end_ms: int) -> None:
    """It is refused in words."""
    client.add(queue_name, ("x", {}))
    wanted = {"id": "s", "every": 60, "end_ms": end_ms}
    answer = client.post(f"/api/v1/queues/{queue_name}/schedulers", json=wanted)
    assert answer.status_code == 400
    assert "year 9999" in answer.json()["error"]["message"]


def test_workers_are_scaled(client: Client, queue_name: str, tmp_path: Path) -> None:
    """Each answers; nobody is there is said, too."""
    client.add(queue_name, ("x", {}))
    path = tmp_path / "work.py"
    path.write_text("def process(job):\n    return 1\n")

    async def main() -> Any:
        async with Worker(queue_name, str(path), url=client.url, prefix=client.prefix, procs=1):
            from sandboxq.web.access import Role, Visitor
            from sandboxq.web.actions import Visit
            from sandboxq.web.queue_actions import scale_workers

            visit = Visit(client.app.dashboard, Visitor(Role.OPERATE, "me"))
            return await scale_workers(visit, queue=queue_name, procs=2)

    assert client.run(main())["count"] == 1
    assert client.act(f"/queues/{queue_name}/scale", procs=2)["count"] == 0


def test_each_action_is_written_down(client: Client, queue_name: str) -> None:
    """Who, what, when, and what came of it; secrets are not in it."""
    client.add(queue_name, ("x", {}))
    client.act(f"/queues/{queue_name}/jobs", name="n", data={"password": "hunter22"})
    client.post(f"/api/v1/queues/{queue_name}/jobs/77%0Apause_queue/promote")
    client.post("/api/v1/queues/nowhere/pause")
    rows = client.read("/audit")["entries"]
    assert [row["action"] for row in rows] == ["pause_queue", "promote_job", "add_job"]
    assert all(row["who"] == "local" and row["at_ms"] > 0 for row in rows)
    assert "refused" in rows[1]["outcome"]
    assert "hunter22" not in str(rows)
    assert "\n" not in rows[1]["outcome"]
    large = client.act(f"/queues/{queue_name}/jobs", name="large", data="x" * 100_000)
    assert large["count"] == 1
    assert "bytes of JSON" in client.read("/audit?count=1")["entries"][0]["arguments"]
    older = client.read(f"/audit?count=1&before={rows[0]['id']}")
    assert [row["action"] for row in older["entries"]] == ["promote_job"]


def test_data_that_is_nested_too_deep_is_refused_in_words(client: Client, queue_name: str) -> None:
    """Also where it can just be read, and not be written again."""
    client.add(queue_name, ("x", {}))
    for depth in range(860, 1000, 3):
        text = "[" * depth + "]" * depth
        body = f'{{"name": "n", "data": {text}}}'
        assert client.post(f"/api/v1/queues/{queue_name}/jobs", content=body).status_code == 400
        form = f"name=n&data={text}"
        of_form = {"content-type": "application/x-www-form-urlencoded"}
        answer = client.post(f"/queues/{queue_name}/jobs", content=form, headers=of_form)
        assert answer.status_code == 400


def test_a_page_of_some_queues_tells_of_these(client: Client, queue_name: str) -> None:
    """The log is one of all pages of a prefix; others are in it too."""
    other, name = f"{queue_name}-other", f'{queue_name} "é'
    for each in (other, name):
        client.add(each, ("x", {}))
        client.act(f"/queues/{quote(each)}/jobs", name="n", data={"of": each})
    page = Client(client.url, prefix=client.prefix, queues=[name])
    told = page.read("/audit")
    page.close()
    assert [name in json.loads(row["arguments"]).values() for row in told["entries"]] == [True]
    assert len(client.read("/audit")["entries"]) == 2


def test_who_may_look_alone_changes_nothing(server_url: str, queue_name: str) -> None:
    """The check is in the actions themselves, and before them."""
    client = Client(server_url, prefix=f"p{queue_name}", read_only=True)
    try:
        client.add(queue_name, ("x", {}))
        answer = client.ask("POST", f"/api/v1/queues/{queue_name}/pause", headers=OWN)
        assert answer.status_code == 403
        assert client.read("/audit")["entries"] == []
        assert not client.read("/overview")["queues"][0]["is_paused"]
    finally:
        client.close()


def test_a_scheduler_keeps_its_data_when_its_times_are_changed(
    client: Client, queue_name: str
) -> None:
    """The page hides secrets in data: what it does not send must not be lost."""
    client.add(queue_name, ("a", {}))
    path = f"/queues/{queue_name}/schedulers"
    client.act(path, id="nightly", every=3600, data={"token": "s3cret", "n": 1})
    client.act(path, id="nightly", every=7200)

    async def stored() -> Any:
        async with client.queue(queue_name) as queue:
            scheduler = await queue.get_scheduler("nightly")
            return scheduler and (scheduler.every, scheduler.data)

    assert client.run(stored()) == (7200, {"token": "s3cret", "n": 1})
