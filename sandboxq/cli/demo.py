"""``python -m sandboxq demo``: resizes pictures, with one child and with all in turn.

The ready-made processors are files to run, never modules to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

import sandboxq
from sandboxq.cli import process
from sandboxq.cli.demo_web import WebDemo
from sandboxq.cli.messages import end_with_exit_code
from sandboxq.cli.options import Procs, prefix_option, setting, url_option
from sandboxq.cli.output import STDOUT, Output
from sandboxq.cli.pictures import SIZE, own_pictures, pictures_in, require_pillow
from sandboxq.cli.progress import ProgressLine
from sandboxq.cli.web import DEFAULT_PORT
from sandboxq.errors import ProcessorNotLoaded, SandboxqError, UsageError
from sandboxq.observe.telemetry import (
    AttemptFailed,
    Event,
    JobsClaimed,
    JobsSettled,
    Telemetry,
)
from sandboxq.payload.printable import printable
from sandboxq.queue.queue import Queue
from sandboxq.sandbox.support import usable_cores
from sandboxq.worker.group import WorkerGroup
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Literal

WIDTHS = (1280, 640, 320)
# Without a terminal a line comes this often.
PLAIN_PROGRESS_SECONDS = 2.0
# One child and all take turns, so that other work on the machine slows both alike.
ROUNDS = 3
# Enough to know a speed by, in each round: of one child, and of each of all of them.
ONE_CHILD_JOBS, JOBS_PER_CHILD = 18, 9

_PACKAGE = Path(sandboxq.__file__).parent
# The wheel carries processors/ inside the package (pyproject.toml); a checkout has it beside it.
_FOLDERS = (_PACKAGE / "_processors", _PACKAGE.parent / "processors")


@dataclass(slots=True)
class _Run:
    """What one worker did, seen from its telemetry; times are seconds."""

    children: int
    jobs: int = 0
    began: float = 0.0
    ended: float = 0.0
    longest_gap: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first claim to the last outcome in Redis: starting children is not resizing."""
        return max(self.ended - self.began, 1e-6)

    @property
    def per_second(self) -> float:
        return self.jobs / self.seconds

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case JobsClaimed():
                self.began = self.began or now
            case JobsSettled(completed):
                self.jobs += completed
                self.ended = now
            case AttemptFailed(reason=reason):
                self.failures.append(reason)
            case _:
                pass


class _Round(NamedTuple):
    """One child and all of them, one after the other; with one child in all, only that."""

    one: _Run | None
    everyone: _Run


@click.command()
@click.option(
    "--pictures",
    type=click.IntRange(1, 999),
    default=12,
    show_default=True,
    help="How many pictures. They are generated, of 12 megapixels each.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Take photographs of your own from there instead; they are only read.",
)
@setting("--procs", type=Procs(), default="auto", show_default=True, help="Children.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".sandboxq") / "demo",
    show_default=True,
    metavar="DIR",
    help="Where generated pictures and thumbnails are kept; those there are used again.",
)
@click.option(
    "--web", "is_web", is_flag=True, help="Show the page with jobs of all kinds, until Ctrl-C."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="The page's port; 0 takes a free one.",
)
@url_option
@prefix_option
def command(
    pictures: int,
    *,
    source: Path | None,
    procs: int | Literal["auto"],
    keep: Path,
    is_web: bool,
    port: int,
    url: str | None,
    prefix: str,
) -> None:
    """Resize large pictures on every core, and say how much faster that is than one.

    With --web: serve the page, and keep jobs running that fail, die, wait and repeat.
    """
    children = usable_cores().number if procs == "auto" else procs
    output = Output(fileno=STDOUT)
    demo = _Demo(output, keep.resolve(), children=children, url=url, prefix=prefix)
    with output.in_charge(), end_with_exit_code():
        _make(keep)
        if is_web:
            require_pillow()
            shown = own_pictures(source.resolve(), pictures) if source else None
            processor = ready_made_processor("showcase")
            web = WebDemo(url, port, children, keep.resolve(), processor, demo.say)
            with contextlib.suppress(KeyboardInterrupt):
                process.run(web.run(pictures, shown))
        else:
            process.run(demo.run(pictures, source and source.resolve()))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        message = f"pictures are kept in {folder}, which cannot be made: {reason}; see --keep"
        raise UsageError(message) from error


