"""``python -m sandboxq top``: hosts, workers, children and jobs, live in the terminal.

    asker, every few seconds ──"facts" for the next seconds──► every worker
    reader ◄──────────── a row of each, every second ─────────── a channel of our own

Workers look and send only while somebody has asked. Without a terminal it prints once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import click

from sandboxq.broker.commands.queues import queue_names
from sandboxq.broker.commands.workers import ask_for_facts, facts_from_payload
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.cli.top_screen import View
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is asked for, and how often it is asked for again, in seconds.
_WANTED = 12.0
_RENEW = 4.0
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
    view = View()
    for pause in (0.0, _BETWEEN):
        await asyncio.sleep(pause)
        for row in await _once(queue, url=url, prefix=prefix):
            view.take(row, time.monotonic())
    return view.lines(time.monotonic())


async def _live(queue: str | None, *, url: str | None, prefix: str) -> None:
    broker = await Broker.connect(url)
    try:
        with _screen(), _keys() as pressed:
            watch = _Watch(broker, queue, prefix)
            tasks = [asyncio.ensure_future(each) for each in (watch.ask(), watch.read())]
            try:
                while not pressed.is_set() and not any(task.done() for task in tasks):
                    _paint(watch.lines())
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_PAINT):
                            await pressed.wait()
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await broker.close()
    for error in ended:
        if isinstance(error, Exception):
            raise error


class _Watch:
    """What is heard of the workers, for as long as somebody looks."""

    def __init__(self, broker: Broker, queue: str | None, prefix: str) -> None:
        self._broker, self._queue, self._prefix = broker, queue, prefix
        self._channel = QueueKeys(queue or "top", prefix).reply_key(str(uuid.uuid4()))
        self._view = View()
        self._note = ""

    def lines(self) -> list[str]:
        """Return what there is to see now."""
        first, *rest = self._view.lines(time.monotonic())
        clock = time.strftime("%H:%M:%S")
        return [f"sandboxq top, {clock}: {self._note or first}   (q ends)", *rest]

    async def ask(self) -> None:
        """Ask all workers, again and again; those that start later are found by that."""
        while True:
            try:
                queues = await _queues(self._broker, self._queue, self._prefix)
                for row in await self._asked(queues):
                    self._view.take(row, time.monotonic())
                self._note = ""
            except BrokerUnavailable as error:
                self._note = f"Redis is away: {error}"
                await self._broker.wait_until_back()
            else:
                await asyncio.sleep(_RENEW)

    async def _asked(self, queues: list[QueueKeys]) -> list[dict[str, Any]]:
        if not queues:
            return []
        return await ask_for_facts(self._broker, queues, seconds=_WANTED, channel=self._channel)

    async def read(self) -> None:
        """Take what workers publish."""
        subscription = await self._broker.subscribe(self._channel)
        try:
            async for payload in subscription:
                row = facts_from_payload(payload)
                if row is not None:
                    self._view.take(row, time.monotonic())
        finally:
            await asyncio.shield(subscription.close())


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
