"""The same operations by Node and by sandboxq on two queues must leave the same in Redis.

Compared are all keys, lists, scores, hashes (their JSON parsed) and the whole event stream; times
are masked, since two runs cannot share them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from sandboxq.model.backoff import Backoff
from sandboxq.model.job import Deduplication, Keep, Parent
from tests.interop.dump import dump

if TYPE_CHECKING:
    from sandboxq.queue.options import AddOptions
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

# (name, data, options for Node, the same options for sandboxq)
ADDS: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
    ("plain", {"a": 1, "s": "größer 🙂"}, {}, {}),
    ("nothing", None, {}, {}),
    ("lifo", [1, 2], {"lifo": True}, {"lifo": True}),
    ("delayed", 1, {"delay": 600_000}, {"delay": 600}),
    ("urgent", 1, {"priority": 3}, {"priority": 3}),
    ("also urgent", 1, {"priority": 3}, {"priority": 3}),
    ("delayed, urgent", 1, {"delay": 700_000, "priority": 2}, {"delay": 700, "priority": 2}),
    ("named", 1, {"jobId": "größe"}, {"job_id": "größe"}),
    ("named", 2, {"jobId": "größe"}, {"job_id": "größe"}),
    ("retries", 1, {"attempts": 3}, {"attempts": 3}),
    (
        "fixed",
        1,
        {"attempts": 3, "backoff": {"type": "fixed", "delay": 1500}},
        {"attempts": 3, "backoff": Backoff.fixed(1.5)},
    ),
    (
        "exponential",
        1,
        {"attempts": 3, "backoff": {"type": "exponential", "delay": 500, "jitter": 0.5}},
        {"attempts": 3, "backoff": Backoff.exponential(0.5, jitter=0.5)},
    ),
    (
        "kept",
        1,
        {"removeOnComplete": {"age": 60, "count": 5}, "removeOnFail": True},
        {"remove_on_complete": Keep(count=5, age=60), "remove_on_fail": True},
    ),
    ("count", 1, {"removeOnComplete": 5}, {"remove_on_complete": 5}),
    ("all", 1, {"removeOnComplete": False}, {"remove_on_complete": False}),
]

# (name, data, options), added by Node in both queues.
FAILING = {"times": 9, "message": "zu groß"}
RUNS: list[tuple[str, Any, dict[str, Any]]] = [
    ("echo", {"s": "größer 🙂"}, {}),
    ("nothing", 1, {}),
    ("report", {"src": "a.jpg"}, {}),
    ("echo", 1, {"priority": 4}),
    ("echo", 1, {"delay": 20}),
    ("echo", 1, {"delay": 20, "priority": 4}),
    ("echo", 1, {"jobId": "größe"}),
    ("fail", FAILING, {}),
    ("fail", FAILING, {"attempts": 2}),
    ("fail", FAILING, {"attempts": 2, "priority": 4}),
    ("fail", FAILING, {"attempts": 3, "backoff": 10}),
    ("fail", FAILING, {"attempts": 3, "backoff": {"type": "exponential", "delay": 5}}),
    ("fail", FAILING, {"attempts": 4, "stackTraceLimit": 2}),
    ("fail", {**FAILING, "times": 1}, {"attempts": 2, "lifo": True}),
    ("give-up", {"message": "hopeless"}, {"attempts": 3}),
    ("report", {}, {"keepLogs": 1}),
    ("echo", 1, {"removeOnComplete": True}),
    ("fail", FAILING, {"removeOnFail": True}),
    ("echo", 1, {"removeOnComplete": 3}),
    ("fail", FAILING, {"removeOnFail": {"count": 4, "age": 1000}}),
    ("postpone", {"ms": 20}, {}),
    ("postpone", {"ms": 20}, {"priority": 4}),
    ("put-back", {}, {}),
    ("put-back", {}, {"priority": 4}),
    ("limit-rate", {"ms": 50}, {}),
    ("limit-rate", {"ms": 50}, {"priority": 4}),
    ("echo", 1, {"deduplication": {"id": "once"}}),
    ("echo", 1, {"deduplication": {"id": "for a while", "ttl": 600_000}}),
]


# Steps of (options for Node, the same for sandboxq), all in one queue.
DEDUPLICATED: list[tuple[dict[str, Any], Deduplication]] = [
    ({"id": "once"}, Deduplication("once")),
    ({"id": "once"}, Deduplication("once")),
    ({"id": "a while", "ttl": 60_000}, Deduplication("a while", ttl=60)),
    ({"id": "a while", "ttl": 60_000}, Deduplication("a while", ttl=60)),
    ({"id": "ext", "ttl": 60_000, "extend": True}, Deduplication("ext", ttl=60, extend=True)),
    ({"id": "ext", "ttl": 60_000, "extend": True}, Deduplication("ext", ttl=60, extend=True)),
    ({"id": "swap", "replace": True}, Deduplication("swap", replace=True)),
    ({"id": "swap", "replace": True}, Deduplication("swap", replace=True)),
    ({"id": "last", "keepLastIfActive": True}, Deduplication("last", keep_last_if_active=True)),
    ({"id": "last", "keepLastIfActive": True}, Deduplication("last", keep_last_if_active=True)),
]


async def test_adds_leave_the_same(node: NodeSide, our_twin: OurSide, server_url: str) -> None:
    """Scores, list ends, markers, counters and events of an add are read by every Node."""
    async with our_twin.queue() as queue:
        for name, data, node_opts, our_opts in ADDS:
            await node.add(name, data, node_opts)
            await queue.add(name, data, **our_opts)

    assert dump(server_url, our_twin.queue_name) == dump(server_url, node.queue_name)


async def test_deduplicated_adds_leave_the_same(
    node: NodeSide, our_twin: OurSide, server_url: str
) -> None:
    """Which of two jobs survives must not depend on the language that added the second."""
    if node.version.startswith("5"):
        pytest.skip("version 5 emits one more event, `debounced`")
    async with our_twin.queue() as queue:
        for number, (theirs, ours) in enumerate(DEDUPLICATED):
            await node.add("echo", number, {"delay": 600_000, "deduplication": theirs})
            await queue.add("echo", number, delay=600, deduplication=ours)

    assert dump(server_url, our_twin.queue_name) == dump(server_url, node.queue_name)


async def test_children_of_a_running_parent_leave_the_same(
    node: NodeSide, our_twin: OurSide, server_url: str
) -> None:
    """A processor may add children to its own job; their flags decide over the parent later."""
    flags = {"fail": "failParentOnFailure", "continue": "continueParentOnFailure"}
    flags |= {"ignore": "ignoreDependencyOnFailure", "remove": "removeDependencyOnFailure"}
    parent = {"id": await node.add("echo", "parent"), "queue": f"bull:{node.queue_name}"}
    async with our_twin.queue() as queue:
        ours = (await queue.add("echo", "parent")).id
        for policy, flag in flags.items():
            await node.add("echo", policy, {"parent": parent, flag: True})
            whole = Parent(ours, our_twin.queue_name, policy)  # type: ignore[arg-type]
            await queue.add("echo", policy, parent=whole)

    assert dump(server_url, our_twin.queue_name) == dump(server_url, node.queue_name)


async def test_a_batch_leaves_the_same(node: NodeSide, our_twin: OurSide, server_url: str) -> None:
    """`add_bulk` has its own encoding, but must write what single adds write."""
    await node.queue("addBulk", [{"name": n, "data": d, "opts": o} for n, d, o, _ in ADDS])
    async with our_twin.queue() as queue:
        await queue.add_bulk(
            [(name, data, cast("AddOptions", opts)) for name, data, _, opts in ADDS]
        )

    assert dump(server_url, our_twin.queue_name) == dump(server_url, node.queue_name)


async def test_runs_leave_the_same(
    node: NodeSide, twin: NodeSide, our_twin: OurSide, server_url: str
) -> None:
    """Every way in which an attempt can end, written by two workers for the same producer."""
    await node.start_worker(name="same")
    await run_one_by_one(node)
    await node.stop_workers()
    async with our_twin.worker(name="same"):
        await run_one_by_one(twin)

    ours, theirs = dump(server_url, twin.queue_name), dump(server_url, node.queue_name)
    for key in ("stalled", "stalled-check", "limiter"):
        # When a worker last looked for stalled jobs, or whether a limit is over, is timing.
        ours.pop(key, None)
        theirs.pop(key, None)
    assert ours.keys() == theirs.keys()
    for key in theirs:
        assert ours[key] == theirs[key], key


async def run_one_by_one(node: NodeSide) -> None:
    """Add each job when the worker sleeps after the one before, so that two queues see the same."""
    await node.start_events()
    for name, data, opts in RUNS:
        await node.events_until(await node.add(name, data, opts), "completed", "failed")
        await node.until_idle()


async def test_operations_leave_the_same(
    node: NodeSide, our_twin: OurSide, server_url: str
) -> None:
    """Pause, resume, remove and obliterate are written by operators' tools in both languages."""
    if node.version.startswith("5"):
        pytest.skip("version 5 keeps the jobs of a paused queue in a list of its own")
    theirs, ours = [], []
    async with our_twin.queue() as queue:
        await node.add("echo", 0, {"delay": 600_000})
        await queue.add("echo", 0, delay=600)
        for node_step, our_step in [("pause", queue.pause), ("resume", queue.resume)]:
            await node.queue(node_step)
            await our_step()
            theirs.append(dump(server_url, node.queue_name))
            ours.append(dump(server_url, our_twin.queue_name))
        for number in range(4):
            await node.add("echo", number, {"priority": number})
            await queue.add("echo", number, priority=number)
        for job_id in ("1", "2", "4"):
            await node.queue("remove", job_id)
            await queue.remove(job_id)
        theirs.append(dump(server_url, node.queue_name))
        ours.append(dump(server_url, our_twin.queue_name))
        await node.queue("obliterate", {"force": True})
        await queue.obliterate(force=True)
        theirs.append(dump(server_url, node.queue_name))
        ours.append(dump(server_url, our_twin.queue_name))

    assert ours == theirs
