"""Several workers in one process and event loop, each with a queue and children of its own.

    WorkerGroup ── one Broker: the connections for commands
       ├── Worker resize ── claims, locks, outcomes of its queue; its pool
       └── Worker report ── …

The machine is shared among them (shares.py). A worker that fails does not end the others: they run
on, and the group says so at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Literal, Self

from sandboxq.errors import SandboxqError, UsageError, WorkersFailed
from sandboxq.observe.log import current_queue
from sandboxq.sandbox.support import Part, usable_memory
from sandboxq.worker.context import Membership
from sandboxq.worker.shares import Demand, Share, children_by_share, parts_of
from sandboxq.worker.signals import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from types import TracebackType

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.worker.worker import Worker

_log = logging.getLogger("sandboxq.worker")


class WorkerGroup:
    """Runs several workers, which were not started before, until all of them have ended.

    ``async with WorkerGroup([Worker("images", "resize.py"), Worker("reports", "report.py")]) as
    group: await group.run()``
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        shares: Mapping[str, Share] | None = None,
        *,
        procs: int | Literal["auto"] = "auto",
    ) -> None:
        """Share ``procs`` children (auto: one for each core) by the ``shares`` of their queues.

        Raises: UsageError: there is no worker, two have one queue, or they have several Redis.
        """
        self.workers = list(workers)
        self.procs = procs
        # Why a queue is not served any more, by the worker's queue.
        self.failures: dict[str, SandboxqError] = {}
        self._shares = shares or {}
        self._broker: Broker | None = None
        self._running: set[Worker] = set()
        self._check()

    def _check(self) -> None:
        keys = [worker.keys for worker in self.workers]
        twice = sorted({each.queue for each in keys if keys.count(each) > 1})
        if not keys or twice:
            what = f"has two workers for the queue {twice[0]!r}" if twice else "needs a worker"
            message = f"a group {what}"
            raise UsageError(message)
        if len({worker.address for worker in self.workers}) > 1:
            message = "the workers of a group share their connections: give all the same url"
            raise UsageError(message)
        for name in self._shares.keys() - {each.queue for each in keys}:
            message = f"a share is given to queue {name!r}, which no worker of the group has"
            raise UsageError(message)

    @property
    def running(self) -> int:
        """Jobs whose locks the workers hold."""
        return sum(worker.running for worker in self.workers)

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that running jobs have when the group is stopped: the longest of its workers."""
        return max(worker.shutdown_timeout for worker in self.workers)

    @property
    def serving(self) -> list[Worker]:
        """The workers that have not failed."""
        return [each for each in self.workers if each.keys.queue not in self.failures]

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop and close."""
        await self.close()

    def memberships(self, broker: Broker | None = None) -> list[Membership]:
        """Return which part of the machine each worker is to have."""
        cores = self.workers[0].cores.number
        shares = [
            Share.fixed(worker.procs)
            if worker.settings.procs != "auto"
            else self._shares.get(worker.keys.queue, Share())
            for worker in self.workers
        ]
        total = cores if self.procs == "auto" else self.procs
        counts = children_by_share(total, shares)
        memory = [worker.policy.memory for worker in self.workers]
        parts = parts_of(Part(cores, usable_memory()), list(map(Demand, counts, memory)))
        return [Membership(broker, count, part) for count, part in zip(counts, parts, strict=True)]

    async def start(self) -> None:
        """Connect, and start every worker; one that cannot start is logged, and the others run.

        Raises:
            BrokerUnavailable: Redis cannot be reached or refuses this client.
            SandboxqError: no worker could start; it is what the first one said.
        """
        try:
            self._broker = await self.workers[0].address.connect()
            for worker, membership in zip(
                self.workers, self.memberships(self._broker), strict=True
            ):
                worker.join(membership)
            await self._each(self.workers, lambda worker: worker.start())
            if not self.serving:
                self._raise_failures()
            self._running = set(self.serving)
        except BaseException:
            await self.close()
            raise

    async def run(self, *, burst: bool = False, handle_signals: bool = True) -> None:
        """Run jobs until all workers have ended; in a burst, until no queue has work.

        Signals stop all of them, as they do a Worker.

        Raises:
            WorkersFailed: some have failed.
            SandboxqError: all have; it is what the first one said.
        """
        if len(self._running) > 1:
            for worker in self._running:
                worker.parts.claimer.may_end = self._is_all_done
        with ended_by_signals(self) if handle_signals else contextlib.nullcontext():
            await self._each(
                self.serving, lambda worker: worker.run(burst=burst, handle_signals=False)
            )
        self._raise_failures()

    def stop(self) -> None:
        """Claim no more, finish what runs; a second call hands back at once."""
        for worker in self.workers:
            worker.stop()

    def kill(self) -> None:
        """Kill all children now."""
        for worker in self.workers:
            worker.kill()

    async def close(self) -> None:
        """End what runs within the shutdown timeouts, and release everything."""
        try:
            await asyncio.gather(*(worker.close() for worker in self.workers))
        finally:
            if self._broker is not None:
                await self._broker.close()

    async def _each(
        self, workers: Sequence[Worker], do: Callable[[Worker], Coroutine[None, None, None]]
    ) -> None:
        """Do it for each worker at once; one that fails is noted, and the others go on."""
        await asyncio.gather(*(self._one(worker, do(worker)) for worker in workers))

    async def _one(self, worker: Worker, action: Coroutine[None, None, None]) -> None:
        queue = worker.keys.queue
        current_queue.set(queue)  # of this task, and of all that it starts
        try:
            await action
        except SandboxqError as error:
            self.failures[queue] = error
            if len(self.workers) > 1:
                _log.error("queue %s is not served any more: %s", queue, error)
            await worker.close()
        finally:
            self._running.discard(worker)

    async def _is_all_done(self) -> bool:
        """Tell whether no queue has work; asked twice, as a job that ends may have added one."""
        for worker in [*self._running, *self._running]:
            if not await worker.parts.claimer.is_all_done():
                return False
        return True

    def _raise_failures(self) -> None:
        failed, number = self.failures, len(self.workers)
        if not failed:
            return
        if len(failed) == number:
            raise next(iter(failed.values()))
        texts = "; ".join(f"{queue}: {_first_line(error)}" for queue, error in failed.items())
        message = f"{len(failed)} of {number} queues ended with an error: {texts}"
        raise WorkersFailed(message)


def _first_line(error: SandboxqError) -> str:
    return str(error).partition("\n")[0]
