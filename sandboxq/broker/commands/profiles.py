"""What was sampled of jobs, and which of their next runs are to be sampled (protocol.md 8.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.connect.script import load
from sandboxq.errors import JobNotFound, QueueError
from sandboxq.model.profile import Sampling, profile_from_stored, sampling_from_text

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.model.profile import JobProfile

_number = re.compile("[0-9]{1,16}")


class NextRuns(NamedTuple):
    """The runs of a name that are to be sampled: how many, until when (ms since 1970), and how."""

    runs: int
    ends_ms: int
    sampling: Sampling


async def read_profiles(broker: Broker, keys: QueueKeys, job_id: str) -> list[JobProfile]:
    """Return the profiles of a job, the newest first. Raises: JobNotFound.

    Those of a job that somebody else has removed are removed now.
    """
    exists, stored = await broker.pipeline(
        [("EXISTS", keys[job_id]), ("LRANGE", keys.profile(job_id), 0, -1)]
    )
    if not exists:
        if stored:
            await broker.command("UNLINK", keys.profile(job_id))
        message = f"job {job_id} does not exist in queue {keys.queue}"
        raise JobNotFound(message)
    profiles = map(profile_from_stored, stored)
    return [profile for profile in profiles if profile is not None]


async def want_next(
    broker: Broker, keys: QueueKeys, name: str, wanted: NextRuns, *, seconds: float
) -> None:
    """Have the next runs of a name sampled, within so many seconds; 0 runs: none any more.

    Raises: QueueError when there are too many names already.
    """
    args = (name, wanted.runs, wanted.ends_ms, round(seconds * 1000), wanted.sampling.text())
    if await broker.script(load("want_profiles"), (keys.base,), args):
        message = (
            f"the next runs of too many job names of queue {keys.queue} are to be sampled: wait "
            "until some have been, or ask for 0 runs of one"
        )
        raise QueueError(message)


async def next_wanted(broker: Broker, keys: QueueKeys) -> dict[bytes, NextRuns]:
    """Return which runs are to be sampled, by name."""
    raw = await broker.command("HGETALL", keys.profile_next)
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    wanted = {bytes(name): _next_runs(bytes(text)) for name, text in pairs}
    return {name: runs for name, runs in wanted.items() if runs is not None}


async def take_run(broker: Broker, keys: QueueKeys, name: bytes, *, now_ms: int) -> bool:
    """Take one of the runs of a name; False when none is left."""
    return bool(await broker.script(load("take_profile"), (keys.base,), (name, now_ms)))


def _next_runs(text: bytes) -> NextRuns | None:
    runs, _, rest = text.decode(errors="replace").partition(" ")
    ends, _, how = rest.partition(" ")
    sampling = sampling_from_text(how)
    if sampling is None or not (_number.fullmatch(runs) and _number.fullmatch(ends)):
        return None
    return NextRuns(int(runs), int(ends), sampling)
