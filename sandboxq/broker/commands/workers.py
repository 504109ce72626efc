"""Running workers: which are connected, and requests to them over Pub/Sub (protocol.md 8.1).

asker ──PUBLISH {"ask": …, "reply_key": …}──► every worker of the queue
asker ◄──────────── list ``reply_key`` ◄────── one answer from each
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.model.profile import LONGEST_PROFILE, Sampling, sampling_from_text
from sandboxq.model.validation import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# Seconds. A worker answers at once; one that does not is being killed or hangs.
ANSWER_SECONDS = 5.0
# Seconds that new code may take: import and first children (start_timeout) of each child in turn.
RELOAD_SECONDS = 600.0
# Seconds: Redis Cluster counts only the listeners of one node (they listen where the slot was when
# they began), and a job may be on its way to its worker.
LATECOMER_SECONDS = 0.25
# Seconds that the slowest answer to `dump` may take: pool/stacks.py.
DUMP_SECONDS = 2.5
# Seconds until Redis removes an answer that nobody fetched.
_ANSWER_TTL = 30
# Seconds between two looks. Answers take a millisecond or two; no connection is held meanwhile.
_LOOK_SECONDS = 0.005
_LOOK_LATER = 0.1
# Far more than any request has.
_MOST_BYTES = 1 << 20
# Characters of the name of a profile.
_MOST_ID = 64
# What a message asks for: the value of its member ``ask``.
SCALE = "scale"
CANCEL = "cancel"
DUMP = "dump"
FACTS = "facts"
PROFILE = "profile"
PROFILE_NEXT = "profile-next"
RELOAD = "reload"
TELL = "tell"
# What FACTS may be about: all that a worker does, the ends of its jobs, one job that it runs.
OF_WORKERS, OF_STREAM, OF_JOB = "workers", "stream", "job"
# The members of an answer that every version of a worker gives.
_MEMBERS = {
    SCALE: {"worker", "procs"},
    CANCEL: {"worker", "has_it"},
    DUMP: {"worker", "queue", "pid", "is_meant", "busy", "children", "jobs"},
    RELOAD: {"worker", "error"},
    TELL: {"worker", "has_it", "is_read"},
    PROFILE: {"worker", "has_it", "error"},
    PROFILE_NEXT: {"worker"},
    FACTS: {"id", "worker", "queue", "host", "pid", "procs", "busy"},
}


async def workers_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected worker: the fields of CLIENT LIST, ``name`` being the queue's.

    ``rawname`` is the connection's own name.
    """
    own = keys.client_name
    return await _clients(broker, keys, lambda name: name == own or name.startswith(f"{own}:w:"))


async def worker_counts(broker: Broker, queues: Iterable[QueueKeys]) -> dict[str, int]:
    """Return how many workers are connected for each of these queues, by its name."""
    names = {keys.client_name: keys.queue for keys in queues}
    counts = dict.fromkeys(names.values(), 0)
    for reply in await broker.command_to_each("CLIENT", "LIST"):
        found = Counter(_row(line).get("name", "").partition(":w:")[0] for line in _lines(reply))
        for name, queue in names.items():
            counts[queue] = max(counts[queue], found[name])
    return counts


