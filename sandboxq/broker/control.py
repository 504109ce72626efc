"""Words to running workers, over a Pub/Sub channel outside every queue's keys (design.md 6.4)."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

# A worker answers at once; one that does not within this many seconds is busy dying.
ANSWER_SECONDS = 5.0
# An answer that nobody fetched goes away by itself.
_ANSWER_TTL = 30


class ScaleRequest(NamedTuple):
    """Asks a worker for so many children; the answer goes to the list ``reply_key``."""

    procs: int
    reply_key: str


def request_from_payload(payload: bytes) -> ScaleRequest | None:
    """Return the request, or None for a message that is not one."""
    try:
        message: Any = json.loads(payload)
        return ScaleRequest(int(message["scale"]), str(message["reply_key"]))
    except (ValueError, KeyError, TypeError):
        return None


async def answer(broker: Broker, request: ScaleRequest, *, worker: str, procs: int) -> None:
    """Say how many children the worker has now."""
    row = json.dumps({"worker": worker, "procs": procs})
    await broker.pipeline(
        [("RPUSH", request.reply_key, row), ("EXPIRE", request.reply_key, _ANSWER_TTL)]
    )


async def ask_to_scale(broker: Broker, keys: QueueKeys, procs: int) -> list[dict[str, Any]]:
    """Tell every worker of the queue to have ``procs`` children; return what each answered."""
    reply_key = f"{keys.prefix}::sandboxq:reply:{uuid.uuid4()}"
    message = json.dumps({"scale": procs, "reply_key": reply_key})
    told = int(await broker.command("PUBLISH", keys.control_channel, message))
    answers = []
    for _ in range(told):
        reply = await broker.command("BLPOP", reply_key, ANSWER_SECONDS)
        if reply is None:
            break
        answers.append(json.loads(reply[1]))
    return answers
