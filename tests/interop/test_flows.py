"""Flows by Node and by sandboxq: the same in Redis, run by either side's workers, read by both."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.model.backoff import Backoff
from sandboxq.queue.flow import Flow, FlowProducer
from tests.conftest import wait_until_async
from tests.interop.dump import dump
from tests.interop.node_driver import NodeError, NodeSide
from tests.interop.our_side import OurSide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.flow_plan import FlowNode

# By sandboxq's word for it, Node's flag.
POLICIES = {
    "fail": "failParentOnFailure",
    "continue": "continueParentOnFailure",
    "ignore": "ignoreDependencyOnFailure",
    "remove": "removeDependencyOnFailure",
}
# What a test says of a node, in sandboxq's words; the same for Node below.
OPTIONS = {
    "job_id": "jobId",
    "delay": "delay",
    "priority": "priority",
    "attempts": "attempts",
    "lifo": "lifo",
    "backoff": "backoff",
    "remove_on_complete": "removeOnComplete",
}
FINISH_SECONDS = 20


def leaf(name: str, place: str = "", *children: Any, **options: Any) -> dict[str, Any]:
    """Return one job of a tree: ``place`` is added to the queue's name; ids are the names.

    ``policy``, ``data`` and ``queue`` aside, the options are those of ``add``.
    """
    data = options.pop("data", {"n": name})
    policy = options.pop("policy", None)
    options = {"job_id": name, **options}
    return {
        "name": options.pop("kind", name),
        "place": place,
        "data": data,
        "policy": policy,
        "options": {key: value for key, value in options.items() if value is not None},
        "children": list(children),
    }


def ours_of(tree: dict[str, Any], queue: str) -> FlowNode:
    """Return a tree as sandboxq's producer takes it."""
    whole: Any = {"name": tree["name"], "queue": queue + tree["place"], "data": tree["data"]}
    whole["opts"] = tree["options"]
    if tree["policy"]:
        whole["on_failure"] = tree["policy"]
    if tree["children"]:
        whole["children"] = [ours_of(child, queue) for child in tree["children"]]
    return whole  # type: ignore[no-any-return]  # built from strings


def theirs_of(tree: dict[str, Any], queue: str) -> dict[str, Any]:
    """Return a tree as Node's producer takes it."""
    opts = {OPTIONS[key]: _node_value(value) for key, value in tree["options"].items()}
    if "delay" in opts:
        opts["delay"] *= 1000
    if tree["policy"]:
        opts[POLICIES[tree["policy"]]] = True
    whole = {"name": tree["name"], "queueName": queue + tree["place"], "data": tree["data"]}
    children = [theirs_of(child, queue) for child in tree["children"]]
    return {**whole, "opts": opts, **({"children": children} if children else {})}


def _node_value(value: Any) -> Any:
    if isinstance(value, Backoff):
        return {"type": value.kind, "delay": value.delay * 1000}
    return value


TREES: dict[str, dict[str, Any]] = {
    "single": leaf("root"),
    "policies": leaf(
        "root",
        "",
        leaf("plain", "-c"),
        *[leaf(policy, "-c", policy=policy) for policy in POLICIES],
    ),
    "three deep": leaf(
        "root",
        "",
        leaf("a", "-c", leaf("a1", "-d", leaf("a1x", "-c")), leaf("a2", "-d", policy="fail")),
        leaf("b", "-d", leaf("b1", "", policy="ignore"), leaf("b2", "-c"), policy="continue"),
        leaf("c"),
    ),
    "options": leaf(
        "root",
        "",
        leaf("later", "-c", delay=600),
        leaf("urgent", "-c", priority=4),
        leaf("both", "-c", delay=700, priority=2),
        leaf("last in", "-c", lifo=True),
        leaf("tries", "-c", attempts=3, backoff=Backoff.fixed(1.5), data=["ü", None]),
        leaf("parent later", "-c", leaf("below", "-c"), delay=60),
        leaf("parent urgent", "-c", leaf("beneath", "-c"), priority=9),
        delay=30,
        priority=5,
        remove_on_complete=7,
    ),
}


@pytest.fixture
def twin(node: NodeSide) -> Iterator[NodeSide]:
    """Return Node's side of a second queue, for what sandboxq does."""
    twin = NodeSide(node.driver, f"q-{uuid.uuid4().hex[:12]}", node.version)
    yield twin
    for place in ("", "-c", "-d"):
        node.driver.ask("leave", queue=twin.queue_name + place).result(60)


