"""Adds jobs of many kinds until SIGTERM: `python -m tests.chaos.producer`, see ``Orders``."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sandboxq import AddInterrupted, Backoff, FlowProducer, Queue, QueuedJob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What one add of a mix consists of.
_BATCH = 10
# A backlog is filled up by so many at once.
_HEAP = 1000
_CHILDREN = 3
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Orders:
    """What a producer is told, as JSON in its only argument."""

    url: str | None
    prefix: str
    queue: str
    usage_recorder: str
    run: str
    seed: int
    kinds: tuple[str, ...]
    rate: float  # jobs a second
    backlog: int  # jobs that shall always wait, instead of a rate

    def argument(self) -> str:
        """Return the text for the command line."""
        return json.dumps(asdict(self))


class Producer:
    """Adds batches; writes what it tries before, and what it was told after."""

    def __init__(self, orders: Orders) -> None:
        """Open the ledger; nothing is added yet."""
        self._orders = orders
        self._rng = random.Random(orders.seed)
        self._numbers = itertools.count(1)
        self._file = os.open(orders.usage_recorder, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Add until SIGTERM."""
        orders = self._orders
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopped.set)
        # Both connect with the first add, so that a fault at that moment is one of an add.
        queue = Queue(orders.queue, url=orders.url, prefix=orders.prefix)
        flows = FlowProducer(url=orders.url, prefix=orders.prefix)
        while not self._stopped.is_set():
            if orders.backlog:
                await self._fill(queue)
            elif "parent" in orders.kinds and self._rng.random() < 1 / len(orders.kinds):
                await self._add_flow(flows)
            else:
                await self._add_batch(queue)
        await queue.close()
        await flows.close()

    async def _fill(self, queue: Queue) -> None:
        entries = [self._entry(self._rng.choice(self._orders.kinds)) for _ in range(_HEAP)]
        await self._add(queue, entries)
        while not self._stopped.is_set() and await self._waiting(queue) > self._orders.backlog:
            await self._pause(0.1)

    async def _waiting(self, queue: Queue) -> int:
        try:
            return (await queue.counts("waiting"))["waiting"]
        except Exception:  # noqa: BLE001 - whatever hits the connection; asked again
            return self._orders.backlog + 1

    async def _add_batch(self, queue: Queue) -> None:
        kinds = [kind for kind in self._orders.kinds if kind != "parent"]
        began = time.monotonic()
        await self._add(queue, [self._entry(self._rng.choice(kinds)) for _ in range(_BATCH)])
        await self._pause(_BATCH / self._orders.rate - (time.monotonic() - began))

    def _entry(self, kind: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        data, options = _KINDS[kind](self._rng)
        u = f"{kind}-{self._orders.run}-{next(self._numbers)}"
        if kind == "named":
            options["job_id"] = u
        return kind, {"u": u, **data}, {"attempts": _ATTEMPTS, **options}

    async def _add(
        self, queue: Queue, entries: list[tuple[str, dict[str, Any], dict[str, Any]]]
    ) -> None:
        names = [(kind, data["u"]) for kind, data, _ in entries]
        self._note_tries(names)
        try:
            jobs: Sequence[Any] = await queue.add_bulk(entries)  # type: ignore[arg-type]  # by kind
        except AddInterrupted as error:
            known = len(error.results)
            self._note_not_sent(names[known + error.unknown :])
            await self._note_unknown(names[known : known + error.unknown], error)
            jobs, names = error.results, names[:known]
        except Exception as error:  # noqa: BLE001 - whatever it is, what was added is unknown
            await self._note_unknown(names, error)
            return
        added = zip(names, jobs, strict=True)
        self._note_jobs([(u, job.id) for (_, u), job in added if isinstance(job, QueuedJob)])

    async def _add_flow(self, flows: FlowProducer) -> None:
        kind, data, options = self._entry("parent")
        children = [self._entry("nap") for _ in range(_CHILDREN)]
        names = [(kind, data["u"]), *(("nap", child["u"]) for _, child, _ in children)]
        self._note_tries(names)
        queue = self._orders.queue
        try:
            flow = await flows.add(
                name=kind,
                queue=queue,
                data={**data, "children": [child["u"] for _, child, _ in children]},
                children=[
                    {
                        "name": name,
                        "queue": queue,
                        "data": child,
                        "opts": opts,  # type: ignore[typeddict-item]
                        "on_failure": "ignore",  # else a cancelled one keeps its parent for ever
                    }
                    for name, child, opts in children
                ],
                **options,
            )
        except Exception as error:  # noqa: BLE001 - as above
            await self._note_unknown(names, error)
            return
        jobs = [flow.job, *(child.job for child in flow.children)]
        self._note_jobs([(job.data["u"], job.id) for job in jobs])

    def _note_tries(self, names: list[tuple[str, str]]) -> None:
        self._write([f"T {u} {kind} {time.time():.3f}" for kind, u in names])

    def _note_jobs(self, jobs: list[tuple[str, str]]) -> None:
        self._write([f"A {u} {job_id} {time.time():.3f}" for u, job_id in jobs])

    def _note_not_sent(self, names: list[tuple[str, str]]) -> None:
        self._write([f"N {u}" for _, u in names])

    async def _note_unknown(self, names: list[tuple[str, str]], error: Exception) -> None:
        self._write([f"U {u} {type(error).__name__}" for _, u in names])
        await self._pause(0.2)

    def _write(self, lines: list[str]) -> None:
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), max(seconds, 0.001))
        except TimeoutError:
            return


def _array(_rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    import numpy as np

    return {"a": np.full(50_000, 3, dtype="<i8")}, {}


_KINDS: dict[str, Callable[[random.Random], tuple[dict[str, Any], dict[str, Any]]]] = {
    "noop": lambda _: ({}, {}),
    "nap": lambda rng: ({"s": rng.uniform(0.001, 0.05), "talks": rng.random() < 0.1}, {}),
    "once": lambda _: ({"s": 0.01}, {"attempts": 1}),
    "long": lambda rng: ({"s": rng.uniform(0.3, 1.5)}, {}),
    "spin": lambda _: ({"s": 0.2}, {}),
    "delay": lambda rng: ({"s": 0.002}, {"delay": rng.uniform(0.1, 3)}),
    "prio": lambda rng: ({"s": 0.002}, {"priority": rng.randint(1, 9)}),
    "named": lambda _: ({"s": 0.002}, {}),
    "retry": lambda rng: (
        {"times": rng.choice([1, 2])},
        rng.choice([{}, {"backoff": Backoff.exponential(0.05)}]),
    ),
    "fail": lambda _: ({"times": 99}, {"attempts": 2}),
    "array": _array,
    "parent": lambda _: ({}, {}),
    "late": lambda _: ({"s": 60}, {"attempts": 1, "timeout": 0.3}),
    "bomb": lambda _: ({"mb": 2048}, {"attempts": 1}),
    "talk": lambda _: ({}, {}),
    "litter": lambda _: ({}, {}),
}

if __name__ == "__main__":
    asyncio.run(Producer(Orders(**json.loads(sys.argv[1]))).run())
