"""A listener that remembers, and a pool around it that leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxq.child.frames import encode_call
from sandboxq.model.outcome import Completed, Failed
from sandboxq.observe.telemetry import Event, Telemetry
from sandboxq.pool.pool import Call, Pool
from sandboxq.sandbox.processes import descendants_of
from tests.conftest import WAIT_SECONDS, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import Question


class Caller:
    """Submits calls and keeps what becomes of them."""

    def __init__(self) -> None:
        """Start with nothing; ``open_pool`` sets the pool."""
        self.pool: Pool
        self.outcomes: dict[bytes, Outcome] = {}
        self.order: list[bytes] = []
        self.seconds: dict[bytes, float] = {}
        self.reports: list[tuple[bytes, str, bytes]] = []
        self.questions: list[Question] = []
        self.lines: list[tuple[bytes | None, str, str]] = []
        self.events: list[Event] = []
        self._waiting: dict[bytes, asyncio.Future[Outcome]] = {}
        self._count = 0

    def submit(
        self, data: Any = None, *, timeout: float | None = None, grace: float = 0.15, **fields: Any
    ) -> Call:
        """Give a call to the pool; ``data`` is any JSON, or bytes as they are."""
        call = self.make(data, **fields)
        call.timeout, call.grace = timeout, grace
        self.pool.submit(call)
        return call

    def submit_all(self, datas: list[Any]) -> list[Call]:
        """Give calls to the pool together."""
        calls = [self.make(data) for data in datas]
        self.pool.submit_all(calls)
        return calls

    def make(self, data: Any, **fields: Any) -> Call:
        """Return a call that is to be submitted."""
        self._count += 1
        key = str(self._count).encode()
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        call = Call(key, encode_call(job_id=key, name=b"test", data=raw, **fields))
        self._waiting[key] = asyncio.get_running_loop().create_future()
        return call

    async def until_begun(self, *calls: Call) -> None:
        """Wait until the code of these calls has been reached in children, or has even ended."""

        async def have_begun() -> bool:
            children = self.pool.supervisor.children
            flying = [(child, call) for child in children for call in child.flying.values()]
            begun = {call.key for child, call in flying if child.has_begun(call)}
            return begun | self.outcomes.keys() >= {call.key for call in calls}

        await wait_until_async(have_begun)

    async def outcome(self, call: Call) -> Outcome:
        """Wait for the end of a call."""
        return await asyncio.wait_for(asyncio.shield(self._waiting[call.key]), WAIT_SECONDS)

    async def run(self, data: Any = None, **fields: Any) -> Outcome:
        """Submit and wait."""
        return await self.outcome(self.submit(data, **fields))

    async def value(self, data: Any = None, **fields: Any) -> Any:
        """Submit, wait, and return the decoded value; it must have completed."""
        outcome = await self.run(data, **fields)
        assert isinstance(outcome, Completed), outcome
        return json.loads(outcome.value)

    async def failure(self, data: Any = None, **fields: Any) -> Failed:
        """Submit, wait, and return the failure; it must have failed."""
        outcome = await self.run(data, **fields)
        assert isinstance(outcome, Failed), outcome
        return outcome

    @property
    def untold(self) -> list[bytes]:
        """The calls that have no outcome yet."""
        return [key for key in self._waiting if key not in self.outcomes]

    def on_outcome(self, call: Call, outcome: Outcome, seconds: float) -> None:
        """Remember; each call ends once."""
        assert call.key not in self.outcomes, f"a second outcome of {call.key!r}: {outcome}"
        self.outcomes[call.key] = outcome
        self.order.append(call.key)
        self.seconds[call.key] = seconds
        self._waiting[call.key].set_result(outcome)

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Remember."""
        self.reports.append((call.key, kind, payload))

    def wants_reports(self) -> bool:
        """Say yes, always."""
        return True

    def on_question(self, question: Question) -> None:
        """Remember; the test answers."""
        self.questions.append(question)

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        """Remember."""
        assert pid > 0
        self.lines += [(call.key if call else None, stream, line) for line in lines]

    def on_room(self) -> None:
        """Nothing waits for room here."""


@asynccontextmanager
async def open_pool(processor: str | Path, **settings: Any) -> AsyncIterator[Caller]:
    """Start a pool, give the caller, stop it, and see that no process and no descriptor is left."""
    before = open_descriptors()
    caller = Caller()
    telemetry = Telemetry()
    telemetry.subscribe(caller.events.append)
    settings = {"size": 1, "policy": "none", "queue_name": "tests", **settings}
    caller.pool = Pool(str(processor), listener=caller, telemetry=telemetry, **settings)
    known = set(descendants_of(os.getpid()))
    try:
        await caller.pool.start(30)
        yield caller
    finally:
        await caller.pool.stop(timeout=5)
        assert set(descendants_of(os.getpid())) <= known
    assert caller.pool.held == 0

    async def are_given_back() -> bool:
        return open_descriptors() <= before

    await wait_until_async(are_given_back)  # an interpreter that still starts does that when it has


def open_descriptors() -> set[str]:
    """Return what this process's descriptors lead to: files, pipes, sockets by number."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one by which the folder is listed
            found.add(str(descriptor.readlink()))
    return found


def processor_file(folder: Path, text: str, name: str = "chores.py") -> Path:
    """Write a processor and return its path."""
    path = folder / name
    path.write_text(text)
    return path


def lives(pid: int) -> bool:
    """Tell whether a process runs; a zombie whose parent is slow does not."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] != "Z"


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name: state, parent, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rsplit(")", 1)[1].split()