def dumps(url: str, queue: str) -> dict[str, Any]:
    """Return what the queues of a flow hold, the common part of their names masked."""
    whole = {place: dump(url, queue + place) for place in ("", "-c", "-d")}
    for keys in whole.values():
        # Node looks at the clock for each job: equal milliseconds are ordered by id.
        keys.get("waiting-children", []).sort()
    return dict(json.loads(json.dumps(whole, sort_keys=True).replace(queue, "<queue>")))


def assert_same(url: str, ours: NodeSide, theirs: NodeSide) -> None:
    """Compare what two flows left, key by key."""
    left, right = dumps(url, ours.queue_name), dumps(url, theirs.queue_name)
    for place, keys in right.items():
        assert left[place].keys() == keys.keys()
        for key, value in keys.items():
            assert left[place][key] == value, f"{place} {key}"


def is_old(node: NodeSide) -> bool:
    """Whether this is version 5, which treats children that exist differently."""
    return node.version.startswith("5")


# ── adds leave the same ─────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TREES)
async def test_flows_leave_the_same(
    node: NodeSide, twin: NodeSide, server_url: str, name: str
) -> None:
    """Every key, field, score and event, in every queue."""
    tree = TREES[name]
    await node.call("flow", tree=theirs_of(tree, node.queue_name))
    async with FlowProducer(server_url) as producer:
        await producer.add_bulk([ours_of(tree, twin.queue_name)])

    assert_same(server_url, twin, node)


async def test_many_flows_leave_the_same(node: NodeSide, twin: NodeSide, server_url: str) -> None:
    """`add_bulk` puts the trees into the queues in the order that Node does."""
    trees = [_renamed(tree, str(number)) for number, tree in enumerate(TREES.values())]
    await node.call("flows", trees=[theirs_of(tree, node.queue_name) for tree in trees])
    async with FlowProducer(server_url) as producer:
        await producer.add_bulk([ours_of(tree, twin.queue_name) for tree in trees])

    assert_same(server_url, twin, node)


def _renamed(tree: dict[str, Any], suffix: str) -> dict[str, Any]:
    options = {**tree["options"], "job_id": tree["options"]["job_id"] + suffix}
    children = [_renamed(child, suffix) for child in tree["children"]]
    return {**tree, "options": options, "children": children}


async def test_defaults_leave_the_same(node: NodeSide, twin: NodeSide, server_url: str) -> None:
    """Options by queue, which single jobs override."""
    tree = _without_ids(TREES["policies"])
    theirs = {f"{node.queue_name}-c": {"defaultJobOptions": {"attempts": 3, "priority": 6}}}
    tree["children"][1]["options"] = {"priority": 2}
    await node.call(
        "flow", tree=theirs_of(tree, node.queue_name), options={"queuesOptions": theirs}
    )
    async with FlowProducer(server_url) as producer:
        defaults: Any = {f"{twin.queue_name}-c": {"attempts": 3, "priority": 6}}
        await producer.add_bulk([ours_of(tree, twin.queue_name)], queue_defaults=defaults)

    assert _ids_masked(dumps(server_url, twin.queue_name)) == _ids_masked(
        dumps(server_url, node.queue_name)
    )


def _without_ids(tree: dict[str, Any]) -> dict[str, Any]:
    children = [_without_ids(child) for child in tree["children"]]
    return {**tree, "options": {}, "children": children}


def _ids_masked(whole: dict[str, Any]) -> dict[str, Any]:
    """Return it with UUIDs numbered by their events, and what sets hold sorted anew."""
    text = json.dumps(whole)
    for place, keys in whole.items():
        for number, event in enumerate(keys.get("events", [])):
            text = text.replace(event["jobId"], f"id{place}{number}")
    masked = json.loads(text)
    for keys in masked.values():
        for key, value in keys.items():
            if key.endswith(":dependencies"):
                value.sort()
    return {place: dict(sorted(keys.items())) for place, keys in masked.items()}


async def test_the_same_flow_twice_leaves_the_same(
    node: NodeSide, twin: NodeSide, server_url: str
) -> None:
    """Duplicates, and a second flow that joins the first one's root."""
    steps = [TREES["three deep"], TREES["three deep"], node_tree("root", "new")]
    async with FlowProducer(server_url) as producer:
        for tree in steps:
            await node.call("flow", tree=theirs_of(tree, node.queue_name))
            await producer.add_bulk([ours_of(tree, twin.queue_name)])

    assert_same(server_url, twin, node)


