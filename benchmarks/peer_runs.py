"""Runs one peer on one kind of work, on a private Redis.

    server ─► program fills the queue ─► worker starts ─► the queue's length is watched until 0

Every peer is timed alike, from outside: from the first job that its queue no longer shows to the
last, however it counts and reports them itself.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from benchmarks import peer_installs
from benchmarks.program import CHECKOUT
from benchmarks.server import Server, private_server
from benchmarks.tree_cpu import cpu_seconds, tree_of
from sandboxq.cli.demo import ready_made_processor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.peer_list import Load, Peer, Work
    from benchmarks.question import Found

PROGRAMS = Path(__file__).with_name("peer_programs")
TASKS = Path(__file__).with_name("tasks")
# Between two looks at a queue: often enough for a drain of seconds, too seldom to slow Redis down.
LOOK_SECONDS = 0.01
# A queue that does not move for so long belongs to a worker that did not start.
PATIENCE_SECONDS = 60.0
STOP_SECONDS = 10.0
# Adding the jobs of a drain, or a few hundred one after the other.
CALL_SECONDS = 120.0
LATENCY_PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at a queue that is being drained: jobs left, and CPU seconds spent so far."""

    at: float
    left: int
    redis: float
    workers: float


def drain(peer: Peer, work: Work, data: list[Any]) -> Found:
    """Fill the peer's queue with a job for each item, and time how its worker empties it."""
    load = peer.loads[work]
    with private_server() as server, redis.Redis(unix_socket_path=str(server.path)) as client:
        call(peer, server, "add", {"task": work, "data": data})

        def left() -> int:
            return sum(int(client.execute_command(*words)) for words in peer.pending)

        with workers(peer, load, server) as pids:

            def look() -> Seen:
                return Seen(time.monotonic(), left(), _redis_cpu(client), _tree_cpu(pids))

            return _rates(*watched(left, look, hidden=load.hidden))


def latency(peer: Peer, jobs: int) -> Found:
    """Give an idle worker one job at a time."""
    with private_server() as server, workers(peer, peer.loads["stamp"], server):
        pairs = call(peer, server, "latency", {"jobs": jobs, "pause": LATENCY_PAUSE})
    starts, results = zip(*pairs, strict=True)
    return {
        "start_p50": statistics.median(starts),
        "start_p99": statistics.quantiles(starts, n=100)[98],
        "result_p50": statistics.median(results),
        "result_p99": statistics.quantiles(results, n=100)[98],
    }


def adding(peer: Peer, verb: str, task: str, data: list[Any]) -> Found:
    """Add the jobs as the peer's program does for ``verb``; nobody works on them."""
    with private_server() as server:
        before = cpu_seconds(server.pid)
        found = call(peer, server, verb, {"task": task, "data": data})
        spent = cpu_seconds(server.pid) - before
    producer = found["producer"]
    return {
        "per_second": len(data) / found["seconds"],
        "producer": (producer["user"] + producer["system"]) / len(data),
        "redis": spent / len(data) * 1e6,
    }


def call(peer: Peer, server: Server, verb: str, order: dict[str, Any]) -> Any:
    """Run the peer's program to its end; return the JSON of the last line that it printed."""
    done = subprocess.run(
        [*_command(peer, peer.program, server), verb],
        cwd=PROGRAMS,
        env=_environment(peer, server, keeps_results=verb == "latency"),
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=False,
    )
    if done.returncode:
        message = f"{peer.name} could not {verb}:\n{done.stderr[-2000:]}"
        raise SystemExit(message)
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


@contextmanager
def workers(peer: Peer, load: Load, server: Server) -> Iterator[list[int]]:
    """Run the peer's workers for the block; yields the process id of each."""
    command = [*_command(peer, peer.worker, server), *_filled(load.options, server)]
    environment = _environment(peer, server, keeps_results=load.keeps_results)
    environment["PEERS_AT_ONCE"] = str(load.at_once)
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        processes = [
            stack.enter_context(_worker(command, environment, log)) for _ in range(load.workers)
        ]
        try:
            yield [process.pid for process in processes]
        except TimeoutError as error:
            log.seek(0)
            message = f"{peer.name}: {error}\n{log.read()[-3000:]}"
            raise SystemExit(message) from error


def watched(
    left: Callable[[], int], look: Callable[[], Seen], *, hidden: int = 0
) -> tuple[Seen, Seen]:
    """Return what was seen when more than ``hidden`` jobs had left a queue, and when it was empty.

    Raises:
        TimeoutError: the queue did not move for a minute.

    """
    full = left()
    _wait_until(lambda: left() < full - hidden, left)
    first = look()
    _wait_until(lambda: left() == 0, left)
    return first, look()


def _wait_until(condition: Callable[[], bool], left: Callable[[], int]) -> None:
    moved, before = time.monotonic(), left()
    while not condition():
        time.sleep(LOOK_SECONDS)
        now = left()
        if now != before:
            moved, before = time.monotonic(), now
        elif time.monotonic() - moved > PATIENCE_SECONDS:
            message = f"{now} jobs are left, and none was done in {PATIENCE_SECONDS:g} s"
            raise TimeoutError(message)


def _rates(first: Seen, last: Seen) -> Found:
    return {
        "per_second": first.left / (last.at - first.at),
        "redis": (last.redis - first.redis) / first.left * 1e6,
        "workers": (last.workers - first.workers) / first.left * 1e6,
    }


@contextmanager
def _worker(
    command: Sequence[str], environment: dict[str, str], log: Any
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, cwd=PROGRAMS, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield process
    finally:
        family = tree_of(process.pid)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in family:
                with suppress(ProcessLookupError):  # it ended by itself
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def _command(peer: Peer, words: Sequence[str], server: Server) -> list[str]:
    program, *rest = _filled(words, server)
    if peer.install == "here":
        return [sys.executable, *rest]
    if peer.install == "bullmq-node":
        return [peer_installs.node_packages()[0], *rest]
    return [str(peer_installs.python_packages(peer.install) / program), *rest]


def _filled(words: Sequence[str], server: Server) -> list[str]:
    places = {
        "{url}": server.url,
        "{tasks}": str(TASKS),
        "{resize}": str(ready_made_processor("resize")),
    }
    return [_with_places(word, places) for word in words]


def _with_places(word: str, places: dict[str, str]) -> str:
    for place, value in places.items():
        word = word.replace(place, value)
    return word


def _environment(peer: Peer, server: Server, *, keeps_results: bool) -> dict[str, str]:
    environment = os.environ | {
        "PEERS_SOCKET": str(server.path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(PROGRAMS),
    }
    if peer.install == "bullmq-node":
        environment["NODE_PATH"] = str(peer_installs.node_packages()[1])
    if peer.install == "here":
        environment["PYTHONPATH"] += f"{os.pathsep}{CHECKOUT}"
    if keeps_results:
        environment["PEERS_RESULTS"] = "1"
    if "resize" in peer.loads:
        environment["PEERS_RESIZE"] = str(ready_made_processor("resize"))
    return environment


def _redis_cpu(client: redis.Redis) -> float:
    used: Any = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _tree_cpu(pids: Sequence[int]) -> float:
    return sum(cpu_seconds(pid) for root in pids for pid in tree_of(root))
