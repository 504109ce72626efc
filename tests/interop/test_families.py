"""Parents and their children, through all that can happen to a child, by Node and by sandboxq."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.conftest import NEWEST_ONLY
from tests.interop.pair import CHILDREN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq import Queue
    from tests.interop.node_driver import NodeSide
    from tests.interop.pair import Pair

    Step = tuple[Callable[[NodeSide], Awaitable[Any]], Callable[[Queue], Awaitable[Any]]]

pytestmark = NEWEST_ONLY

HOUR_MS = 3_600_000
FAILING = {"times": 9, "message": "zu groß"}
FLAGS = {
    "wait": None,
    "fail": "failParentOnFailure",
    "continue": "continueParentOnFailure",
    "ignore": "ignoreDependencyOnFailure",
    "remove": "removeDependencyOnFailure",
}
ROOTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "urgent": {"priority": 3},
    "late": {"delay": HOUR_MS},
    "lifo": {"lifo": True},
}
LOOKS = {
    "getDependencies": "dependencies",
    "getDependenciesCount": "dependencies_count",
    "getChildrenValues": "children_values",
    "getIgnoredChildrenFailures": "ignored_children_failures",
}


def child(job_id: str, name: str = "echo", data: Any = 1, **opts: Any) -> dict[str, Any]:
    """Return a child of a flow, as Node takes it, its queue still open."""
    return {"name": name, "data": data, "opts": {"jobId": job_id, **opts}}


def tree(queue: str, place: str, opts: dict[str, Any], *children: dict[str, Any]) -> Any:
    """Return a flow with its root in one queue and its children in that beside it, or the same."""
    placed = [{**each, "queueName": queue + place} for each in children]
    root = {"name": "root", "queueName": queue, "data": {}, "opts": {"jobId": "root", **opts}}
    return {**root, "children": placed}


@pytest.mark.parametrize("removed", [False, True], ids=["kept", "removed"])
async def test_what_failed_children_do(pair: Pair, *, removed: bool) -> None:
    """Each policy, for parents of each kind; then the children are retried, and removed."""
    roots = {
        f"{policy}-{kind}": (flag, opts)
        for policy, flag in FLAGS.items()
        for kind, opts in ROOTS.items()
    }
    for side in pair.sides():
        for name, (flag, opts) in roots.items():
            flags = {flag: True} if flag else {}
            kept = {"removeOnFail": True} if removed else {}
            bad = child(f"bad-{name}", "fail", FAILING, **flags, **kept)
            flow = tree(side.queue_name, CHILDREN, opts, bad, child(f"good-{name}"))
            flow["opts"]["jobId"] = name
            await side.call("flow", tree=flow)

    bad_ids, good_ids = ([f"{kind}-{name}" for name in roots] for kind in ("bad", "good"))
    await pair.run_both(bad_ids + good_ids, place=CHILDREN)

    # Children settled together may meet their parents in another order than one by one.
    assert _of_parents(pair) == []
    assert pair.differences(CHILDREN, ran=True) == []
    await _assert_read_alike(pair, list(roots))
    if not removed:
        await _retry_and_remove(pair, bad_ids)
        assert _of_parents(pair) == []


def _of_parents(pair: Pair) -> list[str]:
    return pair.differences(ran=True)


async def _assert_read_alike(pair: Pair, ids: list[str]) -> None:
    async with pair.ours.queue() as queue:
        for job_id in ids:
            for method, ours in LOOKS.items():
                theirs = await pair.twin.call("jobMethod", id=job_id, method=method, args=[])
                found = await getattr(queue, ours)(job_id)
                if hasattr(found, "_asdict"):
                    found = {k: v for k, v in found._asdict().items() if k != "cursor"}
                assert found == theirs, (job_id, method)


async def _retry_and_remove(pair: Pair, ids: list[str]) -> None:
    below = pair.children(pair.node)
    async with pair.our_children.queue() as queue:
        for job_id in ids:
            await below.call("jobMethod", id=job_id, method="retry", args=["failed"])
            await queue.retry(job_id)
        assert pair.differences(CHILDREN, ran=True) == []
        for job_id in ids[::2]:
            await below.queue("remove", job_id)
            await queue.remove(job_id)
        assert pair.differences(CHILDREN, ran=True) == []


KIDS = [child("c1"), child("c2", priority=2), child("c3", delay=HOUR_MS)]


def node(method: str, *args: Any) -> Callable[[NodeSide], Awaitable[Any]]:
    """Return a step that calls a method of Node's Queue."""
    return lambda side: side.queue(method, *args)


OPERATIONS: dict[str, Step] = {
    "drain": (node("drain"), lambda q: q.drain()),
    "drain all": (node("drain", True), lambda q: q.drain(delayed=True)),  # noqa: FBT003 - Node's signature
    "clean waiting": (node("clean", 0, 0, "wait"), lambda q: q.clean(0, "waiting")),
    "clean prioritized": (node("clean", 0, 0, "prioritized"), lambda q: q.clean(0, "prioritized")),
    "clean delayed": (node("clean", 0, 0, "delayed"), lambda q: q.clean(0, "delayed")),
    "obliterate": (node("obliterate", {"force": True}), lambda q: q.obliterate(force=True)),
    "remove one": (node("remove", "c1"), lambda q: q.remove("c1")),
    "pause": (node("pause"), lambda q: q.pause()),
}


@pytest.mark.parametrize("place", ["", CHILDREN], ids=["one queue", "two queues"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_operations_on_children(pair: Pair, name: str, place: str) -> None:
    """What takes children away decides over parents in the same queue, and in another."""
    for side in pair.sides():
        await side.call("flow", tree=tree(side.queue_name, place, {"priority": 3}, *KIDS))
    theirs, ours = OPERATIONS[name]

    await theirs(pair.sides(place)[0])
    async with (pair.our_children if place else pair.ours).queue() as queue:
        await ours(queue)

    assert pair.differences("", CHILDREN) == []


@pytest.mark.parametrize("locked", [False, True], ids=["free", "locked"])
@pytest.mark.parametrize("with_children", [False, True], ids=["alone", "with children"])
async def test_removing_a_parent(pair: Pair, *, with_children: bool, locked: bool) -> None:
    """With its children or without; not while one of them is being processed."""
    for side in pair.sides():
        await side.call("flow", tree=tree(side.queue_name, CHILDREN, {}, *KIDS))
        if locked:
            await pair.children(side).call("claim", holder="somebody", lockDuration=60_000)

    theirs = await pair.node.queue("remove", "root", {"removeChildren": with_children})
    async with pair.ours.queue() as queue:
        if locked and with_children:
            assert theirs == 0
            with pytest.raises(Exception, match="locked by another"):
                await queue.remove("root")
        else:
            assert await queue.remove("root", with_children=with_children) is bool(theirs)

    assert pair.differences("", CHILDREN) == []
