"""The overview: queues, counts, and the command that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
