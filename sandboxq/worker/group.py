"""Several workers in one process and event loop, each with a queue and children of its own.

    WorkerGroup ── one Broker: the connections for commands
       ├── Worker resize ── claims, locks, outcomes of its queue; its pool
       └── Worker report ── …

They share the machine: children by the weights of their Share, and memory. A worker that fails does
not end the others: they run on, and the group raises at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from sandboxq.config import MOST_CHILDREN
from sandboxq.errors import (
    ChildStartFailed,
    ProcessorNotLoaded,
    SandboxqError,
    UsageError,
    WorkersFailed,
)
from sandboxq.model.validation import checked_whole, shown
from sandboxq.observe.log import current_queue
from sandboxq.sandbox.support import Part, usable_memory
from sandboxq.worker.context import Membership
from sandboxq.worker.shutdown import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from types import TracebackType

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.worker.worker import Worker

# The part of its share of memory that a worker gets at least, whatever was granted to the others.
_LEAST_OF_MEMORY = 0.1
# More is a typing error.
_MOST_WEIGHT = 1_000_000.0
# What may be mended while the others run: code, and what setup() asks for.
_MAY_PASS = (ProcessorNotLoaded, ChildStartFailed)
# Seconds until a queue that could not start is tried again: twice as many each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0

_log = logging.getLogger("sandboxq.worker")


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the children one worker of a group gets: by weight, from ``min`` to ``max``.

    A worker whose ``procs`` is a number has that many, whatever its share says.
    Raises: UsageError.
    """

    weight: float = 1.0
    min: int = 1
    max: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        _check_weight(self.weight)
        checked_whole("min", self.min, least=1, limit=MOST_CHILDREN)
        if self.max is not None:
            hint = "; it must not be below min"
            checked_whole("max", self.max, least=self.min, limit=MOST_CHILDREN, hint=hint)

    @classmethod
    def fixed(cls, procs: int) -> Share:
        """Return the share of a worker that has so many children."""
        return cls(1.0, procs, procs)


def _check_weight(weight: object) -> None:
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not is_number or not 0 < weight <= _MOST_WEIGHT:  # type: ignore[operator]  # it is a number
        message = f"weight must be a number above 0, not {shown(weight)}"
        raise UsageError(message)


class Demand(NamedTuple):
    """What a worker's children are and need."""

    children: int
    memory: int | None  # bytes that each was promised; None: its part of what is left


def children_by_share(total: int, shares: Sequence[Share]) -> list[int]:
    """Return how many children each gets, ``total`` together if their bounds allow that.

    Each has its ``min``, even where that is more in all. The others go one by one to the worker
    with least for its weight (Sainte-Laguë), so that one child more in all takes none from another.
    """
    counts = [share.min for share in shares]
    limits = [math.inf if share.max is None else share.max for share in shares]
    for _ in range(total - sum(counts)):
        open_to = [index for index, limit in enumerate(limits) if counts[index] < limit]
        if not open_to:
            break
        poorest = min(open_to, key=lambda index: (counts[index] + 0.5) / shares[index].weight)
        counts[poorest] += 1
    return counts


