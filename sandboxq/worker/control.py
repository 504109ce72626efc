"""Obeys what is asked over the queue's control channel: scale, cancel, dump, tell and others.

What ``sandboxq dump`` shows of a worker: where each job is that it runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sandboxq.broker.commands.workers import (
    CancelRequest,
    DumpRequest,
    FactsRequest,
    ProfileNextRequest,
    ProfileRequest,
    ReloadRequest,
    ScaleRequest,
    TellRequest,
    answer,
    request_from_payload,
)
from sandboxq.errors import BrokerUnavailable, ChildStartFailed, QueueError, SandboxqError
from sandboxq.pool.stacks import read_stacks
from sandboxq.worker.facts import Described, Facts, running_since
from sandboxq.worker.job_view import MOST_STACK, JobView, Printed
from sandboxq.worker.service import Seldom
from sandboxq.worker.task_stream import Recorder
from sandboxq.worker.viewers import Viewers

if TYPE_CHECKING:
    from sandboxq.broker.commands.workers import Request
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool
    from sandboxq.worker.assembly import Assembly
    from sandboxq.worker.context import HeldJobs
    from sandboxq.worker.messages import Messages
    from sandboxq.worker.profiles import WorkerProfiles

_log = logging.getLogger("sandboxq.worker")

# More children are a typing error.
MOST_PROCS = 1024
# Bytes of a message that are shown, and how many requests of a kind are worked on at once.
_MOST_SHOWN = 200
_MOST_TASKS = 32

_REQUESTS = "`scale`, `reload`, `cancel`, `dump`, `profile`, `workers`, `top` and the page"
_NOT_BEGUN = "it has not begun: the worker has claimed it, and no child is free"


class Controlled(Protocol):
    """The worker."""

    @property
    def name(self) -> str:
        """The worker's name for people."""

    async def scale(self, procs: int) -> int:
        """Have so many children; return how many there are."""

    async def reload(self) -> None:
        """Run jobs by the code as it is now. Raises: SandboxqError: it cannot be run."""

    def cancel(self, job_id: str, reason: str, *, grace: float) -> bool:
        """End a job, unless this worker does not have it."""


class ControlParts(NamedTuple):
    """Who knows what is asked for."""

    dump: Dump
    viewers: Viewers
    messages: Messages
    profiles: WorkerProfiles


class Looked(Described, Protocol):
    """The worker, once it has all its parts."""

    telemetry: Telemetry

    @property
    def parts(self) -> Assembly:
        """What it consists of."""

    @property
    def broker(self) -> Broker:
        """Its connection."""


def control_parts(worker: Looked, held: HeldJobs) -> ControlParts:
    """Return what a started worker tells of itself, and of the jobs that it holds."""
    pool, telemetry = worker.pool, worker.telemetry
    facts, printed = Facts(worker), Printed(telemetry)
    recorder = Recorder(worker.broker, pool, telemetry)
    job = JobView(pool, held, printed, kind=worker.kind)
    return ControlParts(
        Dump(worker.keys.queue, worker.name, pool, held),
        Viewers(worker.broker, facts, recorder, job, printed),
        worker.parts.messages,
        worker.parts.profiles,
    )


