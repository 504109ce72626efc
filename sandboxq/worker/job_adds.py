"""Adds the jobs that running jobs ask for, under their locks, many requests in one round trip.

child ──REQUEST──► pool ──► listener ──take──► run ──► flow.lua, fenced by the job's lock
▲──────────────RESPONSE──────── Question.answer ◄────────┘

A request comes from user code: it is checked here as a producer's arguments are. Its data is only
looked at, to see that it is JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands.add import Fence, NewNode, add_flows
from sandboxq.child.values import (
    CLASS_MEMBER,
    MOST_BYTES,
    MOST_HEADER,
    MOST_JOBS,
    decode_header,
)
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.model.backoff import Backoff
from sandboxq.model.job import Deduplication, Keep, Parent
from sandboxq.pool import breach
from sandboxq.pool.breach import Breach
from sandboxq.queue.binary import JsonText
from sandboxq.queue.flow_plan import plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.pool.calls import Question
    from sandboxq.worker.context import WorkerContext

_log = logging.getLogger("sandboxq.worker")

# Bounds one round trip; what comes after it waits for the next.
MOST_REQUESTS = 50
# The errors of parsing and checking for a malformed request.
_NOT_UNDERSTOOD = (
    Breach,
    UsageError,
    struct.error,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)
_OPTION_CLASSES = {each.__name__: each for each in (Backoff, Deduplication, Keep, Parent)}
# Data is looked at in turns of about so many bytes: a few milliseconds of the event loop.
_BYTES_A_TURN = 256 << 10
# What is shorter is looked at in one go.
_SHORT = 64 << 10


class _Request(NamedTuple):
    """A question that was understood: the ids are chosen, so that it may be sent twice."""

    question: Question
    nodes: list[NewNode]
    fence: Fence


class JobAdds:
    """A service; while Redis is away the requests wait."""

    def __init__(self, context: WorkerContext, allowed: frozenset[str] | None) -> None:
        """Add to queues under this worker's prefix, those ``allowed`` if that is not None."""
        self._broker = context.broker
        self._keys = context.keys
        self._telemetry = context.telemetry
        self._allowed = allowed
        self._asked: list[Question] = []
        self._ready: list[_Request] = []
        self._most = MOST_REQUESTS
        self._work = asyncio.Event()

    def take(self, question: Question) -> None:
        """Take the request of a running job."""
        self._asked.append(question)
        self._work.set()

    async def run(self) -> None:
        """Add until cancelled; what lies there already comes first."""
        while True:
            while self._asked or self._ready:
                try:
                    await self._add_some()
                except BrokerUnavailable:
                    await self._broker.wait_until_back(self._telemetry)
            self._work.clear()
            await self._work.wait()

    async def _add_some(self) -> None:
        while self._asked and len(self._ready) < MOST_REQUESTS:
            await self._understand(self._asked.pop(0))
        if not self._ready:
            return
        batch = self._ready[: self._most]
        flows = [(each.nodes, each.fence) for each in batch]
        try:
            results = await add_flows(self._broker, flows, now_ms=await self._broker.now_ms())
        except BrokerUnavailable:
            self._most = max(1, len(batch) // 2)
            raise
        except Exception as error:  # noqa: BLE001 - one of many may be the cause: fewer, then alone
            self._most = max(1, len(batch) // 2)
            if len(batch) == 1:
                del self._ready[0]
                batch[0].question.refuse(f"nothing was added: {error}")
            return
        self._most = min(2 * self._most, MOST_REQUESTS)
        del self._ready[: len(batch)]
        for each, result in zip(batch, results, strict=True):
            if isinstance(result, (QueueError, UsageError)):
                each.question.refuse(str(result))
            else:
                each.question.answer([job_id.encode() for job_id in result])

    async def _understand(self, question: Question) -> None:
        """Check a request, and refuse an invalid one."""
        try:
            nodes = await self._nodes_of(question.argument, question.call.key)
        except _NOT_UNDERSTOOD as error:
            question.refuse(f"nothing was added: {error}")
            return
        except Exception:  # noqa: BLE001 - the job is refused, and the service goes on for others
            _log.exception("a job's request to add jobs was not understood")
            question.refuse("nothing was added: the request was not understood")
            return
        attempt = question.call.context
        lock_key = self._keys.base.encode() + question.call.key + b":lock"
        fence = Fence(lock_key, attempt.token)
        self._ready.append(_Request(question, nodes, fence))

    async def _nodes_of(self, request: bytes, job_id: bytes) -> list[NewNode]:
        if len(request) > 2 * MOST_BYTES:
            message = f"a request of {len(request)} bytes, the limit is {MOST_BYTES}"
            raise UsageError(message)
        header, data = decode_header(request)
        if len(header) > MOST_HEADER:
            message = f"a header of {len(header)} bytes, the limit is {MOST_HEADER}"
            raise UsageError(message)
        roots = json.loads(header, object_hook=_option_from)
        if not isinstance(roots, list):
            message = "a request must be a list of jobs"
            raise UsageError(message)
        await _put_data_in(roots, data)
        own = Parent(job_id.decode(errors="replace"), self._keys.queue)
        self._check_queues(roots, own)
        drafts = plan_of(roots, prefix=self._keys.prefix, queue_defaults=None, what="entry")
        return [draft.node() for draft in drafts]

    def _check_queues(self, level: list[Any], own: Parent) -> None:
        """Refuse queues that are not granted, also those of parents but for the ``own`` job."""
        allowed = self._allowed
        while level:
            for node in level:
                if node.pop("prefix", None) is not None:
                    message = "a job adds to queues under its worker's prefix: leave out prefix"
                    raise UsageError(message)
                if allowed is not None and node.get("queue") not in allowed:
                    message = f"the policy does not let jobs add to queue {node.get('queue')!r}"
                    raise UsageError(message + _how_to_grant(node.get("queue")))
                parent = (node.get("opts") or {}).get("parent")
                if allowed is not None and isinstance(parent, Parent):
                    _check_parent(parent, own, allowed)
            level = [child for node in level for child in node.get("children") or ()]


def _check_parent(parent: Parent, own: Parent, allowed: frozenset[str]) -> None:
    """Refuse to have jobs of queues that are not granted wait; a job's own children are its own."""
    is_own = (parent.id, parent.queue) == (own.id, own.queue)
    if not is_own and parent.queue not in allowed:
        message = f"the policy does not let jobs add children to jobs of queue {parent.queue!r}"
        raise UsageError(message + _how_to_grant(parent.queue))


def _how_to_grant(queue: object) -> str:
    return f": allow it with --add-to {queue} or Policy(add_to=[{queue!r}])"


async def _put_data_in(roots: list[Any], data: memoryview) -> None:
    """Replace each length by the data that it stands for, depth first, after looking at it."""
    waiting, start, looked, count = roots[::-1], 0, 0, 0
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            message = f"a job must be a dict, not {type(node).__name__}"
            raise UsageError(message)
        count += 1
        if count > MOST_JOBS:
            message = f"one call may add {MOST_JOBS} jobs"
            raise UsageError(message)
        size = node.get("data")
        if not isinstance(size, int) or not 0 < size <= len(data) - start:
            message = "the data of a job is cut short"
            raise UsageError(message)
        piece = data[start : start + size]
        start += size
        looked += size
        if looked > _BYTES_A_TURN:
            looked = 0
            await asyncio.sleep(0)
        await _check_json(piece)
        node["data"] = JsonText(str(piece, "utf-8"))
        children = node.get("children")
        if isinstance(children, list):
            waiting += children[::-1]


async def _check_json(piece: memoryview) -> None:
    """Look at data, long data in turns. Raises: NotJson."""
    if len(piece) <= _SHORT:
        breach.check_json(bytes(piece))
        return
    text = breach.JsonText()
    for at in range(0, len(piece), _BYTES_A_TURN):
        text.feed(piece[at : at + _BYTES_A_TURN])
        await asyncio.sleep(0)
    text.end()


def _option_from(plain: dict[str, Any]) -> Any:
    """Return the option that an object of the header stands for, or the object itself."""
    if CLASS_MEMBER not in plain:
        return plain
    name = plain.pop(CLASS_MEMBER)
    kind = _OPTION_CLASSES.get(name) if isinstance(name, str) else None
    if kind is None:
        message = f"an option of class {name!r}; known are {', '.join(_OPTION_CLASSES)}"
        raise UsageError(message)
    return kind(**plain)


def allowed_queues(policy_name: str, add_to: Sequence[str]) -> frozenset[str] | None:
    """Return the queues that jobs under a policy may add to; None: all under the prefix."""
    if policy_name != "strict" or "*" in add_to:
        return None
    return frozenset(add_to)
