"""Whatever a hostile child says or does, the others' calls end with their own outcomes.

Round by round: jobs of which some carry out a random program of deeds through what they share with
the coordinator, among honest ones. Every honest job must complete with its own value; the
coordinator's loop uses no CPU for 100 ms at a stretch, its memory does not grow, nothing leaks.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from sandboxq.child.frames import encode_call
from sandboxq.cli import process
from sandboxq.model.outcome import Completed
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool.pool import Call, Pool
from sandboxq.sandbox.policy import Policy
from tests.pool.caller import open_descriptors
from tests.pool.hostile.deeds import PROCESSOR, random_program

_MB = 1 << 20
_HONEST, _HOSTILE = 24, 4
_ROUND_SECONDS = 90.0  # on a busy machine; an honest call is given 20 s once it has begun
_LONGEST_STANDSTILL = 0.1
_MOST_GROWTH = 20 * _MB


def fuzz(seconds: float, seed: int) -> list[str]:
    """Return what went wrong within ``seconds``."""
    found: list[str] = []
    deadline = time.monotonic() + seconds
    rng = random.Random(seed)
    gc.freeze()  # what is there already: collecting it again each round is no turn of the pool's
    while time.monotonic() < deadline and not found:
        # Who shares a process with the job before can be harmed by what that has left there.
        policy = rng.choice(
            (
                Policy("strict", memory=256 * _MB),
                Policy("strict", memory=256 * _MB, fresh=True),
                Policy("limits", memory=256 * _MB),
            )
        )
        found = process.run(_campaign(rng, policy, min(deadline, time.monotonic() + 20)))
    gc.unfreeze()
    return found


async def _campaign(rng: random.Random, policy: Policy, deadline: float) -> list[str]:
    """Use one pool until ``deadline``; return what went wrong."""
    before = open_descriptors()
    with tempfile.TemporaryDirectory() as folder:
        path = _processor(Path(folder))
        caller = _Caller(policy)
        terms: dict[str, Any] = {"policy": policy, "queue_name": "fuzz"}
        pool = Pool(str(path), size=3, listener=caller, telemetry=Telemetry(), **terms)
        await pool.start(60)
        watch = asyncio.ensure_future(caller.watch())
        try:
            found = await _rounds(pool, caller, rng, deadline)
        finally:
            watch.cancel()
            await pool.stop(timeout=5)
    left = open_descriptors() - before
    return found + ([f"descriptors are left: {sorted(left)}"] if left else [])


def _processor(folder: Path) -> Path:
    path = folder / "hostile.py"
    path.write_text(PROCESSOR)
    folder.chmod(0o755)
    return path


async def _rounds(pool: Pool, caller: _Caller, rng: random.Random, deadline: float) -> list[str]:
    memory = 0
    policy = caller.policy
    while time.monotonic() < deadline:
        programs = [random_program(rng, may_stay=policy.fresh) for _ in range(_HOSTILE)]
        datas: list[Any] = [{"value": number} for number in range(_HONEST)]
        for program in programs:
            datas.insert(rng.randrange(len(datas)), {"program": program})
        calls = [caller.make(data) for data in datas]
        for call, data in zip(calls, datas, strict=True):
            # Without a deadline an honest job would wait for ever for what another one took.
            call.timeout = 2.0 if "program" in data else 20.0
        if rng.random() < 0.5:
            for _ in range(50):
                pool.placement.measure(0.00001)
            pool.placement.adjust()
            pool.submit_all(calls)
        else:
            for call in calls:
                pool.submit(call)
        # Where jobs are trusted not to be hostile, a hostile one may be taken for its neighbour.
        found = await _judge(caller, calls, datas if policy.name == "strict" else [{}] * len(datas))
        if found or caller.problems:
            return [*found, *caller.problems, f"in {json.dumps(programs)}"]
        gc.collect()
        memory = memory or _resident()
        if _resident() > memory + _MOST_GROWTH:
            grown = (_resident() - memory) // _MB
            return [f"the coordinator has grown by {grown} MB, after {json.dumps(programs)}"]
    return []


async def _judge(caller: _Caller, calls: list[Call], datas: list[Any]) -> list[str]:
    """Wait for all ends; return which honest job has not its own."""
    await asyncio.wait([caller.waiting[call.key] for call in calls], timeout=_ROUND_SECONDS)
    late = [data for call, data in zip(calls, datas, strict=True) if _is_open(caller, call)]
    if late:
        return [f"no outcome within {_ROUND_SECONDS:g} s: {late}"]
    found = []
    for call, data in zip(calls, datas, strict=True):
        outcome = caller.waiting.pop(call.key).result()
        if "value" in data and outcome != Completed(str(data["value"]).encode()):
            found.append(f"honest job {data} ended as {outcome}")
    return found


def _is_open(caller: _Caller, call: Call) -> bool:
    return not caller.waiting[call.key].done()


class _Caller:
    """Listens to the pool."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.waiting: dict[bytes, asyncio.Future[Any]] = {}
        self.problems: list[str] = []
        self._count = 0

    def make(self, data: Any) -> Call:
        """Return a call that is to be submitted."""
        self._count += 1
        key = str(self._count).encode()
        self.waiting[key] = asyncio.get_running_loop().create_future()
        raw = json.dumps(data).encode()
        return Call(key, encode_call(job_id=key, name=b"fuzz", data=raw))

    async def watch(self) -> None:
        """Notice a loop that computes for long in one turn."""
        loop = asyncio.get_running_loop()
        while True:
            cpu = time.thread_time()
            await asyncio.sleep(0)
            used = time.thread_time() - cpu
            if used > _LONGEST_STANDSTILL:
                self.problems.append(f"the loop computed for {used:.3f} s in one turn")
            cpu, began = time.thread_time(), loop.time()
            await asyncio.sleep(0.005)
            # Of sleeping, too: a blocked loop uses no CPU, but it is never that late by load.
            if loop.time() - began > 10:
                self.problems.append(f"the loop stood still for {loop.time() - began:.1f} s")

    def on_outcome(self, call: Call, outcome: Any, seconds: float) -> None:
        """Each call ends once."""
        del seconds
        future = self.waiting.get(call.key)
        if future is None or future.done():
            self.problems.append(f"a second outcome of {call.key!r}: {outcome}")
        else:
            future.set_result(outcome)

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Other clients read it: it must be text, and JSON unless it is a row."""
        try:
            text = payload.decode()
            if kind != "log":
                json.loads(text)
        except (ValueError, RecursionError) as error:
            self.problems.append(f"{kind} of {call.key!r} came through: {error}")

    def wants_reports(self) -> bool:
        """Say yes, always."""
        return True

    def on_question(self, question: Any) -> None:
        """Answer at once."""
        question.refuse("nobody knows")

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        """Hear it."""

    def on_room(self) -> None:
        """Nothing waits for room here."""


def _resident() -> int:
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
