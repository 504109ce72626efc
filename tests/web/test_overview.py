"""The overview: queues, counts, and the command that serves it."""

from __future__ import annotations

from typing import Any

from tests.conftest import wait_until
from tests.web.conftest import Client


def test_a_queue_is_seen_with_its_counts(client: Client, queue_name: str) -> None:
    """The first thing that anybody looks at."""
    client.add(queue_name, ("a", {}), ("b", {}, {"delay": 60}), ("c", {}, {"priority": 2}))
    (row,) = client.read("/overview")["queues"]
    assert row["name"] == queue_name
    assert row["counts"]["waiting"] == row["counts"]["delayed"] == row["counts"]["prioritized"] == 1
    assert row["oldest"] < 600
    assert queue_name in client.get("/").text


def test_a_queue_is_paused_and_resumed(client: Client, queue_name: str) -> None:
    """What the page does is seen there."""
    client.add(queue_name, ("a", {}))
    assert "paused" in client.act(f"/queues/{queue_name}/pause")["message"]
    assert client.read("/overview")["queues"][0]["is_paused"]
    assert client.post(f"/queues/{queue_name}/resume").status_code == 200
    assert not client.read("/overview")["queues"][0]["is_paused"]


def test_queues_come_and_go(client: Client, queue_name: str) -> None:
    """They are found by a walk over the keys; one that is obliterated is forgotten."""
    client.add(queue_name, ("a", {}))

    def names() -> list[str]:
        return [row["name"] for row in client.read("/overview")["queues"]]

    assert wait_until(lambda: names() == [queue_name])
    client.add("another", ("a", {}))
    assert wait_until(lambda: names() == ["another", queue_name])

    async def remove() -> None:
        async with client.queue("another") as queue:
            await queue.obliterate(force=True)

    client.run(remove())
    assert wait_until(lambda: names() == [queue_name])


def test_two_hundred_queues_take_one_script_each(client: Client, queue_name: str) -> None:
    """In one round trip, and the list says when there are more than are known."""
    for number in range(200):
        client.add(f"{queue_name}-{number}", ("a", {}))
    overview = wait_until(lambda: complete(client))
    assert len(overview["queues"]) == 200
    assert sum(row["counts"]["waiting"] for row in overview["queues"]) == 200


def complete(client: Client) -> Any:
    """Return the overview once all queues are known."""
    overview = client.read("/overview")
    return overview if overview["is_complete"] else None


def test_named_queues_alone_are_shown(server_url: str, queue_name: str) -> None:
    """What was not named is neither listed nor reached."""
    client = Client(server_url, prefix=f"p{queue_name}", queues=["shown"])
    try:
        client.add("shown", ("a", {}))
        client.add("hidden", ("secret name", {}))
        assert [row["name"] for row in client.read("/overview")["queues"]] == ["shown"]
        for path in ("/queues/hidden", "/queues/hidden/jobs", "/queues/hidden/jobs/1"):
            assert client.get(f"/api/v1{path}").status_code == 404
        assert client.post("/api/v1/queues/hidden/pause", json={}).status_code == 404
        assert client.read("/search?q=secret")["jobs"] == []
    finally:
        client.close()
