"""``python -m sandboxq demo --web``: the page, with something alive on it.

Pictures are resized, a few of them are damaged, one job takes too much memory, albums wait for
their pictures, a schedule adds jobs; all of it under a prefix of its own, which is removed at the
end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import threading
import uuid
import webbrowser
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.cli.pictures import pictures_in
from sandboxq.cli.web import serve
from sandboxq.errors import BrokerUnavailable, SandboxqError
from sandboxq.model.job import Keep
from sandboxq.queue.flow import FlowProducer
from sandboxq.queue.queue import Queue
from sandboxq.queue.schedulers import Repeat
from sandboxq.sandbox.policy import Policy
from sandboxq.worker.group import WorkerGroup
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sandboxq.queue.flow_plan import FlowNode

PICTURES, ALBUMS = "pictures", "albums"
# Seconds between two pictures; every so many of them something else happens.
_BETWEEN = 0.8
_DAMAGED, _ALBUM, _PANORAMA = 7, 12, 60
_WIDTHS = (1280, 640, 320)
_SCHEDULE_SECONDS = 15.0
_WATCH_SECONDS = 900
# What a panorama exceeds within seconds, and all others never do.
_MEMORY = 320 << 20
# Of finished jobs so many are kept: the demo may run for days.
_KEPT = 300
# When so many wait, as on a slow machine, none are added.
_WAITING = 100


class WebDemo(NamedTuple):
    """What the demo runs with."""

    url: str | None
    port: int
    children: int
    folder: Path
    processor: Path
    say: Callable[[str], object]

    async def run(self, count: int, source: list[Path] | None) -> None:
        """Show it until it is interrupted. Raises: SandboxqError, the page needs its extra."""
        prefix = f"sandboxq-demo-{uuid.uuid4().hex[:8]}"
        workers = [self._worker(name, prefix) for name in (PICTURES, ALBUMS)]
        async with (
            Queue(PICTURES, self.url, prefix=prefix) as pictures,
            Queue(ALBUMS, self.url, prefix=prefix) as albums,
            FlowProducer(self.url, prefix=prefix) as flows,
        ):
            feeder = _Feeder(pictures, albums, flows, self.folder / "thumbnails")
            try:
                async with WorkerGroup(workers) as group:
                    tasks = [
                        asyncio.create_task(group.run(handle_signals=False)),
                        asyncio.create_task(self._feed(feeder, count, source)),
                    ]
                    try:
                        await serve(
                            self.url, port=self.port, prefix=prefix, on_ready=self._on_ready
                        )
                    finally:
                        for task in tasks[1:]:
                            task.cancel()
                        group.stop()
                        group.stop()
                        await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                with contextlib.suppress(BrokerUnavailable):
                    for queue in (pictures, albums):
                        await queue.obliterate(force=True)

    def _worker(self, name: str, prefix: str) -> Worker:
        return Worker(
            name,
            self.processor,
            url=self.url,
            prefix=prefix,
            name=f"demo-{name}",
            # One watches for a quarter of an hour: another has to do the work.
            procs=max(self.children, 2) if name == PICTURES else 1,
            policy=Policy("limits", memory=_MEMORY),
            shutdown_timeout=1.0,
            remove_on_complete=Keep(count=_KEPT),
            remove_on_fail=Keep(count=_KEPT),
        )

    def _on_ready(self, address: str) -> None:
        self.say(f"the page is at {address} (Ctrl-C ends the demo)")
        if may_open_browser():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    async def _feed(self, feeder: _Feeder, count: int, source: list[Path] | None) -> None:
        try:
            await feeder.begin()
            paths = source or await pictures_in(
                self.folder / "pictures", count, on_ready=lambda: None
            )
            await feeder.run(paths)
        except SandboxqError as error:
            self.say(f"no more jobs are added: {error}")


class _Feeder:
    """Adds jobs, again and again."""

    def __init__(self, pictures: Queue, albums: Queue, flows: FlowProducer, folder: Path) -> None:
        self._pictures = pictures
        self._albums = albums
        self._flows = flows
        self._folder = folder
        self._random = random.Random(7)  # noqa: S311 - which picture is next is no secret
        self._paths: list[Path] = []

    async def begin(self) -> None:
        """Add what is there from the start: a schedule, and a job to look into."""
        await self._albums.upsert_scheduler("clean up", Repeat(every=_SCHEDULE_SECONDS))
        await self._pictures.add("watch", {"seconds": _WATCH_SECONDS}, timeout=2 * _WATCH_SECONDS)

    async def run(self, paths: list[Path]) -> None:
        """Add pictures, now and then something else, until cancelled."""
        self._paths = paths
        await self._pictures.add_bulk([("resize", self._picture()) for _ in range(12)])
        await self._pictures.add("panorama", {"parts": 500})
        number = 0
        while True:
            number += 1
            await asyncio.sleep(_BETWEEN)
            if (await self._pictures.counts())["waiting"] > _WAITING:
                continue
            await self._pictures.add("resize", self._picture(), timeout=60)
            if number % _DAMAGED == 0:
                await self._pictures.add("resize damaged", self._damaged())
            if number % _ALBUM == 1:
                await self._album(number)
            if number % _PANORAMA == 0:
                await self._pictures.add("panorama", {"parts": 500})

    def _picture(self) -> dict[str, Any]:
        path, width = self._random.choice(self._paths), self._random.choice(_WIDTHS)
        thumbnail = self._folder / f"{path.stem}-{width}.jpg"
        return {"src": str(path), "dst": str(thumbnail), "width": width}

    def _damaged(self) -> dict[str, Any]:
        return {**self._picture(), "src": __file__}

    async def _album(self, number: int) -> None:
        children: list[FlowNode] = [
            {"name": "resize", "queue": PICTURES, "data": self._picture()} for _ in range(4)
        ]
        await self._flows.add(name="album", queue=ALBUMS, data={"album": number}, children=children)


def may_open_browser() -> bool:
    """Tell whether somebody sits before this: a terminal, and a display."""
    has_display = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return has_display and sys.stdout.isatty()
