"""What commands that operate a queue have in common: the queue, the question, the counter."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

from sandboxq.broker.commands.settings import QueueMeta
from sandboxq.cli import process
from sandboxq.errors import QueueError
from sandboxq.payload.printable import printable, printable_line
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask on the terminal.")


def run_on_queue(
    name: str, body: Callable[[Queue], Coroutine[Any, Any, T]], *, url: str | None, prefix: str
) -> T:
    """Run an async body with the queue, connected."""

    async def main() -> T:
        async with Queue(name, url=url, prefix=prefix) as queue:
            return await body(queue)

    return process.run(main())


async def check_exists(queue: Queue) -> None:
    """Say that nobody has used this queue. Raises: QueueError."""
    if await queue.get_meta() == QueueMeta():
        message = (
            f"there is no queue {queue.name!r} under the prefix {queue.keys.prefix!r}; "
            "`python -m sandboxq stats` lists what there is"
        )
        raise QueueError(message)


def ask(question: str, *, yes: bool) -> None:
    """Ask on a terminal whether to go on, and leave when not; scripts are not asked."""
    if not yes and sys.stdin.isatty():
        click.confirm(printable(question), abort=True, err=True)


def jobs_text(count: int, kind: str = "") -> str:
    """Return a number of jobs as people read it: ``1,234 failed jobs``."""
    words = [f"{count:,}", *([kind] if kind else []), "job" if count == 1 else "jobs"]
    return " ".join(words)


@contextlib.contextmanager
def counting(doing: str) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many jobs are done; yield what is to be called with their number.

    Ctrl-C leaves, after saying how far it came.
    """
    counts = [0]
    shown = Text(printable_line(doing))  # Text: names are no markup, and no emoji codes
    with Status(shown, console=Console(stderr=True)) as status:

        def show(done: int) -> None:
            counts[0] = done
            status.update(Text(f"{printable_line(doing)}: {done:,}"))

        try:
            yield show
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            status.stop()
            message = f"stopped {doing} after {jobs_text(counts[0])}; what was done stays done"
            raise QueueError(message) from error
