"""A worker on a real server, and all that may happen to both: what it owns, it ends once."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.conftest import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sandboxq import Queue, Worker
    from sandboxq.broker.connect.broker import Broker
    from tests.broker.servers import StoppableServer

PROCESSOR = str(Path(__file__).parent / "ownership_processor.py")
POISON: dict[str, tuple[str, str | bytes]] = {
    "attempts are no number": ("atm", "abc"),
    "attempts are negative": ("atm", "-1"),
    "starts are infinite": ("ats", "inf"),
    "stalls are many": ("stc", "9" * 40),
    "opts are deep": ("opts", "[" * 5000),
    "opts are large": ("opts", '{"removeOnComplete":{"age":1e300},"kl":1e300,"timeout":1e300}'),
    "data is binary": ("data", b"\xff"),
    "timestamp is no number": ("timestamp", "nan"),
    "priority is no number": ("priority", "x"),
    "progress is binary": ("progress", b"\xff\x00"),
    "parent is no JSON": ("parent", "{"),
    "parent has no name": ("parentKey", "::"),
    "arrays are nowhere": ("sq:binary", "no reference"),
    "arrays are large": ("sq:binary", "a\n99999999999999\n[]"),
    "crashes are no number": ("sq:crashes", "many"),
    "scheduler is binary": ("rjk", b"\xff"),
    "cannot be settled": ("deid", "list"),
}
SOON = 60.0

picks = st.integers(0, 10**6)


class OwnershipMachine(RuleBasedStateMachine):
    """Sub-classed with a server, and with a worker that lives through all examples."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    server: ClassVar[StoppableServer]
    broker: ClassVar[Broker]
    queue: ClassVar[Queue]
    worker: ClassVar[Worker]
    running: ClassVar[asyncio.Task[None]]
    directory: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        """Begin with no jobs."""
        self.path = self.directory / uuid.uuid4().hex
        self.path.touch()
        self.jobs: list[str] = []
        self.spoilt: set[str] = set()
        # Whose lock was taken away: they may run again.
        self.stolen: set[str] = set()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Let the worker live until a step is done."""
        return self.loop.run_until_complete(coroutine)

    @rule(kinds=st.lists(st.sampled_from(["run", "report", "raise", "sleep"]), max_size=8))
    def add(self, kinds: list[str]) -> None:
        """Add jobs, some of which raise or take a little."""
        rows = [(kind, {"path": str(self.path)}) for kind in kinds]
        self.jobs += [job.id for job in self.run(self.queue.add_bulk(rows))]

    @rule(poisons=st.lists(st.sampled_from(sorted(POISON)), min_size=1, max_size=3))
    def add_poisoned(self, poisons: list[str]) -> None:
        """Add jobs whose hashes nobody can read, between others."""
        self.run(self._add_poisoned(poisons))

    async def _add_poisoned(self, poisons: list[str]) -> None:
        await self.queue.pause()
        rows = [("run", {"path": str(self.path)})] * (2 * len(poisons) + 1)
        ids = [job.id for job in await self.queue.add_bulk(rows)]
        self.jobs += ids
        for job_id, poison in zip(ids[1::2], poisons, strict=False):
            self.spoilt.add(job_id)
            await self.broker.command("HSET", self.worker.keys[job_id], *POISON[poison])
        await self.queue.resume()

    @rule()
    def kill_connections(self) -> None:
        """End every connection of the worker, whatever it is in the middle of."""
        self.run(self.broker.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

    @rule()
    def restart_the_server(self) -> None:
        """Redis goes and comes back with all its data."""
        self.run(asyncio.to_thread(self.server.stop))
        self.run(asyncio.to_thread(self.server.start))
        self.run(self.broker.wait_until_back())

    @rule(pick=picks)
    def steal(self, pick: int) -> None:
        """Give the lock of a held job to somebody else."""
        held = [job_id.decode() for job_id in self.worker._held]
        if not held:
            return
        job_id = held[pick % len(held)]
        self.stolen.add(job_id)
        self.run(self.broker.command("SET", self.worker.keys[f"{job_id}:lock"], "x", "PX", 1500))

    @rule(moments=st.integers(0, 5))
    def pause(self, moments: int) -> None:
        """Pause after a moment: nothing is held, and nothing runs or begins until ``resume``."""
        self.run(self._pause(moments))

    async def _pause(self, moments: int) -> None:
        for _ in range(moments):
            await asyncio.sleep(0.003)
        await asyncio.wait_for(self.worker.pause(), SOON)
        begun = self.path.read_text()
        assert (self.worker.running, self.worker.pool.held) == (0, 0)
        await asyncio.sleep(0.05)
        assert self.path.read_text() == begun
        self.worker.resume()

    @rule()
    def go_on(self) -> None:
        """Let a little time pass."""
        self.run(asyncio.sleep(0.05))

    def teardown(self) -> None:
        """Every job ends; those that nobody meddled with have run once; nothing is left held."""
        if hasattr(self, "jobs"):
            self.run(self._drain())

    async def _drain(self) -> None:
        await wait_until_async(self._has_drained, timeout=SOON)
        assert not self.running.done()
        runs = self.path.read_text().split()
        clean = [job_id for job_id in self.jobs if job_id not in self.spoilt | self.stolen]
        assert {job_id: runs.count(job_id) for job_id in clean} == dict.fromkeys(clean, 1)

    async def _has_drained(self) -> bool:
        """Tell whether all has ended but what nobody can end: its key is of another type."""
        wanted = [job_id for job_id in self.jobs if job_id not in self.spoilt]
        ended = await self.broker.pipeline(
            [("HEXISTS", self.worker.keys[job_id], "finishedOn") for job_id in wanted]
        )
        return self.worker.running == 0 and all(ended)
