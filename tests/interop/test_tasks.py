"""Typed tasks and Node: arguments are an object that both write and read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq import Worker, connect_tasks, task
from tests.interop.conftest import NEWEST_ONLY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

pytestmark = NEWEST_ONLY

MODULE = """
from sandboxq import task

@task(queue=QUEUE)
def resize(path: str, *, width: int, tags: list[str]) -> dict[str, int]:
    return {path: width, **{tag: 1 for tag in tags}}
"""


async def test_arguments_are_an_object_to_node(
    node: NodeSide, ours: OurSide, tmp_path: Path
) -> None:
    """Node reads what Python enqueues, and enqueues what Python runs."""
    path = tmp_path / "tasks.py"
    path.write_text(MODULE.replace("QUEUE", repr(ours.queue_name)))

    @task(queue=ours.queue_name)
    def resize(path: str, *, width: int, tags: tuple[str, ...] = ()) -> dict[str, int]:
        return {path: width, tags[0]: 2}

    connect_tasks(ours.url)
    by_python = await resize.aenqueue("a.jpg", width=320, tags=("x",))
    assert (await node.job(by_python.id))["data"] == {
        "path": "a.jpg",
        "width": 320,
        "tags": ["x"],
    }
    by_node = await node.add("resize", {"width": 1, "path": "b.jpg", "tags": []})
    async with Worker(ours.queue_name, path, url=ours.url, procs=1) as worker:
        await worker.run(burst=True)
    assert await by_python.result(60) == {"a.jpg": 320, "x": 1}
    assert (await node.job(by_node))["returnvalue"] == {"b.jpg": 1}
    connect_tasks(None)
