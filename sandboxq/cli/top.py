"""``python -m sandboxq top``: hosts, workers, children and jobs, live in the terminal.

Workers look and send only while somebody has asked: see queue/watch.py. Without a terminal it
prints once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from sandboxq.broker.commands.queues import queue_names
from sandboxq.broker.commands.workers import ask_for_facts
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.cli.top_screen import lines_of
from sandboxq.errors import QueueError
from sandboxq.queue.fleet import Fleet
from sandboxq.queue.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAINT = 0.5
# Without a terminal: CPU is what was used between two looks.
_BETWEEN = 1.0
# Their default would leave the terminal as it is while the command runs.
_ENDS = (signal.SIGTERM, signal.SIGHUP)
# The other screen, without a cursor, lines cut at the edge; and back.
_BEGIN = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_END = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@click.argument("queue", required=False)
@click.option("--once", is_flag=True, help="Print once; so does it where there is no terminal.")
@url_option
@prefix_option
@json_option
def command(queue: str | None, *, once: bool, url: str | None, prefix: str, as_json: bool) -> None:
    """Watch what runs: hosts, workers, children and jobs, of every queue or of QUEUE.

    CPU and memory of a child are those of all that it has started. q ends it.
    """
    if as_json:
        echo_json(process.run(_once(queue, url=url, prefix=prefix)))
    elif once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        echo("\n".join(process.run(_looked_twice(queue, url=url, prefix=prefix))))
    else:
        with contextlib.suppress(KeyboardInterrupt):
            process.run(_live(queue, url=url, prefix=prefix))


async def _queues(broker: Broker, queue: str | None, prefix: str) -> list[QueueKeys]:
    names = [queue] if queue else await queue_names(broker, prefix=prefix)
    return [QueueKeys(name, prefix) for name in names]


async def _once(queue: str | None, *, url: str | None, prefix: str) -> list[dict[str, Any]]:
    broker = await Broker.connect(url)
    try:
        queues = await _queues(broker, queue, prefix)
        # So little that the first row a second later finds nobody who wants it.
        answers = await ask_for_facts(broker, queues, seconds=0.001) if queues else []
    finally:
        await broker.close()
    if not answers:
        where = f"queue {queue!r}" if queue else "any queue"
        message = f"no running worker of {where} answered; start one with 'run'"
        raise QueueError(message)
    return answers


async def _looked_twice(queue: str | None, *, url: str | None, prefix: str) -> list[str]:
    fleet = Fleet()
    for pause in (0.0, _BETWEEN):
        await asyncio.sleep(pause)
        for row in await _once(queue, url=url, prefix=prefix):
            fleet.take(row, time.monotonic())
    return lines_of(fleet.tree(time.monotonic()))


async def _live(queue: str | None, *, url: str | None, prefix: str) -> None:
    broker, fleet = await Broker.connect(url), Fleet()
    watch = Watch(
        broker,
        lambda row: fleet.take(row, time.monotonic()),
        queues=lambda: _queues(broker, queue, prefix),
        prefix=prefix,
    )
    try:
        with _screen(), _keys() as pressed:
            watching = asyncio.create_task(watch.run())
            try:
                while not pressed.is_set() and not watching.done():
                    _paint(_lines(fleet, watch.note))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_PAINT):
                            await pressed.wait()
            finally:
                watching.cancel()
                (ended,) = await asyncio.gather(watching, return_exceptions=True)
    finally:
        await broker.close()
    if isinstance(ended, Exception):
        raise ended


def _lines(fleet: Fleet, note: str) -> list[str]:
    """Return what there is to see now; ``note`` says why there is nothing new."""
    first, *rest = lines_of(fleet.tree(time.monotonic()))
    clock = time.strftime("%H:%M:%S")
    return [f"sandboxq top, {clock}: {note or first}   (q ends)", *rest]


def _paint(lines: list[str]) -> None:
    size = shutil.get_terminal_size()
    if len(lines) > size.lines:
        hidden = len(lines) - size.lines + 1
        lines = [*lines[: size.lines - 1], f"… and {hidden} lines more: a larger window shows them"]
    text = f"{_REST_OF_LINE}\r\n".join(line[: size.columns] for line in lines)
    sys.stdout.write(f"{_HOME}{text}{_REST_OF_LINE}{_REST_OF_SCREEN}")
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    sys.stdout.write(_BEGIN)
    try:
        yield
    finally:
        sys.stdout.write(_END)
        sys.stdout.flush()


@contextlib.contextmanager
def _keys() -> Iterator[asyncio.Event]:
    """Read keys without echo; set the event when one of them, or a signal, ends the command."""
    import termios  # noqa: PLC0415 - where there is a terminal
    import tty  # noqa: PLC0415 - as above

    pressed, fd, loop = asyncio.Event(), sys.stdin.fileno(), asyncio.get_running_loop()

    def read() -> None:
        keys = os.read(fd, 64)
        if not keys or b"q" in keys.lower():
            pressed.set()
            loop.remove_reader(fd)

    former = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    for number in _ENDS:
        loop.add_signal_handler(number, pressed.set)
    try:
        yield pressed
    finally:
        for number in _ENDS:
            loop.remove_signal_handler(number)
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, former)
