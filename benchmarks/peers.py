"""How does sandboxq compare with other queues, on the same work in the same run."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import add, peer_installs, report, resize
from benchmarks.peer_list import CELERY, IN_PROCESS, NAPS_AT_ONCE, OURS, PEERS, SANDBOXED, Peer
from benchmarks.peer_runs import adding, drain, latency
from benchmarks.question import Case, Column, Medians, Question, Target, answer, at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.peer_list import Load, Work

# As issue 5 numbers them.
WORKS = ("W1", "W2", "W3", "W4", "W5")
BARE = resize.BARE
ONE_BY_ONE, IN_BULK = "BullMQ, one by one", "BullMQ, addBulk"

DRAIN_COLUMNS = (
    Column("per_second", "jobs/s", ",.0f"),
    Column("redis", "Redis, µs CPU a job"),
    Column("workers", "workers, µs CPU a job"),
)
HOW = (
    "Each peer fills its own queue; its workers are then timed alike, from outside, by how their "
    "queue in Redis gets shorter. Results are not kept where that is a choice."
)


def _ratio(case: str, other: str, limit: float, key: str = "per_second") -> Target:
    def value(found: Medians) -> float:
        return found[case][key] / found[other][key]

    return Target(f"{case} ÷ {other}", value, limit, cases=(case, other))


NOOP = Question(
    "peers_noop",
    "No-op jobs: sandboxq and its peers",
    DRAIN_COLUMNS,
    (
        _ratio(OURS, IN_PROCESS, 3),
        _ratio(OURS, SANDBOXED, 12),
        _ratio(OURS, CELERY, 45),
        replace(at_most(OURS, "redis", "Redis, µs CPU a job", 32), cases=(OURS,)),
    ),
    HOW,
)
NAP = Question(
    "peers_io",
    f"10 ms of sleep a job, {NAPS_AT_ONCE} at a time",
    DRAIN_COLUMNS,
    (_ratio(OURS, IN_PROCESS, 2),),
    HOW,
)
RESIZE = Question(
    "peers_resize",
    resize.QUESTION.title,
    (Column("per_second", "jobs/s"), *DRAIN_COLUMNS[1:]),
    note=f"{HOW} The same function on the same files; all with two processes.",
)
LATENCY = Question(
    "peers_latency",
    "Latency of an idle worker",
    (
        Column("result_p50", "add → result p50, ms", ".2f"),
        Column("result_p99", "add → result p99, ms", ".2f"),
        Column("start_p50", "add → start p50, ms", ".2f"),
        Column("start_p99", "add → start p99, ms", ".2f"),
    ),
    note="One job at a time; from the producer's call to the first line of the job, and to its "
    "value at the producer.",
    charted=("result_p50", "start_p50"),
)
ADD = Question(
    "peers_add",
    "Adding jobs: sandboxq and BullMQ",
    add.QUESTION.columns,
    (*add.QUESTION.targets, _ratio(add.ONE, ONE_BY_ONE, 1), _ratio(add.BULK, IN_BULK, 1)),
    f"Batches of {add.BATCH} in bulk.",
)


def main(arguments: list[str]) -> None:
    """Install the chosen peers, then ask each question of all that can do its work."""
    options = _options(arguments)
    peers = [peer for peer in PEERS if _is_chosen(peer, options.peers)]
    facts = {"peers": _versions(peers)}
    for work in WORKS:
        if work in options.works:
            _ASKED[work](peers, options, facts)


def _options(arguments: list[str]) -> argparse.Namespace:
    names = ", ".join(sorted({peer.install for peer in PEERS}))
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers")
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where results go")
    parser.add_argument("--works", type=_words, default=WORKS, help=f"some of {','.join(WORKS)}")
    parser.add_argument("--peers", type=_words, default=(), help=f"some of {names} (here: us)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the usual number of jobs")
    return parser.parse_args(arguments)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _is_chosen(peer: Peer, chosen: Sequence[str]) -> bool:
    return not chosen or peer.install in chosen


def _versions(peers: Sequence[Peer]) -> str:
    """Install what is not there yet, and tell the versions."""
    installs = dict.fromkeys(peer.install for peer in peers if peer.install != "here")
    for install in installs:
        if install == "bullmq-node":
            peer_installs.node_packages()
        else:
            peer_installs.python_packages(install)
    return ", ".join(peer_installs.version(install) for install in installs)


def _drains(
    question: Question,
    work: Work,
    peers: Sequence[Peer],
    options: argparse.Namespace,
    facts: dict[str, str],
) -> None:
    cases = []
    for peer in peers:
        if work in peer.loads:
            data: list[Any] = [{}] * _jobs(peer.loads[work], options.scale)
            cases.append(Case(peer.name, partial(drain, peer, work, data)))
    _ask(question, cases, options, facts)


def _jobs(load: Load, scale: float) -> int:
    """Return how many jobs to add: also at a small scale more than a peer may hold unseen."""
    return max(int(load.jobs * scale), 2 * load.hidden + 1)


def _resizes(peers: Sequence[Peer], options: argparse.Namespace, facts: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = resize.photographs_for(Path(folder), int(400 * options.scale))
        cases = [Case(BARE, partial(resize.in_bare_pool, data))]
        cases += [
            Case(peer.name, partial(drain, peer, "resize", data))
            for peer in peers
            if "resize" in peer.loads
        ]
        _ask(RESIZE, cases, options, facts)


def _latencies(peers: Sequence[Peer], options: argparse.Namespace, facts: dict[str, str]) -> None:
    cases = [
        Case(peer.name, partial(latency, peer, int(peer.loads["stamp"].jobs * options.scale)))
        for peer in peers
        if "stamp" in peer.loads
    ]
    _ask(LATENCY, cases, options, facts)


def _adds(peers: Sequence[Peer], options: argparse.Namespace, facts: dict[str, str]) -> None:
    few, many = int(5_000 * options.scale), int(50_000 * options.scale)
    cases = [
        Case(add.ONE, partial(add.run, add.one_by_one, few)),
        Case(add.BULK, partial(add.run, add.in_bulk, many)),
    ]
    for node in peers:
        if node.name == IN_PROCESS:
            cases += [
                Case(ONE_BY_ONE, partial(adding, node, "one_by_one", "job", [add.DATA] * few)),
                Case(IN_BULK, partial(adding, node, "in_bulk", "job", [add.DATA] * many)),
            ]
    _ask(ADD, cases, options, facts)


def _ask(
    question: Question, cases: Sequence[Case], options: argparse.Namespace, facts: dict[str, str]
) -> None:
    """Answer it, without the targets whose peers were not chosen."""
    names = {case.name for case in cases}
    targets = [each for each in question.targets if set(each.cases) <= names]
    answer(replace(question, targets=targets), cases, options, facts)


_ASKED: dict[str, Callable[[Sequence[Peer], argparse.Namespace, dict[str, str]], None]] = {
    "W1": partial(_drains, NOOP, "noop"),
    "W2": _adds,
    "W3": _resizes,
    "W4": partial(_drains, NAP, "nap"),
    "W5": _latencies,
}