class Control:
    """Listens on the queue's control channel."""

    def __init__(
        self, broker: Broker, keys: QueueKeys, worker: Controlled, parts: ControlParts
    ) -> None:
        """Pass on to ``worker`` what is asked; the rest ``parts`` know."""
        self._dump = parts.dump
        self._viewers = parts.viewers
        self._messages = parts.messages
        self._profiles = parts.profiles
        self._broker = broker
        self._keys = keys
        self._worker = worker
        self._seldom = Seldom()
        # Requests may take a while: a cancel must not wait for a dump, or for children that start.
        # By kind: nor is it left out because of many of these.
        self._tasks: dict[type[Request], set[asyncio.Task[None]]] = {}
        self._scaling = asyncio.Lock()

    async def run(self) -> None:
        """Obey until cancelled; return when this user may not listen: jobs run without that."""
        while True:
            try:
                await self._listen()
            except BrokerUnavailable:
                await self._broker.wait_until_back()
            except QueueError as error:
                _log.warning("%s do not reach this worker: %s", _REQUESTS, error)
                return

    async def _listen(self) -> None:
        subscription = await self._broker.subscribe(self._keys.control_channel)
        try:
            await self._profiles.reload()  # what was asked for while nobody listened
            async for payload in subscription:
                self._obey(payload)
        finally:
            self._viewers.close()
            self._profiles.close()
            for task in [task for tasks in self._tasks.values() for task in tasks]:
                task.cancel()
            await asyncio.shield(subscription.close())

    def _obey(self, payload: bytes) -> None:
        request = request_from_payload(payload, self._keys)
        what = repr(payload[:_MOST_SHOWN])
        if request is None or (
            isinstance(request, ScaleRequest) and not 1 <= request.procs <= MOST_PROCS
        ):
            self._seldom.warn("a message on the control channel is not understood", what)
        elif len(tasks := self._tasks.setdefault(type(request), set())) >= _MOST_TASKS:
            self._seldom.warn("a request on the control channel was ignored, too many run", what)
        else:
            task = asyncio.create_task(self._answered(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answered(self, request: Request) -> None:
        try:
            members = await self._done(request)
            await answer(self._broker, request, **{"worker": self._worker.name, **members})
        except ChildStartFailed as error:
            # The text has the user's frames; ours would not help.
            _log.error("a new child could not start; it is tried again: %s", error)
        except QueueError as error:
            self._seldom.warn("a request was carried out, but Redis refused its answer", error)
        except Exception as error:  # noqa: BLE001 - the boundary of one request
            self._seldom.warn("a request of another process failed", f"{request!r:.200}: {error!r}")

    async def _done(self, request: Request) -> dict[str, Any]:  # noqa: PLR0911 - one for each kind
        """Do what is asked; return what the answer says of it."""
        match request:
            case CancelRequest(job_id, reason, grace):
                return {"has_it": self._worker.cancel(job_id, reason, grace=grace)}
            case DumpRequest(target):
                return await self._dump.rows(target)
            case FactsRequest():
                self._viewers.add(request)
                return await self._viewers.answer_to(request)
            case TellRequest(job_id, text):
                return await self._messages.told(job_id, text)
            case ProfileRequest():
                return await self._profiles.now(request)
            case ProfileNextRequest():
                await self._profiles.reload()
                return {}
            case ScaleRequest(procs):
                async with self._scaling:
                    return {"procs": await self._worker.scale(procs)}
            case ReloadRequest():
                return {"error": await self._failed_reload()}

    async def _failed_reload(self) -> str:
        """Load the code anew; return why it was not taken, or nothing."""
        try:
            await self._worker.reload()
        except SandboxqError as error:
            _log.error("the new code was not taken, the code before runs on: %s", error)
            return str(error)[:MOST_STACK]
        _log.info("new jobs run with the new code")
        return ""


class Dump:
    """Looks at the children of a worker."""

    def __init__(self, queue: str, worker: str, pool: Pool, held: HeldJobs) -> None:
        """Name rows by ``queue`` and ``worker``."""
        self._names = {"queue": queue, "worker": worker}
        self._pool = pool
        self._held = held

    async def rows(self, target: str) -> dict[str, Any]:
        """Return a row for each job that runs, if ``target`` is this worker, one of them, or empty.

        Times are seconds. ``is_meant`` tells whether it is any of these.
        """
        job_id = target.encode(errors="surrogateescape")
        is_whole = target in {"", self._names["worker"]}
        children = self._pool.supervisor.children
        running = {child: child.running_calls() for child in children}
        answer = {
            "queue": self._names["queue"],
            "pid": os.getpid(),
            "children": self._pool.size,
            "busy": self._pool.busy,
            "is_meant": is_whole or job_id in self._held,
        }
        wanted = {
            child: [call for call in calls if is_whole or call.key == job_id]
            for child, calls in running.items()
        }
        of_children = await asyncio.gather(
            *(self._rows_of(child, calls) for child, calls in wanted.items() if calls)
        )
        jobs = [row for rows in of_children for row in rows]
        if job_id in self._held and not jobs:
            jobs.append({**self._row(target), "note": _NOT_BEGUN})
        return {**answer, "jobs": jobs}

    async def _rows_of(self, child: Child, calls: list[Call]) -> list[dict[str, Any]]:
        now = asyncio.get_running_loop().time()
        since = {call.seq: running_since(child, call) for call in calls}
        stacks = await read_stacks(child)
        return [
            {
                **self._row(call.key.decode(errors="replace")),
                "pid": child.pid,
                "seconds": round(now - since[call.seq], 3),
                "stack": stacks.of(call.seq)[:MOST_STACK],
                "source": stacks.source,
                "note": stacks.note,
            }
            for call in calls
        ]

    def _row(self, job_id: str) -> dict[str, Any]:
        nothing = {"pid": None, "seconds": 0.0, "stack": "", "source": "", "note": ""}
        return {"job_id": job_id, **self._names, **nothing}