def node_tree(root: str, *children: str, **options: Any) -> dict[str, Any]:
    """Return a parent with such children in the second queue."""
    return leaf(root, "", *[leaf(child, "-c") for child in children], **options)


@pytest.mark.parametrize("options", [{}, {"priority": 4}, {"delay": 60}], ids=str)
async def test_children_that_had_completed_leave_the_same(
    node: NodeSide, twin: NodeSide, server_url: str, options: dict[str, Any]
) -> None:
    """Whether the parent is released, and where to, once the whole flow is there."""
    if is_old(node):
        pytest.skip("version 5 releases the parent before its other children are there")
    for side in (node, twin):
        below = NodeSide(side.driver, f"{side.queue_name}-c", side.version)
        await below.start_worker()
        for name in ("done", "ready"):
            assert await below.finished(await below.add(name, name, {"jobId": name})) == {
                "value": name
            }
        await below.call("leave")
    steps = [
        node_tree("all done", "done", "ready", **options),
        node_tree("one new", "new", **options),
    ]
    async with FlowProducer(server_url) as producer:
        for tree in steps:
            await node.call("flow", tree=theirs_of(tree, node.queue_name))
            await producer.add_bulk([ours_of(tree, twin.queue_name)])

    ours, theirs = dumps(server_url, twin.queue_name), dumps(server_url, node.queue_name)
    for whole in (ours, theirs):
        for key in ("marker", "stalled-check"):
            whole["-c"].pop(key, None)
    assert ours == theirs


async def test_cutting_ties_leaves_the_same(
    node: NodeSide, twin: NodeSide, server_url: str
) -> None:
    """What operators do to children that are no longer wanted."""
    for side in (node, twin):
        await side.call("flow", tree=theirs_of(TREES["three deep"], side.queue_name))
    below = NodeSide(node.driver, f"{node.queue_name}-c", node.version)
    ours_below = OurSide(f"{twin.queue_name}-c", server_url)
    ours = OurSide(twin.queue_name, server_url)
    async with ours.queue() as queue, ours_below.queue() as children:
        cut = await below.call("jobMethod", id="a", method="removeChildDependency", args=[])
        assert await (await children.read_job("a")).remove_child_dependency() == cut
        await node.call("jobMethod", id="root", method="removeUnprocessedChildren", args=[])
        assert await (await queue.read_job("root")).remove_unprocessed_children() == 4

    theirs_dump, ours_dump = (dumps(server_url, s.queue_name) for s in (node, twin))
    for whole in (theirs_dump, ours_dump):
        for keys in whole.values():
            # Siblings are removed in the order of a set, which is no order.
            keys["events"].sort(key=str)
    assert ours_dump == theirs_dump


async def test_a_child_of_another_parent(node: NodeSide, ours: OurSide, server_url: str) -> None:
    """Node adds the rest, and leaves a parent that waits for ever; here nothing is added."""
    from sandboxq.errors import ParentCannotBeReplaced

    await node.call("flow", tree=theirs_of(node_tree("first", "shared"), node.queue_name))
    async with FlowProducer(server_url) as producer:
        with pytest.raises(ParentCannotBeReplaced):
            await producer.add_bulk([ours_of(node_tree("second", "shared"), ours.queue_name)])
    assert await node.job("second") is None


# ── run by the other side ───────────────────────────────────────────────────

FAMILY = leaf(
    "family",
    "",
    leaf("echo1", "-c", kind="echo", data="a"),
    leaf("echo2", "-c", leaf("deep", "-d", kind="echo", data="x"), kind="children"),
    leaf("bad", "-c", kind="fail", data={"times": 9, "message": "boom"}, policy="ignore"),
    kind="family",
)


async def test_our_flow_on_their_workers(node: NodeSide, server_url: str) -> None:
    """Node runs children and parents of a flow added here; the value is read here."""
    places = [NodeSide(node.driver, node.queue_name + p, node.version) for p in ("", "-c", "-d")]
    for place in places:
        await place.start_worker()
    async with FlowProducer(server_url) as producer:
        (flow,) = await producer.add_bulk([ours_of(FAMILY, node.queue_name)])
        ended = await flow.job.result(FINISH_SECONDS)
    assert _sorted(ended) == _expected()
    for place in places[1:]:
        await place.call("leave")


async def test_their_flow_on_our_workers(node: NodeSide, server_url: str) -> None:
    """And the other way round; Node waits for the value."""
    workers = [OurSide(node.queue_name + place, server_url).worker() for place in ("", "-c", "-d")]
    async with workers[0], workers[1], workers[2]:
        await node.call("flow", tree=theirs_of(FAMILY, node.queue_name))
        ended = await node.finished("family")
    assert _sorted(ended["value"]) == _expected()


