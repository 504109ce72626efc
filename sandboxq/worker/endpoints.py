"""A worker's answers by HTTP: /livez, /readyz, /metrics, /v1/load (docs/reference/http.md).

    Worker ── telemetry, once a batch ──► Measures, of each queue ─┐
    Redis ── asked at most once a second ──► QueueLoad ────────────┴─► /metrics, /v1/load
    Pulse, a timer of the loop ──► /livez       pool, circuit, Redis ──► /readyz

One Endpoints serves all workers of a process. A worker leaves when it is closed; the counts of its
queue stay, so that counters do not begin anew when the code is reloaded.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from sandboxq.observe.exposition import Page, wants_open_metrics
from sandboxq.observe.telemetry import WorkerClosed
from sandboxq.worker.http_server import Address, HttpServer, Request, Response
from sandboxq.worker.metrics import Measures, Watched, add_load, add_process, add_worker, total

if TYPE_CHECKING:
    from types import TracebackType

    from sandboxq.broker.commands.load import QueueLoad
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.observe.telemetry import Event
    from sandboxq.worker.worker import Worker

_log = logging.getLogger("sandboxq.worker")
# Seconds between two checks of the loop.
TICK = 0.5
# Seconds: a longer block is serious: locks of 30 s are renewed twice a second, and probes give up.
STOOD_STILL = 5.0
# Seconds for which a block is reported: a probe can only ask once the loop turns again.
REMEMBERED = 10.0
_BLOCKED = f"How often the event loop of the worker stood still for more than {STOOD_STILL:g} s"


class Endpoints:
    """``async with Endpoints("127.0.0.1:9808") as http: http.add(worker)``."""

    def __init__(self, address: str) -> None:
        """Check the address; nothing listens yet. Raises: UsageError."""
        self._server = HttpServer(address, self._answer)
        self._pulse = Pulse()
        self._watched: dict[Worker, Watched] = {}
        self._measures: dict[QueueKeys, Measures] = {}
        self._routes = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/v1/load": self._load,
        }

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def start(self) -> None:
        """Listen. Raises: UsageError when the address cannot be had."""
        await self._server.start()
        self._pulse.start()
        _log.info("http       http://%s %s", self._server.address, " ".join(self._routes))

    async def close(self) -> None:
        """Listen no more; twice is harmless."""
        self._pulse.stop()
        await self._server.close()

    @property
    def address(self) -> Address:
        """Where it listens; the port that was found, if any would do."""
        return self._server.address

    def add(self, *workers: Worker) -> None:
        """Answer for these workers too, from before they are started until they are closed."""
        for worker in workers:
            for former in [each for each in self._watched if each.failure is not None]:
                if former.keys == worker.keys:
                    del self._watched[former]
            measures = self._measures.setdefault(worker.keys, Measures(worker.keys.queue))
            self._watched[worker] = Watched(worker, measures)
            worker.telemetry.subscribe(partial(self._on_closed, worker), WorkerClosed)
            worker.telemetry.subscribe(measures, *Measures.KINDS)

    def _on_closed(self, worker: Worker, _event: Event) -> None:
        if worker.failure is None:  # else its queue is not served, which is to be seen
            self._watched.pop(worker, None)

    async def _answer(self, request: Request) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            text = f"404 there is {', '.join(self._routes)}\n"
            return Response(HTTPStatus.NOT_FOUND, text)
        return await route(request)

    async def _livez(self, _request: Request) -> Response:
        # Never asks Redis: while that is away nobody is helped by a restart.
        if self._pulse.is_steady:
            return Response.of_json({"live": True})
        return Response.of_json({"live": False}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def _readyz(self, _request: Request) -> Response:
        # At once: each may wait for Redis until a probe of one after the other would have given up.
        rows = await asyncio.gather(*(each.readiness() for each in self._watched.values()))
        # While code is reloaded two workers have a queue, and one of them leaves.
        ready = {row["queue"] for row in rows if row["ready"]}
        is_ready = bool(rows) and ready == {row["queue"] for row in rows}
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Response.of_json({"ready": is_ready, "workers": rows}, status)

    async def _metrics(self, request: Request) -> Response:
        page = Page(is_open=wants_open_metrics(request.accept))
        add_process(page)
        page.counter("sandboxq_worker_loop_blocked", _BLOCKED, self._pulse.blocked)
        loads = await self._loads()
        for keys, load in loads.items():
            add_load(page, keys.queue, load)
        for measures in self._measures.values():
            measures.add_to(page)
        for watched in self._newest().values():
            add_worker(page, watched)
        return Response(HTTPStatus.OK, page.text(), page.content_type)

    async def _load(self, request: Request) -> Response:
        newest, loads = self._newest(), await self._loads()
        wanted = request.query.get("queue")
        meant = [keys for keys in loads if wanted in {None, keys.queue}]
        if wanted is not None and not meant:
            return Response(HTTPStatus.NOT_FOUND, "404 no worker here has that queue\n")
        # A queue that has failed here does not blind what scales the others.
        told = {keys: loads[keys] for keys in meant if newest[keys].worker.failure is None}
        rows = [newest[keys].row(load) for keys, load in told.items() if load is not None]
        if not rows or len(rows) < len(told):  # a 0 would have the workers taken away
            silent = ", ".join(keys.queue for keys in meant if told.get(keys) is None)
            text = f"503 nothing is known of {silent or 'any queue'}: see /readyz\n"
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, text)
        if wanted is not None:
            return Response.of_json(rows[0])
        return Response.of_json({**total(rows), "queues": rows})

    def _newest(self) -> dict[QueueKeys, Watched]:
        """Return one worker of each queue: the one that stays, where one is leaving."""
        return {each.worker.keys: each for each in self._watched.values()}

    async def _loads(self) -> dict[QueueKeys, QueueLoad | None]:
        newest = self._newest()
        loads = await asyncio.gather(*(each.load() for each in newest.values()))
        return dict(zip(newest, loads, strict=True))


class Pulse:
    """Ticks on the running loop from ``start`` to ``stop``."""

    def __init__(self, most: float = STOOD_STILL) -> None:
        """Begin without having ticked; ``most`` seconds may pass without a turn of the loop."""
        self._most = most
        self.blocked = 0  # how often it stood still
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._until = float("-inf")

    def start(self) -> None:
        """Tick from now on."""
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._tick()

    def stop(self) -> None:
        """Tick no more; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def is_steady(self) -> bool:
        """Whether the loop has not stood still lately for more than ``most`` seconds."""
        if self._loop is None:
            return False
        now = self._loop.time()
        return now - self._last - TICK <= self._most and now > self._until

    def _tick(self) -> None:
        assert self._loop is not None  # noqa: S101 - it was started
        now = self._loop.time()
        if now - self._last - TICK > self._most:
            self.blocked += 1
            self._until = now + REMEMBERED
        self._last = now
        self._timer = self._loop.call_later(TICK, self._tick)
