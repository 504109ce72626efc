"""What a job costs is counted, not timed: a regression shows on any machine, however busy."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, NamedTuple

import pytest

from benchmarks import noop, program
from benchmarks.server import private_server
from sandboxq.broker.connect.broker import Broker

# A busy machine takes three times as long as a free one.
pytestmark = pytest.mark.timeout(400)

# Two sizes, whose difference has neither start nor end in it.
FEW, MANY = 500, 2500
ROOM = 1.05
# Commands that Redis ran for a no-op job, those of scripts among them: HSET and XADD twice, HGETALL
# and SET once; the rest is once a batch.
COMMANDS = 6.25
# Script calls that came over the wire for a job: each is a round trip.
ROUND_TRIPS = 0.022
# Bytecode instructions of the coordinator for a job, by version of CPython: each has its own set.
# 1125 were counted of 43665a4, when a packet had eight calls and a batch a hundred jobs.
INSTRUCTIONS = {(3, 11): 930}
# Sent on a timer, however many jobs there are: the renewal of locks.
TIMED = frozenset({"pexpire", "lpos", "info", "config|resetstat", "client|list"})


class Counted(NamedTuple):
    """What one drain took."""

    commands: dict[str, int]
    instructions: int


@pytest.fixture(scope="module")
def job() -> dict[str, float]:
    """Return commands, round trips and instructions of a job: the least of up to three drains.

    On a busy machine timers come more often for each job, and batches are less full.
    """
    found = measured()
    for _ in range(2):
        if is_within(found):
            break
        again = measured()
        found = {name: min(value, again[name]) for name, value in found.items()}
    return found


def is_within(found: dict[str, float]) -> bool:
    """Tell whether nothing is above what is stored."""
    instructions = INSTRUCTIONS.get(sys.version_info[:2], float("inf"))
    return (
        found["commands"] <= COMMANDS * ROOM
        and found["round trips"] <= ROUND_TRIPS * 1.5
        and found["instructions"] <= instructions * ROOM
    )


def measured() -> dict[str, float]:
    """Return what a job took, from the difference of two drains."""
    few, many = drained(FEW), drained(MANY)
    jobs = MANY - FEW
    names = many.commands.keys() - TIMED
    of_job = {
        name: (many.commands[name] - few.commands.get(name, 0)) / jobs for name in sorted(names)
    }
    return {
        "round trips": of_job.pop("evalsha", 0.0) + of_job.pop("eval", 0.0),
        "commands": sum(of_job.values()),
        "instructions": (many.instructions - few.instructions) / jobs,
    }


def drained(jobs: int) -> Counted:
    """Drain a queue of so many jobs."""
    with private_server() as server:
        asyncio.run(noop.add(server.url, jobs))
        asyncio.run(_forget_commands(server.url))
        spec = {
            "url": server.url,
            "queue": noop.QUEUE,
            "processor": program.task("noop"),
            "procs": 2,
        }
        found = program.run("counts", spec)
        return Counted(asyncio.run(_commands(server.url)), found["instructions"])


async def _forget_commands(url: str) -> None:
    broker = await Broker.connect(url)
    try:
        await broker.command("CONFIG", "RESETSTAT")
    finally:
        await broker.close()


async def _commands(url: str) -> dict[str, int]:
    broker = await Broker.connect(url)
    try:
        info: bytes = await broker.command("INFO", "commandstats")
    finally:
        await broker.close()
    rows = (row.partition(":") for row in info.decode().splitlines() if ":calls=" in row)
    return {
        name.removeprefix("cmdstat_"): int(numbers.partition(",")[0].removeprefix("calls="))
        for name, _, numbers in rows
    }


def test_redis_runs_no_more_commands_for_a_job(job: dict[str, Any]) -> None:
    """A command more for each job is seen."""
    assert job["commands"] <= COMMANDS * ROOM


def test_jobs_share_round_trips(job: dict[str, Any]) -> None:
    """A claim and a settlement carry up to 200 jobs; one more call for each shows here."""
    # Batches that are not quite full are no regression; half as large ones are.
    assert job["round trips"] <= ROUND_TRIPS * 1.5


@pytest.mark.skipif(
    sys.version_info[:2] not in INSTRUCTIONS,
    reason="no figure is stored for the bytecode of this version of CPython",
)
def test_the_coordinator_runs_no_more_instructions_for_a_job(job: dict[str, Any]) -> None:
    """A function more on the hot path is seen."""
    assert job["instructions"] <= INSTRUCTIONS[sys.version_info[:2]] * ROOM
