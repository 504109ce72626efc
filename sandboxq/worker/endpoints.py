"""What a worker tells by HTTP: /livez, /readyz, /metrics, /v1/load (docs/reference/http.md).

    Worker ── telemetry, once a batch ──► Measures, of each queue ─┐
    Redis ── asked at most once a second ──► QueueState ───────────┴─► /metrics, /v1/load
    Pulse, a timer of the loop ──► /livez       pool, circuit, Redis ──► /readyz

One Endpoints serves all workers of a process. A worker leaves when it is closed; what was counted
of its queue stays, so that counters do not begin anew when the code is reloaded.
"""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from sandboxq.observe.telemetry import WorkerClosed
from sandboxq.worker.http_server import Address, HttpServer, Request, Response
from sandboxq.worker.pulse import Pulse
from sandboxq.worker.readiness import Readiness

if TYPE_CHECKING:
    from types import TracebackType

    from sandboxq.observe.telemetry import Event
    from sandboxq.worker.worker import Worker

_log = logging.getLogger("sandboxq.worker")


class Endpoints:
    """``async with Endpoints("127.0.0.1:9808") as http: http.add(worker)``."""

    def __init__(self, address: str) -> None:
        """Check the address; nothing listens yet. Raises: UsageError."""
        self._server = HttpServer(address, self._answer)
        self._pulse = Pulse()
        self._workers: dict[Worker, Readiness] = {}
        self._routes = {"/livez": self._livez, "/readyz": self._readyz}

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
            for former in [each for each in self._workers if each.failure is not None]:
                if former.keys == worker.keys:
                    del self._workers[former]
            self._workers[worker] = Readiness(worker)
            worker.telemetry.subscribe(partial(self._on_closed, worker), WorkerClosed)

    def _on_closed(self, worker: Worker, _event: Event) -> None:
        if worker.failure is None:  # else its queue is not served, which is to be seen
            self._workers.pop(worker, None)

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
        rows: list[dict[str, Any]] = [await each.row() for each in list(self._workers.values())]
        # While code is reloaded two workers have a queue, and one of them leaves.
        ready = {row["queue"] for row in rows if row["ready"]}
        is_ready = bool(rows) and ready == {row["queue"] for row in rows}
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Response.of_json({"ready": is_ready, "workers": rows}, status)
