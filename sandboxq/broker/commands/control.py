"""Words to running workers, over a Pub/Sub channel outside every queue's keys (protocol.md 8.1).

asker ──PUBLISH {"ask": …, "reply_key": …}──► every worker of the queue
asker ◄──────────── list ``reply_key`` ◄────── one answer from each
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.model.validation import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# A worker answers at once; one that does not within this many seconds is busy dying.
ANSWER_SECONDS = 5.0
# Redis Cluster counts only the listeners of one node (they listen where the slot was when they
# began), and a job may be on its way to its worker.
LATECOMER_SECONDS = 0.25
# What the slowest answer of `dump` may take: pool/stacks.py.
DUMP_SECONDS = 2.5
# An answer that nobody fetched goes away by itself.
_ANSWER_TTL = 30
# Answers come within a millisecond or two; the connection must stay free for others meanwhile.
_LOOK_SECONDS = 0.005

# Far more than anybody asks.
_MOST_BYTES = 1 << 20

# What a message asks for: the value of its member ``ask``.
SCALE = "scale"
CANCEL = "cancel"
DUMP = "dump"
# What an answer to it has, of whatever version the worker is.
_MEMBERS = {
    SCALE: {"worker", "procs"},
    CANCEL: {"worker", "has_it"},
    DUMP: {"worker", "queue", "pid", "is_meant", "busy", "children", "jobs"},
}


class ScaleRequest(NamedTuple):
    """Asks a worker for so many children; the answer goes to the list ``reply_key``."""

    procs: int
    reply_key: str = ""


class CancelRequest(NamedTuple):
    """Asks whoever runs a job to end it for ``reason``, within ``grace`` seconds."""

    job_id: str
    reason: str
    grace: float
    reply_key: str = ""


class DumpRequest(NamedTuple):
    """Asks for the stacks of a job, or of all that a worker of this name runs; empty: of all."""

    target: str
    reply_key: str = ""


Request = ScaleRequest | CancelRequest | DumpRequest


def request_from_payload(payload: bytes, keys: QueueKeys) -> Request | None:
    """Return the request, or None for a message that is not one: anybody may publish.

    An answer goes to no key but those that are for answers.
    """
    try:
        message: Any = json.loads(payload) if len(payload) <= _MOST_BYTES else None
        # What has lone surrogates is no key, and no id that Redis gave.
        json.dumps(message, ensure_ascii=False).encode(errors="surrogateescape")
    except (ValueError, RecursionError):
        return None
    match message:
        case {"reply_key": str(reply_key)} if reply_key.startswith(keys.reply_prefix):
            return _request(message, reply_key)
        case _:
            return None


def _request(message: dict[str, Any], reply_key: str) -> Request | None:
    match message:
        case {"ask": "scale", "procs": int(procs)} if procs is not True:
            return ScaleRequest(procs, reply_key)
        case {"ask": "cancel", "job_id": str(job_id), "reason": str(reason), "grace": grace}:
            seconds = _seconds(grace)
            return None if seconds is None else CancelRequest(job_id, reason, seconds, reply_key)
        case {"ask": "dump", "target": str(target)}:
            return DumpRequest(target, reply_key)
        case _:
            return None


def _seconds(value: object) -> float | None:
    if type(value) not in {int, float}:
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]  # mypy does not follow type()
    except OverflowError:
        return None
    return min(seconds, LONGEST_WAIT) if seconds >= 0 else None  # nan is not


async def answer(broker: Broker, request: Request, **members: Any) -> None:
    """Send the answer of one worker."""
    row = json.dumps(members)
    await broker.pipeline(
        [("RPUSH", request.reply_key, row), ("EXPIRE", request.reply_key, _ANSWER_TTL)]
    )


async def ask_to_scale(broker: Broker, keys: QueueKeys, procs: int) -> list[dict[str, Any]]:
    """Tell every worker of the queue to have ``procs`` children; return what each answered."""
    return [answered async for answered in _ask(broker, [keys], SCALE, {"procs": procs})]


async def ask_to_cancel(broker: Broker, keys: QueueKeys, request: CancelRequest) -> str | None:
    """Tell the workers of the queue; return the name of the one that has the job, if any does."""
    members = {"job_id": request.job_id, "reason": request.reason, "grace": request.grace}
    async for answered in _ask(broker, [keys], CANCEL, members):
        if answered.get("has_it"):
            return str(answered.get("worker"))
    return None


async def ask_for_stacks(
    broker: Broker, queues: Sequence[QueueKeys], target: str
) -> list[dict[str, Any]]:
    """Ask every worker of these queues what ``target`` does; return what each answered."""
    # A cluster does not say how many were told, and a child that does not answer is waited for.
    lateness = DUMP_SECONDS if broker.facts.is_cluster else LATECOMER_SECONDS
    asked = _ask(broker, queues, DUMP, {"target": target}, lateness=lateness)
    return [answered async for answered in asked]


async def _ask(
    broker: Broker,
    queues: Sequence[QueueKeys],
    what: str,
    members: dict[str, Any],
    *,
    lateness: float = LATECOMER_SECONDS,
) -> AsyncIterator[dict[str, Any]]:
    """Send a message to the workers of some queues, and yield their answers."""
    reply_key = queues[0].reply_key(str(uuid.uuid4()))
    message = json.dumps({"ask": what, **members, "reply_key": reply_key})
    told = 0
    for keys in queues:
        told += int(await broker.command("PUBLISH", keys.control_channel, message))
    clock = asyncio.get_running_loop().time
    deadline = clock() + (ANSWER_SECONDS if told else lateness)
    while clock() < deadline:
        reply = await broker.command("LPOP", reply_key)
        if reply is None:
            await asyncio.sleep(_LOOK_SECONDS)
            continue
        if (answered := _answer_from(reply, _MEMBERS[what])) is not None:
            yield answered
        told -= 1
        if not told:
            deadline = clock() + lateness


def _answer_from(reply: bytes, members: set[str]) -> dict[str, Any] | None:
    """Return what a worker answered; None for what is no answer: anybody may push."""
    try:
        answered = json.loads(reply)
    except (ValueError, RecursionError):
        return None
    return answered if isinstance(answered, dict) and answered.keys() >= members else None