def _sorted(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "values": sorted(value["values"], key=str)}


def _expected() -> dict[str, Any]:
    counts = {"processed": 2, "unprocessed": 0, "ignored": 1, "failed": 0}
    return {"values": [["x"], "a"], "ignored": ["boom"], "counts": counts}


# ── read by the other side ──────────────────────────────────────────────────


def _names(flow: Flow[Any]) -> Any:
    return (flow.job.name, sorted(_names(child) for child in flow.children))


def _their_names(flow: dict[str, Any]) -> Any:
    children = [_their_names(child) for child in flow["children"]]
    return (flow["job"]["name"], sorted(children))


@pytest.mark.parametrize("limits", [{}, {"depth": 2}, {"depth": 1}], ids=str)
async def test_both_read_the_same_tree(
    node: NodeSide, twin: NodeSide, server_url: str, limits: dict[str, Any]
) -> None:
    """Whoever added it, and before or after its children ended."""
    tree = TREES["three deep"]
    await node.call("flow", tree=theirs_of(tree, node.queue_name))
    async with FlowProducer(server_url) as producer:
        await producer.add_bulk([ours_of(tree, twin.queue_name)])
        async with OurSide(f"{node.queue_name}-d", server_url).worker():
            below = NodeSide(node.driver, f"{node.queue_name}-d", node.version)
            await wait_until_async(lambda: _has_ended(below, "a2"))
        for side in (node, twin):
            read = await producer.get_flow(side.queue_name, "root", **limits)
            assert read is not None
            theirs = await side.call("getFlow", id="root", limits=limits)
            assert _names(read) == _their_names(theirs)
            assert read.job.id == theirs["job"]["id"]


async def _has_ended(side: NodeSide, job_id: str) -> bool:
    job = await side.job(job_id)
    return bool(job["state"] == "completed")


async def test_both_tell_the_same_of_the_children(node: NodeSide, server_url: str) -> None:
    """Keys, values and reasons; and how many of each kind."""
    tree = node_tree("root", "good", "left")
    tree["children"].append(
        leaf("bad", "-c", kind="fail", data={"times": 9, "message": "boom"}, policy="ignore")
    )
    tree["children"].append(
        leaf("worse", "-c", kind="fail", data={"times": 9, "message": "bang"}, policy="fail")
    )
    tree["children"][1]["options"]["delay"] = 600
    await node.call("flow", tree=theirs_of(tree, node.queue_name))
    below = NodeSide(node.driver, f"{node.queue_name}-c", node.version)
    async with (
        OurSide(f"{node.queue_name}-c", server_url).worker(),
        OurSide(node.queue_name, server_url).queue() as queue,
    ):
        await below.start_events()
        for job_id in ("good", "bad", "worse"):
            await below.events_until(job_id, "completed", "failed")
        job = await queue.read_job("root")
        ask = {
            "getChildrenValues": await job.children_values(),
            "getIgnoredChildrenFailures": await job.ignored_children_failures(),
            "getDependenciesCount": await job.dependencies_count(),
            "getDependencies": {
                key: value
                for key, value in (await job.dependencies())._asdict().items()
                if key != "cursor"
            },
        }
        for method, ours in ask.items():
            theirs = await node.call("jobMethod", id="root", method=method, args=[])
            assert ours == theirs, method
    await below.call("leave")


async def test_node_refuses_what_we_refuse(node: NodeSide, server_url: str) -> None:
    """Two policies, deduplication above children: errors before anything is added."""
    from sandboxq.errors import UsageError
    from sandboxq.model.job import Deduplication

    two = theirs_of(node_tree("root", "child"), node.queue_name)
    two["children"][0]["opts"] |= {"failParentOnFailure": True, "removeDependencyOnFailure": True}
    with pytest.raises(NodeError, match="cannot be used together"):
        await node.call("flow", tree=two)
    once = theirs_of(node_tree("root", "child"), node.queue_name)
    once["opts"]["deduplication"] = {"id": "once"}
    if not is_old(node):
        with pytest.raises(NodeError, match="Deduplication options cannot be used"):
            await node.call("flow", tree=once)
    async with FlowProducer(server_url) as producer:
        ours = ours_of(node_tree("root", "child"), node.queue_name)
        ours["opts"]["deduplication"] = Deduplication("once")
        with pytest.raises(UsageError):
            await producer.add_bulk([ours])
    assert await node.job("root") is None
