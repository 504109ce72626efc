"""The end of a worker: what runs may finish, the rest goes back; and the signals that ask for it.

SIGTERM and SIGINT stop a worker in a program as they stop the command. One set of handlers serves
all workers of a loop; handlers that the program has set stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Protocol

from sandboxq.errors import JobCancelled, OutcomesLost
from sandboxq.model.outcome import HandedBack
from sandboxq.worker.attempt import AttemptState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.pool.pool import Pool
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import HeldJobs
    from sandboxq.worker.settler import Settler

# What is left after the deadline for killing children and writing what is handed back.
LAST_WORDS = 5.0
# Of the jobs whose outcomes were lost, so many are named.
_MOST_NAMED = 20

_log = logging.getLogger("sandboxq.worker")
_NUMBERS = (signal.SIGTERM, signal.SIGINT)
# What the signals of one worker do, first to third.
_STEPS = (
    "no new jobs; running jobs ({running}) have {timeout:g} s to finish. Again: hand them back now",
    "handing back running jobs ({running}) now. Again: kill",
    "killed; its jobs come back as stalled",
)
_IDLE = "no new jobs; none is running"


class Shutdown:
    """Empties a worker that claims no more."""

    def __init__(
        self, pool: Pool, settler: Settler, held: HeldJobs, *, room: asyncio.Event
    ) -> None:
        """``room`` is set whenever a call has ended."""
        self._pool = pool
        self._settler = settler
        self._held = held
        self._room = room
        self.is_over = False  # not when whoever waited for it was cancelled
        self.lost: list[str] = []  # the jobs whose outcomes Redis has not taken

    async def run(self, timeout: float, hurry: asyncio.Event) -> None:
        """Finish what runs within the time, or until told to hurry; hand back the rest."""
        for call in self._pool.take_back():
            self._settler.hand_back(call.context)
        await self._held.wait_until_idle(timeout, unless=hurry)
        if not self._is_all_ended() or hurry.is_set():
            await self._give_up()
            await self._held.wait_until_idle(LAST_WORDS)
        self.lost = [attempt.job.id.decode(errors="replace") for attempt in self._held.values()]
        self.is_over = True

    def check(self) -> None:
        """Raise OutcomesLost when Redis was away until the end."""
        if not self.lost:
            return
        lost, named = len(self.lost), ", ".join(self.lost[:_MOST_NAMED])
        more = ", …" if lost > _MOST_NAMED else ""
        message = (
            f"{lost} outcome{'s' if lost > 1 else ''} could not be written to Redis before the "
            f"shutdown timeout (jobs: {named}{more}): another worker finds these jobs stalled, "
            "and runs them again"
        )
        raise OutcomesLost(message)

    def _is_all_ended(self) -> bool:
        """Tell whether only Redis is waited for: it had the whole timeout."""
        return all(attempt.state is AttemptState.ENDED for attempt in self._held.values())

    async def _give_up(self) -> None:
        """Kill what runs, and when all of it has gone, hand the jobs back in their order."""
        attempts = list(self._held.values())
        for attempt in attempts:
            self._give_up_one(attempt)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while self._pool.held:
                    self._room.clear()
                    await self._room.wait()
        for attempt in attempts:
            if attempt.state is AttemptState.GIVEN_UP:
                self._settler.end(attempt, HandedBack(was_started=True))

    def _give_up_one(self, attempt: Attempt) -> None:
        match attempt.state:
            case AttemptState.CLAIMED:
                self._settler.hand_back(attempt)
            case AttemptState.RUNNING | AttemptState.ANSWERED if attempt.call is not None:
                if attempt.call.ending is None:
                    attempt.state = AttemptState.GIVEN_UP
                self._pool.end_call(attempt.call, JobCancelled("the worker stops"))
            case _:
                pass


class Stoppable(Protocol):
    """What is asked of a worker here."""

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that running jobs have to finish."""

    @property
    def running(self) -> int:
        """How many jobs run."""

    def stop(self) -> None:
        """Finish what runs; called again, hand it back now."""

    def kill(self) -> None:
        """Kill the children."""


def end_by_signal(worker: Stoppable, number: signal.Signals, count: int) -> bool:
    """Do what the first, second or third signal asks for; True: the process is to end now."""
    step = min(count, len(_STEPS))
    text = _STEPS[step - 1] if worker.running or step > 1 else _IDLE
    message = text.format(running=worker.running, timeout=worker.shutdown_timeout)
    _log.warning("%s: %s", number.name, message)
    if step < len(_STEPS):
        worker.stop()
        return False
    worker.kill()
    return True


@contextlib.contextmanager
def ended_by_signals(worker: Stoppable) -> Iterator[None]:
    """Have the signals end a worker while the block runs; in the main thread, else nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    listener = _listeners.setdefault(loop, _Listener(loop))
    listener.add(worker)
    try:
        yield
    finally:
        if listener.remove(worker):
            del _listeners[loop]  # it holds the loop


class _Listener:
    """The handlers of a loop, while a worker runs in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._add, self._remove = loop.add_signal_handler, loop.remove_signal_handler
        self._workers: dict[Stoppable, int] = {}
        self._former: dict[signal.Signals, Any] = {}

    def add(self, worker: Stoppable) -> None:
        """Signals end this one too, from now on."""
        if not self._workers:
            self._listen()
        self._workers[worker] = 0

    def remove(self, worker: Stoppable) -> bool:
        """Forget one that has ended; after the last one everything is as it was. Tell if it was."""
        del self._workers[worker]
        if self._workers:
            return False
        self._leave()
        return True

    def _listen(self) -> None:
        for number in _NUMBERS:
            former = signal.getsignal(number)
            if _is_default(former):
                self._add(number, self._on_signal, number)
                self._former[number] = former

    def _leave(self) -> None:
        for number, former in self._former.items():
            self._remove(number)
            signal.signal(number, former)
        self._former.clear()

    def _on_signal(self, number: signal.Signals) -> None:
        is_over = False
        for worker in self._workers:
            self._workers[worker] += 1
            is_over |= end_by_signal(worker, number, self._workers[worker])
        if is_over:
            # What it does where no worker runs: end the process, or the program's main task.
            self._leave()
            signal.raise_signal(number)


_listeners: dict[asyncio.AbstractEventLoop, _Listener] = {}


def _is_default(handler: Any) -> bool:
    """Tell whether a handler is Python's own, or that of asyncio.run."""
    if handler in {signal.SIG_DFL, signal.default_int_handler}:
        return True
    return isinstance(getattr(getattr(handler, "func", handler), "__self__", None), asyncio.Runner)
