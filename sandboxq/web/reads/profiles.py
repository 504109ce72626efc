"""Where the time of a job went: its profiles, and one of them for the flame graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict

from sandboxq.broker.commands.jobs import state_of
from sandboxq.broker.commands.profiles import next_wanted, read_profiles
from sandboxq.web.answers import NotHere
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read

if TYPE_CHECKING:
    from sandboxq.model.profile import JobProfile

# Functions in the table beside the graph.
MOST_HOT = 60
FORMS = ("speedscope", "folded")


class ProfileRow(TypedDict):
    """One profile. ``clock``: wall or cpu. ``ended``: time, end (the job's) or died."""

    id: str
    attempt: int
    at_ms: int
    worker: str
    pid: int
    clock: str
    hz: int
    seconds: float
    ended: str
    samples: int
    missed: int
    total: float
    note: str


class HotFunction(TypedDict):
    """A function: seconds in itself, and with all that it has called."""

    name: str
    file: str
    line: int
    self_s: float
    total_s: float


class Tree(TypedDict):
    """For the graph: ``functions`` are [name, file, first line].

    ``nodes`` are [parent, function, line, samples, wall s, cpu s]; a parent stands before its
    children, node 0 is the root.
    """

    functions: list[list[Any]]
    nodes: list[list[float]]


class ProfileAnswer(TypedDict):
    """The profiles of a job, the newest first, and the one that was asked for.

    ``wanted``: so many of the next runs of the job's name are to be sampled.
    """

    queue: str
    job_id: str
    name: str
    state: str
    profiles: list[ProfileRow]
    profile: ProfileRow | None
    tree: Tree | None
    hot: list[HotFunction]
    wanted: int


@read("/queues/{queue}/jobs/{job_id}/profile")
async def read_profile(
    dashboard: Dashboard, queue: str, job_id: str, *, profile: str = ""
) -> ProfileAnswer:
    """Return the profiles of a job, and the tree of one; without its id of the newest."""
    keys = (await dashboard.queue(queue)).keys
    broker = await dashboard.broker()
    profiles = await read_profiles(broker, keys, job_id)
    chosen = _chosen(profiles, profile)
    raw = await broker.command("HGET", keys[job_id], "name") or b""
    wanted = (await next_wanted(broker, keys)).get(raw)
    return {
        "queue": queue,
        "job_id": job_id,
        "name": raw.decode(errors="replace"),
        "state": (await state_of(broker, keys, job_id)).value,
        "profiles": [_row(each) for each in profiles],
        "profile": _row(chosen) if chosen else None,
        "tree": _tree(chosen) if chosen else None,
        "hot": _hot(chosen) if chosen else [],
        "wanted": wanted.runs if wanted else 0,
    }


async def read_profile_file(
    dashboard: Dashboard, queue: str, job_id: str, form: str, *, profile_id: str
) -> tuple[str, str]:
    """Return a profile in a form for other tools, and the name of the file."""
    keys = (await dashboard.queue(queue)).keys
    chosen = _chosen(await read_profiles(await dashboard.broker(), keys, job_id), profile_id)
    if chosen is None or form not in FORMS:
        forms = " and ".join(FORMS)
        message = f"job {job_id} has no profile {form}: there are {forms}, once it was sampled"
        raise NotHere(message)
    if form == "folded":
        return chosen.folded(), "profile.folded.txt"
    return json.dumps(chosen.speedscope()), "profile.speedscope.json"


def _chosen(profiles: list[JobProfile], profile_id: str) -> JobProfile | None:
    """Return the profile that is asked for. Raises: NotHere."""
    if not profile_id:
        return profiles[0] if profiles else None
    for each in profiles:
        if each.id == profile_id:
            return each
    message = f"there is no profile {profile_id!r} any more: the last few of a job are kept"
    raise NotHere(message)


def _row(it: JobProfile) -> ProfileRow:
    return {
        "id": it.id,
        "attempt": it.attempt,
        "at_ms": round(it.at * 1000),
        "worker": it.worker,
        "pid": it.pid,
        "clock": it.clock,
        "hz": it.hz,
        "seconds": it.seconds,
        "ended": it.ended,
        "samples": it.samples,
        "missed": it.missed,
        "total": round(it.total, 6),
        "note": it.note,
    }


def _tree(it: JobProfile) -> Tree:
    return {
        "functions": [[each.name, each.path, each.line] for each in it.functions],
        "nodes": [
            [each.parent, each.function, each.line, each.samples, each.wall, each.cpu]
            for each in it.nodes
        ],
    }


def _hot(it: JobProfile) -> list[HotFunction]:
    """Return the functions in which most time was spent."""
    return [
        {
            "name": function.name,
            "file": function.path,
            "line": function.line,
            "self_s": round(own, 6),
            "total_s": round(total, 6),
        }
        for function, own, total in it.by_function()[:MOST_HOT]
    ]