def parts_of(machine: Part, demands: Sequence[Demand]) -> list[Part]:
    """Return the part of the machine that each worker's children share.

    What was granted is subtracted from the memory first; of the rest each child has the same.
    """
    everybody = max(1, sum(each.children for each in demands))
    promised = sum(each.children * each.memory for each in demands if each.memory)
    left = max(machine.memory - promised, int(machine.memory * _LEAST_OF_MEMORY))
    sharing = sum(each.children for each in demands if not each.memory)
    return [
        Part(
            max(1, machine.cores * each.children // everybody),
            machine.memory if each.memory else left * each.children // max(1, sharing),
        )
        for each in demands
    ]


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
        renew: Callable[[str], Worker] | None = None,
    ) -> None:
        """Share ``procs`` children (auto: one for each core) by the ``shares`` of their queues.

        ``renew`` makes another worker of a queue whose processor could not start: it is tried again
        while the others run. Without it such a queue is not served.

        Raises: UsageError: there is no worker, two have one queue, or they have several Redis.
        """
        self.workers = list(workers)
        self.procs = procs
        # Why a queue is not served any more, by the worker's queue.
        self.failures: dict[str, Exception] = {}
        self._shares = shares or {}
        self._broker: Broker | None = None
        self._renew = renew
        self._running: set[Worker] = set()
        self._runs: set[asyncio.Task[bool]] = set()
        # Set to try such a queue now.
        self._asked: dict[str, asyncio.Event] = {}
        self._check()

    def _check(self) -> None:
        names = [worker.keys.queue for worker in self.workers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or twice:
            what = f"has two workers for the queue {twice[0]!r}" if twice else "needs a worker"
            message = f"a group {what}"
            raise UsageError(message)
        if idle := [worker.keys.queue for worker in self.workers if not worker.processor]:
            message = f"a group runs jobs: the worker of queue {idle[0]!r} needs a processor"
            raise UsageError(message)
        if len({worker.address for worker in self.workers}) > 1:
            message = "the workers of a group share their connections: give all the same url"
            raise UsageError(message)
        for name in self._shares.keys() - set(names):
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
            Exception: no worker could start; it is what the first one raised.
            UsageError: the group was started before, or one of its workers was, by itself.
        """
        if self._broker is not None or any(worker.is_connected for worker in self.workers):
            message = "the group, or one of its workers, was started before: make another"
            raise UsageError(message)
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
            Exception: all have; it is what the first one raised.
        """
        if len(self._running) > 1:
            for worker in self._running:
                worker.parts.claimer.may_end = self._is_all_done
        with ended_by_signals(self) if handle_signals else contextlib.nullcontext():
            for worker in self.serving:
                self._begin(worker, burst=burst)
            trying = set() if burst or self._renew is None else self._trying(self._renew)
            try:
                while self._runs:
                    done, self._runs = await asyncio.wait(
                        self._runs, return_when=asyncio.FIRST_COMPLETED
                    )
                    for ended in done:
                        ended.result()
            finally:
                for task in (left := [*trying, *self._runs]):
                    task.cancel()
                await asyncio.gather(*left, return_exceptions=True)
        self._raise_failures()

    def _begin(self, worker: Worker, *, burst: bool = False) -> None:
        """Run a worker that was started."""
        run = worker.run(burst=burst, handle_signals=False)
        self._runs.add(asyncio.create_task(self._one(worker, run)))

    def _trying(self, renew: Callable[[str], Worker]) -> set[asyncio.Task[None]]:
        """Return a task for each queue that could not start."""
        queues = [queue for queue, why in self.failures.items() if isinstance(why, _MAY_PASS)]
        self._asked = {queue: asyncio.Event() for queue in queues}
        return {asyncio.create_task(self._try_again(queue, renew)) for queue in queues}

    async def _try_again(self, queue: str, renew: Callable[[str], Worker]) -> None:
        """Start another worker of a queue, until one can run."""
        current_queue.set(queue)
        pause, place = _FIRST_PAUSE, [each.keys.queue for each in self.workers].index(queue)
        membership = self.memberships(self._broker)[place]
        while isinstance(self.failures[queue], _MAY_PASS):
            _log.warning("queue %s is tried again in %g s, or when asked to reload", queue, pause)
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which in Python 3.11 may swallow the cancellation of this task.
                async with asyncio.timeout(pause):
                    await self._asked[queue].wait()
            self._asked[queue].clear()
            pause = min(2 * pause, _LONGEST_PAUSE)
            self.workers[place] = worker = renew(queue)
            worker.join(membership)
            if await self._one(worker, worker.start()):
                del self.failures[queue]
                self._running.add(worker)
                _log.info("queue %s is served now", queue)
                self._begin(worker)
                return

    async def reload(self) -> None:
        """Have each worker load its code anew; code that cannot be run is logged and not taken.

        Queues that could not start are tried again.
        """
        for asked in self._asked.values():
            asked.set()
        await asyncio.gather(*map(_reload, self.serving))

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
        closing = [worker.close() for worker in self.workers]
        try:
            ends = await asyncio.gather(*closing, return_exceptions=True)
        finally:
            if self._broker is not None:
                await self._broker.close()
        for error in filter(None, ends):
            raise error

    async def _each(
        self, workers: Sequence[Worker], do: Callable[[Worker], Coroutine[None, None, None]]
    ) -> None:
        """Do it for each worker at once; one that fails is noted, and the others go on."""
        await asyncio.gather(*(self._one(worker, do(worker)) for worker in workers))

    async def _one(self, worker: Worker, action: Coroutine[None, None, None]) -> bool:
        """Do it; tell whether it did not fail."""
        queue = worker.keys.queue
        current_queue.set(queue)  # of this task, and of all that it starts
        try:
            await action
        except Exception as error:  # noqa: BLE001 - the boundary of one worker: the others run on
            self.failures[queue] = error
            if len(self.workers) > 1:
                trace = None if isinstance(error, SandboxqError) else error
                _log.error("queue %s is not served: %s", queue, error, exc_info=trace)
            await worker.close()
            return False
        finally:
            self._running.discard(worker)
        return True

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


async def _reload(worker: Worker) -> None:
    queue = worker.keys.queue
    try:
        await worker.reload()
    except SandboxqError as error:
        _log.error(
            "queue %s: the new code was not taken, the code before runs on: %s", queue, error
        )
    else:
        _log.info("queue %s: new jobs run with the new code", queue)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or repr(error)
