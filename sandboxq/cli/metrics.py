"""``python -m sandboxq metrics``: the metrics of queues in Redis, without a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

import click

from sandboxq.broker.commands.load import load_of
from sandboxq.broker.commands.workers import worker_counts
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.cli import process
from sandboxq.cli.messages import echo
from sandboxq.cli.options import prefix_option, setting, url_option
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.model.validation import whole_from_wire
from sandboxq.observe.exposition import Page, wants_open_metrics
from sandboxq.queue.queue import queue_names
from sandboxq.worker.http_server import DEFAULT_PORT, HttpServer, Request, Response
from sandboxq.worker.metrics import SharedAnswer, add_load, add_process, load_row, total

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxq.broker.commands.load import QueueLoad

_log = logging.getLogger("sandboxq.cli")
# To find queues is to walk over the whole database.
_FIND_SECONDS = 60.0
# Each queue is asked by itself, and each has ten lines: more are no page that is scraped.
MOST_QUEUES = 1000
# For all queues together. Prometheus gives up after ten seconds.
_MOST_SECONDS = 8.0


@click.command()
@click.argument("queues", metavar="[QUEUE]...", nargs=-1)
@setting(
    "--http",
    metavar="ADDRESS",
    default=str(DEFAULT_PORT),
    show_default=True,
    help="Where to listen: 9808, 0.0.0.0:9808.",
)
@click.option("--once", is_flag=True, help="Print them and end; nothing listens.")
@url_option
@prefix_option
def command(
    *, queues: tuple[str, ...], http: str, once: bool, url: str | None, prefix: str
) -> None:
    """Serve the metrics of each QUEUE, or of all queues, at /metrics; no worker is needed.

    Counts by state, the age of the oldest job that waits, and connected workers. What workers
    measure themselves they tell at their own /metrics: see run --http.
    /v1/load?queue=QUEUE&children=N is for what starts workers of N children, also the first.
    """
    process.run(_export(queues, http=http, is_once=once, url=url, prefix=prefix))


async def _export(
    names: Sequence[str], *, http: str, is_once: bool, url: str | None, prefix: str
) -> None:
    broker = await Broker.connect(url)
    try:
        exporter = Exporter(broker, [QueueKeys(name, prefix) for name in names], prefix)
        if is_once:
            echo((await exporter.page(is_open=False)).text().rstrip("\n"))
            return
        server = HttpServer(http, exporter.answer)
        await server.start()
        _log.info("http://%s/metrics /v1/load /livez", server.address)
        try:
            await asyncio.Event().wait()
        finally:
            await server.close()
    finally:
        await broker.close()


class Exporter:
    """Asks Redis when it is scraped."""

    def __init__(self, broker: Broker, queues: Sequence[QueueKeys], prefix: str) -> None:
        """Tell of these queues, or if there are none, of all that the prefix has then."""
        self._broker = broker
        self._prefix = prefix
        self._named = list(queues)
        self._found: list[QueueKeys] = []
        self._found_at = float("-inf")
        self._asked = SharedAnswer(self._figures, most=_MOST_SECONDS)

    async def answer(self, request: Request) -> Response:
        """Answer /metrics, /v1/load, and /livez for a probe of the exporter itself."""
        match request.path:
            case "/metrics":
                page = await self.page(is_open=wants_open_metrics(request.accept))
                return Response(HTTPStatus.OK, page.text(), page.content_type)
            case "/v1/load":
                return await self._load(request.query)
            case "/livez":
                return Response.of_json({"live": True})
            case _:
                return Response(HTTPStatus.NOT_FOUND, "404 there is /metrics, /v1/load, /livez\n")

    async def _load(self, query: Mapping[str, str]) -> Response:
        """Answer what scales workers, where there may be none: so they say how many children."""
        wanted, children = query.get("queue"), whole_from_wire(query.get("children", "1"))
        if not children or children < 1:
            return Response(
                HTTPStatus.BAD_REQUEST, "400 children: jobs that a worker runs at once\n"
            )
        loads, _ = await self._asked.get() or ({}, {})
        meant = {keys: load for keys, load in loads.items() if wanted in {None, keys.queue}}
        rows = [load_row(keys.queue, load, children) for keys, load in meant.items() if load]
        if not rows or len(rows) < len(meant):  # a 0 would have the workers taken away
            text = f"503 Redis does not tell of {wanted or 'the queues'}\n"
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, text)
        if wanted is not None:
            return Response.of_json(rows[0])
        return Response.of_json({**total(rows), "queues": rows})

    async def page(self, *, is_open: bool) -> Page:
        """Return what there is to tell now."""
        page = Page(is_open=is_open)
        add_process(page)
        loads, workers = await self._asked.get() or ({}, {})
        page.gauge(
            "sandboxq_exporter_up",
            "1 when Redis could be read",
            bool(loads),
        )
        for keys, load in loads.items():
            add_load(page, keys.queue, load)
        for queue, count in workers.items():
            text = "Connected workers of the queue"
            page.gauge("sandboxq_queue_workers", text, count, queue=queue)
        return page

    async def _figures(self) -> tuple[dict[QueueKeys, QueueLoad | None], dict[str, int]]:
        queues = self._named or await self._all()
        loads: dict[QueueKeys, QueueLoad | None] = {}
        for keys in queues:
            try:
                loads[keys] = await load_of(self._broker, keys)
            except BrokerUnavailable:
                raise
            except QueueError:  # one whose keys have other types
                loads[keys] = None
        workers: dict[str, int] = {}
        with contextlib.suppress(QueueError):  # where this user may not ask for clients
            workers = await worker_counts(self._broker, queues)
        return loads, workers

    async def _all(self) -> list[QueueKeys]:
        now = asyncio.get_running_loop().time()
        if now - self._found_at > _FIND_SECONDS:
            names = await queue_names(self._broker, self._prefix)
            if len(names) > MOST_QUEUES:
                _log.warning(
                    "%d queues are left out: name those to tell of", len(names) - MOST_QUEUES
                )
            self._found = [QueueKeys(name, self._prefix) for name in names[:MOST_QUEUES]]
            self._found_at = now
        return self._found