class _Demo:
    """The steps of the demo, told by ``output``."""

    def __init__(
        self, output: Output, folder: Path, *, children: int, url: str | None, prefix: str
    ) -> None:
        self._output = output
        self._folder = folder
        self._children = children
        self._url = url
        self._prefix = prefix

    async def run(self, count: int, source: Path | None) -> None:
        require_pillow()
        paths = own_pictures(source, count) if source else await self._generated(count)
        processor, jobs = ready_made_processor("resize"), self._jobs(paths)
        # A name that nobody else has: the Redis may be one that is in use.
        name = f"sandboxq-demo-{uuid.uuid4().hex[:8]}"
        async with Queue(name, url=self._url, prefix=self._prefix) as queue:
            try:
                rounds = [await self._round(queue, processor, jobs) for _ in range(ROUNDS)]
            finally:
                await queue.obliterate(force=True)
        self._tell(rounds, len(paths))

    async def _generated(self, count: int) -> list[Path]:
        folder, began = self._folder / "pictures", time.monotonic()
        width, height = SIZE
        text = f"{_count(count, 'picture', 'pictures')} of {width} x {height} pixels"
        self._output.show(f"generating {text}")
        ready = 0

        def on_ready() -> None:
            nonlocal ready
            ready += 1
            self._output.show(f"generating {text}: {ready} ready")

        paths = await pictures_in(folder, count, on_ready=on_ready)
        self._output.show("")
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        seconds = time.monotonic() - began
        self.say(f"{text}, {megabytes:.0f} MB, generated in {seconds:.1f} s, in {folder}")
        return paths

    def _jobs(self, paths: list[Path]) -> list[dict[str, Any]]:
        thumbnails = self._folder / "thumbnails"
        return [
            {"src": str(path), "dst": str(thumbnails / f"{path.stem}-{width}.jpg"), "width": width}
            for path in paths
            for width in WIDTHS
        ]

    async def _round(self, queue: Queue, processor: Path, jobs: list[dict[str, Any]]) -> _Round:
        one = None
        if self._children > 1:
            one = await self._measured(queue, processor, jobs[:ONE_CHILD_JOBS], children=1)
        times = math.ceil(JOBS_PER_CHILD * self._children / len(jobs))
        everyone = await self._measured(queue, processor, jobs * times, children=self._children)
        return _Round(one, everyone)

    async def _measured(
        self, queue: Queue, processor: Path, jobs: list[dict[str, Any]], *, children: int
    ) -> _Run:
        await queue.add_bulk([("resize", data, {}) for data in jobs])
        self.say(f"{len(jobs)} jobs on {_count(children, 'child', 'children')} …")
        run, telemetry = _Run(children), Telemetry()
        telemetry.subscribe(run, JobsClaimed, JobsSettled, AttemptFailed)
        async with (
            Worker(
                queue.name, processor, procs=children, url=self._url, prefix=self._prefix,
                telemetry=telemetry,
            ) as worker,
            self._progress(worker),
        ):  # fmt: skip
            await worker.run(burst=True, handle_signals=False)
        run.longest_gap = worker.counters.longest_gap
        if run.failures:
            message = f"{len(run.failures)} of {len(jobs)} jobs failed: {run.failures[0]}"
            raise SandboxqError(message)
        return run

    @contextlib.asynccontextmanager
    async def _progress(self, worker: Worker) -> AsyncIterator[None]:
        if self._output.has_progress:
            async with ProgressLine(WorkerGroup([worker]), self._output).shown():
                yield
            return
        telling = asyncio.create_task(self._tell_progress(worker))
        try:
            yield
        finally:
            telling.cancel()

    async def _tell_progress(self, worker: Worker) -> None:
        while True:
            await asyncio.sleep(PLAIN_PROGRESS_SECONDS)
            busy = f"{worker.pool.busy}/{worker.pool.size} children busy"
            self.say(f"  {worker.counters.completed} done, {worker.counters.failed} failed, {busy}")

    def _tell(self, rounds: list[_Round], pictures: int) -> None:
        runs = [each.everyone for each in rounds]
        widths = ", ".join(str(width) for width in WIDTHS)
        rows = [
            ("pictures", f"{pictures}, each to widths {widths}"),
            ("jobs", f"{runs[0].jobs} in each of {len(runs)} rounds"),
            ("jobs per second", f"{statistics.median(run.per_second for run in runs):.1f}"),
            ("speed-up over one core", _speed_up(rounds)),
            ("longest gap between heartbeats", f"{max(run.longest_gap for run in runs):.2f} s"),
            ("thumbnails", f"{self._folder / 'thumbnails'}"),
        ]
        self.say("")
        for name, value in rows:
            self.say(f"{name:<31} {value}")

    def say(self, text: str) -> None:
        """Print a line."""
        self._output.say(f"{printable(text)}\n")


def _speed_up(rounds: list[_Round]) -> str:
    ones = [each.one for each in rounds if each.one is not None]
    if not ones:
        return "not measured: there is one child only"
    factors = [
        each.everyone.per_second / one.per_second for each, one in zip(rounds, ones, strict=True)
    ]
    factor, children = statistics.median(factors), rounds[0].everyone.children
    of_each = ", ".join(f"{each:.2f}" for each in factors)
    if factor > children:
        return f"not measured: something else slowed the machine meanwhile (rounds: {of_each})"
    one = statistics.median(run.per_second for run in ones)
    return (
        f"{factor:.2f} with {_count(children, 'child', 'children')} (rounds: {of_each}; "
        f"one child: {one:.1f} jobs per second)"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def ready_made_processor(name: str) -> Path:
    """Return the file of the ready-made processor of this name, such as ``resize``.

    Raises:
        ProcessorNotLoaded: the installation has no such file.

    """
    for folder in _FOLDERS:
        path = folder / f"{name}.py"
        if path.is_file():
            return path
    message = f"the ready-made processor {name!r} is not in this installation of sandboxq"
    raise ProcessorNotLoaded(message)
