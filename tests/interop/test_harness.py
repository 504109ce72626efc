"""Node against Node: what these tests rely on before sandboxq takes part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conftest import wait_until_async
from tests.interop.board import Board

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide


async def test_node_runs_what_node_adds(node: NodeSide) -> None:
    """A harness that fails with Node on both sides would blame sandboxq for its own faults."""
    await node.start_events()
    await node.start_worker(name="harness")

    echoed = await node.add("echo", {"a": "größer 🙂"})
    failed = await node.add("fail", {"times": 1, "message": "boom"})

    assert await node.finished(echoed) == {"value": {"a": "größer 🙂"}}
    assert await node.finished(failed) == {"failedReason": "boom"}
    assert (await node.job(echoed))["processedBy"] == "harness"
    assert (await node.job(failed))["state"] == "failed"
    assert sorted(await node.runs()) == sorted([echoed, failed])

    async def has_drained() -> list[dict[str, Any]]:
        return await node.events("drained")

    await wait_until_async(has_drained)


async def test_the_board_answers(node: NodeSide) -> None:
    """The board's little server is ours; bull-board's own schemas check its answers."""
    await node.add("echo", 1)

    port = await node.call("openBoard")
    (shown,) = (await Board(port, node.queue_name).get(""))["queues"]

    assert shown["name"] == node.queue_name
    assert shown["counts"]["waiting"] == 1
