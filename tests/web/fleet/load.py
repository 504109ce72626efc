"""Starts the fleet's workers and gives them work, for pictures and for looking at the page."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sandboxq import FlowProducer, Queue, Repeat
from sandboxq.broker.connect.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.queue.flow_plan import FlowNode

_FOLDER = Path(__file__).parent
_WORKERS: tuple[tuple[str, Sequence[str]], ...] = (
    ("photographs", ("--procs", "3", "--memory", "256M", "--name", "camera-1")),
    ("invoices", ("--procs", "1", "--name", "office-1")),
    ("reports", ("--procs", "1", "--name", "press-1", "--timeout", "30")),
)
_PLACES = ("lisbon", "oslo", "kyoto", "quito", "dakar", "hobart")


class Fleet:
    """Three workers of three queues."""

    def __init__(self, url: str) -> None:
        """Run on the Redis at ``url``."""
        self.url = url
        self._workers: list[asyncio.subprocess.Process] = []
        self._stack = contextlib.AsyncExitStack()
        self._random = random.Random(7)
        # Its path is seen on the page, in stacks.
        self._studio = Path(tempfile.gettempdir()) / "studio"
        self._numbers = itertools.count(1001)

    async def __aenter__(self) -> Self:
        """Start the workers."""
        broker = await Broker.connect(self.url)
        self._stack.push_async_callback(broker.close)
        self.photographs, self.invoices, self.reports, self.thumbnails = (
            Queue(name, broker=broker)
            for name in ("photographs", "invoices", "reports", "thumbnails")
        )
        self.flows = FlowProducer(broker=broker)
        for name, options in _WORKERS:
            self._workers.append(await self._start(name, options))
        return self

    async def _start(self, name: str, options: Sequence[str]) -> asyncio.subprocess.Process:
        self._studio.mkdir(exist_ok=True)
        file = shutil.copy(_FOLDER / f"{name}.py", self._studio)
        command = (sys.executable, "-m", "sandboxq", "run", file, "--queue", name, *options)
        quiet = asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(
            *command, "--url", self.url, stdout=quiet, stderr=quiet
        )

    async def __aexit__(self, *_: object) -> None:
        """Stop the workers."""
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            await worker.wait()
        await self._stack.aclose()

    # ── work ─────────────────────────────────────────────────────────────────

    async def fill(self) -> None:
        """Add what a page should have: of each state some, a flow, schedules, a death to come."""
        await self.photographs.add(
            "panorama", self._photograph("alps-360", width=12000), attempts=5
        )
        for _ in range(30):
            await self._photograph_job()
            await self._invoice_job()
        for hours in range(1, 6):
            await self.photographs.add(
                "resize", self._photograph("dawn"), delay=hours * 3600.0, priority=hours
            )
        restored = {**self._photograph("grandmother-1931"), "strokes": 9000}
        await self.photographs.add("restore", restored, timeout=3600)
        await self.photographs.add("scan", self._photograph("negative"), attempts=5)
        await self.reports.add("index", {"seconds": 60}, timeout=2)
        await self._flow("annual")
        await self._schedules()
        await self.thumbnails.add_bulk([("thumbnail", {"upload": number}) for number in range(40)])
        await self.thumbnails.pause()

    async def keep_busy(self) -> None:
        """Add work about as fast as it is done, until cancelled."""
        for turn in itertools.count():
            await self._photograph_job()
            await self._invoice_job()
            if turn % 20 == 0:
                await self._flow(self._random.choice(("weekly", "monthly")))
            if turn % 60 == 30:
                await self.photographs.add("panorama", self._photograph("fjord-360", width=9000))
            if turn % 90 == 45:
                await self.photographs.add("scan", self._photograph("negative"))
                await self.reports.add("index", {"seconds": 60}, timeout=2)
            await asyncio.sleep(0.8)

    def _photograph(self, name: str, width: int = 640) -> dict[str, Any]:
        return {
            "photograph": f"{name}-{next(self._numbers)}.jpg",
            "width": width,
            "album": {"id": self._random.randrange(100), "owner": "ada", "tags": ["raw", "2026"]},
            "upload": {"bucket": "originals", "token": "eyJhbGciOi.not-for.you"},
        }

    async def _photograph_job(self) -> None:
        data = self._photograph(self._random.choice(_PLACES))
        data["broken"] = self._random.random() < 0.12
        await self.photographs.add("resize", data, attempts=2)

    async def _invoice_job(self) -> None:
        customer = self._random.randrange(1, 120)
        data = {
            "number": next(self._numbers),
            "customer": customer,
            "total": round(self._random.uniform(10, 900), 2),
            "currency": self._random.choice(("EUR", "CHF", "GBP")),
        }
        await self.invoices.add("send", data, attempts=1 + customer % 3)

    async def _flow(self, name: str) -> None:
        regions = ("north", "south", "east", "west", "islands")
        chapters: list[FlowNode] = [
            {
                "name": f"chapter-{region}",
                "queue": "reports",
                "data": {"region": region, "seconds": self._random.uniform(0.3, 2)},
                "children": [
                    {
                        "name": f"figure-{region}-{number}",
                        "queue": "reports",
                        "data": {"seconds": 0.2},
                    }
                    for number in range(1, 4)
                ],
            }
            for region in regions
        ]
        chapters.append(
            {
                "name": "chapter-at-sea",
                "queue": "reports",
                "data": {"region": "at sea", "fails": True},
                "on_failure": "ignore",
            }
        )
        await self.flows.add(name=f"{name}-report", queue="reports", children=chapters)

    async def _schedules(self) -> None:
        await self.reports.upsert_scheduler(
            "weekly-report", Repeat(cron="0 7 * * 1", tz="Europe/Berlin"), name="weekly"
        )
        await self.invoices.upsert_scheduler(
            "reminders",
            Repeat(cron="30 9 * * 1-5", tz="Europe/Zurich"),
            name="remind",
            data={"number": 0, "customer": 1, "total": 1, "currency": "EUR"},
        )
        await self.photographs.upsert_scheduler(
            "contact-sheet", Repeat(every=20), name="resize", data=self._photograph("sheet", 320)
        )