async def listeners_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected QueueEvents, as ``workers_of`` does."""
    return await _clients(broker, keys, lambda name: name == f"{keys.client_name}:qe")


async def _clients(
    broker: Broker, keys: QueueKeys, is_wanted: Callable[[str], bool]
) -> list[dict[str, str]]:
    """Return the rows of one node: clients of a cluster may be connected to others by that name."""
    found = []
    for reply in await broker.command_to_each("CLIENT", "LIST"):
        rows = [{"name": "", **_row(line)} for line in _lines(reply)]
        found.append([row for row in rows if is_wanted(row["name"])])
    return [{**row, "name": keys.queue, "rawname": row["name"]} for row in max(found, key=len)]


def _lines(reply: bytes) -> list[str]:
    return reply.decode(errors="replace").splitlines()


def _row(line: str) -> dict[str, str]:
    fields = (part.partition("=") for part in line.split(" "))
    return {name: value for name, _, value in fields}


class ScaleRequest(NamedTuple):
    """Asks a worker to have ``procs`` children; the answer goes to the list ``reply_key``."""

    procs: int
    reply_key: str = ""


class CancelRequest(NamedTuple):
    """Asks the worker of a job to end it for ``reason``, within ``grace`` seconds."""

    job_id: str
    reason: str
    grace: float
    reply_key: str = ""


class DumpRequest(NamedTuple):
    """Asks for the stacks of the job or the worker that ``target`` names; empty: of all jobs."""

    target: str
    reply_key: str = ""


class ReloadRequest(NamedTuple):
    """Asks a worker to run its jobs by the code as it is now."""

    reply_key: str = ""


class ProfileRequest(NamedTuple):
    """Asks the worker of a job to sample it from now on, for ``seconds``; 0: until it ends.

    ``profile_id`` is the name that the profile gets.
    """

    job_id: str
    profile_id: str
    sampling: Sampling
    seconds: float
    reply_key: str = ""


class ProfileNextRequest(NamedTuple):
    """Tells a worker that the job names whose next runs are to be sampled have changed."""

    reply_key: str = ""


class FactsRequest(NamedTuple):
    """Asks what a worker does, at once, and then each second on the channel ``reply_key``.

    That for ``seconds`` from now: 0 asks once, and for no children. ``of`` is OF_WORKERS, OF_STREAM
    or OF_JOB, then with the job's id in ``target``.
    """

    seconds: float
    reply_key: str = ""
    of: str = OF_WORKERS
    target: str = ""


class TellRequest(NamedTuple):
    """Leaves a message for the code of a running job: ``job.messages()``."""

    job_id: str
    text: str
    reply_key: str = ""


Request = (
    ScaleRequest
    | CancelRequest
    | DumpRequest
    | FactsRequest
    | ProfileNextRequest
    | ProfileRequest
    | ReloadRequest
    | TellRequest
)


def request_from_payload(payload: bytes, keys: QueueKeys) -> Request | None:
    """Return the request, or None for a message that is not one: any client may publish.

    ``reply_key`` must be one of the keys for answers.
    """
    try:
        message: Any = json.loads(payload) if len(payload) <= _MOST_BYTES else None
        # Text with lone surrogates is no key, and no id that Redis gave.
        json.dumps(message, ensure_ascii=False).encode(errors="surrogateescape")
    except (ValueError, RecursionError):
        return None
    match message:
        case {"reply_key": str(reply_key)} if reply_key.startswith(keys.reply_prefix):
            return _request(message, reply_key)
        case _:
            return None


def _request(message: dict[str, Any], reply_key: str) -> Request | None:  # noqa: PLR0911 - one each
    match message:
        case {"ask": "scale", "procs": int(procs)} if procs is not True:
            return ScaleRequest(procs, reply_key)
        case {"ask": "cancel", "job_id": str(job_id), "reason": str(reason), "grace": grace}:
            seconds = _seconds(grace)
            return None if seconds is None else CancelRequest(job_id, reason, seconds, reply_key)
        case {"ask": "dump", "target": str(target)}:
            return DumpRequest(target, reply_key)
        case {"ask": "reload"}:
            return ReloadRequest(reply_key)
        case {"ask": "facts", "seconds": seconds}:
            return _facts_request(message, _seconds(seconds), reply_key)
        case {"ask": "tell", "job_id": str(job_id), "text": str(text)}:
            return TellRequest(job_id, text, reply_key)
        case _:
            return _profile_request(message, reply_key)


def _profile_request(message: dict[str, Any], reply_key: str) -> Request | None:
    match message:
        case {"ask": "profile-next"}:
            return ProfileNextRequest(reply_key)
        case {"ask": "profile", "job_id": str(job_id), "id": str(name), "how": str(how)}:
            seconds, sampling = _seconds(message.get("seconds")), sampling_from_text(how)
            if seconds is None or seconds > LONGEST_PROFILE or sampling is None:
                return None
            return ProfileRequest(job_id, name[:_MOST_ID], sampling, seconds, reply_key)
        case _:
            return None


def _facts_request(
    message: dict[str, Any], seconds: float | None, reply_key: str
) -> FactsRequest | None:
    of, target = message.get("of", OF_WORKERS), message.get("target", "")
    if seconds is None or not isinstance(of, str) or not isinstance(target, str):
        return None
    if of not in {OF_WORKERS, OF_STREAM, OF_JOB}:
        return None
    return FactsRequest(seconds, reply_key, of, target)


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


async def ask_to_reload(broker: Broker, keys: QueueKeys) -> AsyncIterator[dict[str, Any]]:
    """Tell every worker of the queue to load its code anew; yield what each answers when it has."""
    asked = _ask(broker, [keys], RELOAD, {}, patience=RELOAD_SECONDS, look=_LOOK_LATER)
    async for answered in asked:
        yield answered


async def ask_to_cancel(broker: Broker, keys: QueueKeys, request: CancelRequest) -> str | None:
    """Tell the workers of the queue; return the name of the one that has the job, if any does."""
    members = {"job_id": request.job_id, "reason": request.reason, "grace": request.grace}
    async for answered in _ask(broker, [keys], CANCEL, members):
        if answered.get("has_it"):
            return str(answered.get("worker"))
    return None


async def ask_for_profile(
    broker: Broker, keys: QueueKeys, request: ProfileRequest
) -> dict[str, Any] | None:
    """Tell the workers of the queue; return what the one answered that has the job, if any has."""
    members = {
        "job_id": request.job_id,
        "id": request.profile_id,
        "how": request.sampling.text(),
        "seconds": request.seconds,
    }
    async for answered in _ask(broker, [keys], PROFILE, members):
        if answered.get("has_it"):
            return answered
    return None


async def tell_of_profiles(broker: Broker, keys: QueueKeys) -> int:
    """Have every worker of the queue read which runs are to be sampled; return how many have."""
    return len([answered async for answered in _ask(broker, [keys], PROFILE_NEXT, {})])


async def ask_for_stacks(
    broker: Broker, queues: Sequence[QueueKeys], target: str
) -> list[dict[str, Any]]:
    """Ask every worker of these queues what ``target`` does; return what each answered."""
    # A cluster does not say how many got it, and a child that does not answer is waited for.
    lateness = DUMP_SECONDS if broker.facts.is_cluster else LATECOMER_SECONDS
    asked = _ask(broker, queues, DUMP, {"target": target}, lateness=lateness)
    return [answered async for answered in asked]


async def ask_for_facts(
    broker: Broker,
    queues: Sequence[QueueKeys],
    *,
    seconds: float = 0.0,
    channel: str = "",
    of: str = OF_WORKERS,
    target: str = "",
) -> list[dict[str, Any]]:
    """Ask every worker of these queues what it does; return what each answered.

    For ``seconds`` each publishes it on ``channel`` every second, a reply key of the first queue.
    ``of`` and ``target``: see FactsRequest.
    """
    members: dict[str, Any] = {"seconds": seconds}
    if of != OF_WORKERS:  # what every version of a worker knows needs no word
        members |= {"of": of, "target": target}
    asked = _ask(broker, queues, FACTS, members, reply_key=channel)
    return [answered async for answered in asked]


async def ask_to_tell(
    broker: Broker, keys: QueueKeys, job_id: str, text: str
) -> dict[str, Any] | None:
    """Leave a message for a job; return what its worker answered, None when no worker has it."""
    async for answered in _ask(broker, [keys], TELL, {"job_id": job_id, "text": text}):
        if answered.get("has_it"):
            return answered
    return None


async def publish_facts(broker: Broker, channel: str, message: str) -> bool:
    """Publish what a worker does; False when certainly nobody listens."""
    listeners = await broker.command("PUBLISH", channel, message)
    return bool(listeners) or broker.facts.is_cluster  # which counts those of one node


def facts_from_payload(payload: bytes) -> dict[str, Any] | None:
    """Return what was published, or None for a message that is none: any client may publish."""
    return _answer_from(payload, _MEMBERS[FACTS]) if len(payload) <= _MOST_BYTES else None


async def _ask(
    broker: Broker,
    queues: Sequence[QueueKeys],
    what: str,
    members: dict[str, Any],
    *,
    lateness: float = LATECOMER_SECONDS,
    patience: float = ANSWER_SECONDS,
    look: float = _LOOK_SECONDS,
    reply_key: str = "",
) -> AsyncIterator[dict[str, Any]]:
    """Send a message to the workers of some queues, and yield their answers."""
    reply_key = reply_key or queues[0].reply_key(str(uuid.uuid4()))
    message = json.dumps({"ask": what, **members, "reply_key": reply_key})
    told = 0
    for keys in queues:
        told += int(await broker.command("PUBLISH", keys.control_channel, message))
    clock = asyncio.get_running_loop().time
    deadline = clock() + (patience if told else lateness)
    while clock() < deadline:
        reply = await broker.command("LPOP", reply_key)
        if reply is None:
            await asyncio.sleep(look)
            continue
        if (answered := _answer_from(reply, _MEMBERS[what])) is not None:
            yield answered
        told -= 1
        if not told:
            deadline = clock() + lateness


def _answer_from(reply: bytes, members: set[str]) -> dict[str, Any] | None:
    """Return what a worker answered; None for what is no answer: any client may push."""
    try:
        answered = json.loads(reply)
    except (ValueError, RecursionError):
        return None
    return answered if isinstance(answered, dict) and answered.keys() >= members else None
