"""The same done to two queues, to one by Node, to the other by sandboxq, and what then differs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from tests.conftest import wait_until_async
from tests.interop.dump import dump
from tests.interop.node_driver import NodeSide
from tests.interop.our_side import OurSide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

# When a worker last looked for stalled jobs is timing.
TIMING = ("stalled", "stalled-check")
CHILDREN = "-c"
# Both workers write it into the jobs that they run.
WORKER_NAME = "same"


@dataclass(frozen=True, slots=True)
class Pair:
    """Node's queue, and Node's side of the queue in which sandboxq does the same."""

    node: NodeSide
    twin: NodeSide
    url: str

    @property
    def ours(self) -> OurSide:
        """Return our side of our queue."""
        return OurSide(self.twin.queue_name, self.url)

    @property
    def our_children(self) -> OurSide:
        """Return our side of the queue beside ours."""
        return OurSide(self.twin.queue_name + CHILDREN, self.url)

    def children(self, side: NodeSide) -> NodeSide:
        """Return Node's side of the queue beside one of these, for the children of flows."""
        return NodeSide(side.driver, side.queue_name + CHILDREN, side.version)

    async def on_both(self, do: Callable[[NodeSide], Awaitable[Any]]) -> list[Any]:
        """Let Node do something to each of the queues; return what came of it."""
        return [await do(self.node), await do(self.twin)]

    async def add_to_both(self, name: str, data: Any, opts: dict[str, Any] | None = None) -> str:
        """Let Node add a job to each; return its id, the same in both."""
        first, second = await self.on_both(lambda side: side.add(name, data, opts))
        assert first == second
        return str(first)

    def set_in_both(self, job_id: str, fields: dict[str, str | None]) -> None:
        """Write fields into the hash of a job as somebody else might; None removes one."""
        with redis.Redis.from_url(self.url) as client:
            for side in (self.node, self.twin):
                key = f"bull:{side.queue_name}:{job_id}"
                for name, text in fields.items():
                    if text is None:
                        client.hdel(key, name)
                    else:
                        client.hset(key, name, text)

    @contextlib.asynccontextmanager
    async def workers(self, place: str = "", **options: Any) -> AsyncIterator[None]:
        """Let a worker of each kind run; ``options`` are for Node's."""
        node, twin = self.sides(place)
        await node.start_worker(name=WORKER_NAME, drainDelay=1, **options)
        async with OurSide(twin.queue_name, self.url).worker(name=WORKER_NAME):
            yield
        await node.stop_workers()

    async def until_ended(self, ids: Sequence[str], place: str = "") -> None:
        """Wait for the jobs to end, or to be gone, and for the workers to sleep."""
        for side in self.sides(place):
            await wait_until_async(partial(self._have_ended, side, ids))
            await side.until_idle()

    async def run_both(self, ids: Sequence[str], *, place: str = "") -> None:
        """Let a worker of each kind run the jobs to their end."""
        async with self.workers(place):
            await self.until_ended(ids, place)

    def sides(self, place: str = "") -> tuple[NodeSide, NodeSide]:
        """Return Node's side of both queues, or of those beside them."""
        two = (self.node, self.twin)
        first, second = (NodeSide(e.driver, e.queue_name + place, e.version) for e in two)
        return first, second

    async def _have_ended(self, side: NodeSide, ids: Sequence[str]) -> bool:
        return await asyncio.to_thread(self._look, side.queue_name, ids)

    def _look(self, queue_name: str, ids: Sequence[str]) -> bool:
        with redis.Redis.from_url(self.url) as client:
            pipe = client.pipeline()
            for job_id in ids:
                pipe.zscore(f"bull:{queue_name}:completed", job_id)
                pipe.zscore(f"bull:{queue_name}:failed", job_id)
                pipe.exists(f"bull:{queue_name}:{job_id}")
            answers = pipe.execute()
        ended = zip(answers[::3], answers[1::3], answers[2::3], strict=True)
        return all(done or failed or not exists for done, failed, exists in ended)

    def differences(self, *places: str, ran: bool = False) -> list[str]:
        """Return what the queues hold that is not the same, in words; [] when nothing is.

        ``ran``: workers ran more than one job. Ours claims the next while one runs, and Node's
        tells ``drained`` by what its next claim found: then events are compared job by job.
        """
        found: list[str] = []
        for place in places or ("",):
            theirs, mine = (self._content(each, ran=ran) for each in self.sides(place))
            found += [f"{place} {each}" for each in differences(mine, theirs)]
        return found

    def _content(self, side: NodeSide, *, ran: bool) -> dict[str, Any]:
        text = json.dumps(dump(self.url, side.queue_name), ensure_ascii=False)
        content: dict[str, Any] = json.loads(text.replace(_plain(side.queue_name), "<queue>"))
        for name in TIMING:
            content.pop(name, None)
        if ran:
            content["events"] = _by_job(content.get("events", []))
            for name in ("completed", "failed", "delayed"):
                content.get(name, []).sort()
        return content


def _plain(queue_name: str) -> str:
    """Return the name of the queue beside which this one is."""
    return queue_name.removesuffix(CHILDREN)


def _by_job(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_job: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event["event"] != "drained":
            by_job.setdefault(event.get("jobId", ""), []).append(event)
    return by_job


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return where two values differ."""
    return list(_differences(ours, theirs, path))


def _differences(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from _differences(ours.get(key), theirs.get(key), f"{path}/{key}")
    elif ours != theirs:
        yield f"{path}: Node has {theirs!r}, sandboxq {ours!r}"
