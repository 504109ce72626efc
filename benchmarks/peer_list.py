"""The peers: how each is installed, started, filled, and how much of its queue is left.

Each gets the set-up that suits it best on two cores: two processes where processes do the work,
many jobs at once where an event loop or threads do it. The numbers of jobs let a drain last a few
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Work = Literal["noop", "nap", "stamp", "resize"]
# The total of concurrent sleeps, for every peer.
NAPS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Load:
    """How a peer does one kind of work.

    ``options`` go to its worker's command line. ``hidden`` is how many jobs it may hold that its
    queue no longer shows: a drain is measured once they all are held.
    """

    jobs: int
    at_once: int = 1
    hidden: int = 0
    options: Sequence[str] = ()
    workers: int = 1
    keeps_results: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """A queue that is measured.

    ``install`` is its key in peer_installs, ``bullmq-node``, or ``here``. The first word of
    ``program`` and of ``worker`` is a command of its environment. ``pending`` are Redis commands
    whose replies add up to the number of unfinished jobs.
    """

    name: str
    install: str
    program: Sequence[str]
    worker: Sequence[str]
    pending: Sequence[tuple[str, str]]
    loads: Mapping[Work, Load] = field(default_factory=dict)


def python_program(name: str) -> tuple[str, str]:
    """Return how a program in peer_programs is started."""
    return ("python", f"{name}.py")


NODE = ("node", "bullmq_node.cjs")
BULLMQ_PENDING = (("LLEN", "bull:peers:wait"), ("LLEN", "bull:peers:active"))
CELERY_PENDING = (("LLEN", "celery"), ("HLEN", "unacked"))

OURS, IN_PROCESS = "sandboxq, in children", "BullMQ, in-process"
SANDBOXED, CELERY = "BullMQ, sandboxed", "Celery, prefork"

PEERS = (
    Peer(
        OURS,
        "here",
        python_program("sandboxq_peer"),
        ("python", "-m", "sandboxq", "run", "--queue", "peers", "--url", "{url}"),
        BULLMQ_PENDING,
        {
            "noop": Load(60_000, options=("--procs", "2", "{tasks}/noop.py")),
            "nap": Load(
                40_000,
                options=("--procs", "2", "--concurrency", str(NAPS_AT_ONCE // 2), "{tasks}/nap.py"),
            ),
            "stamp": Load(400, options=("--procs", "2", "{tasks}/stamp.py")),
            "resize": Load(400, options=("--procs", "2", "{resize}")),
        },
    ),
    Peer(
        IN_PROCESS,
        "bullmq-node",
        NODE,
        (*NODE, "work"),
        BULLMQ_PENDING,
        {
            "noop": Load(30_000, at_once=100),
            "nap": Load(20_000, at_once=NAPS_AT_ONCE),
            "stamp": Load(400, at_once=100),
        },
    ),
    Peer(
        "BullMQ, in-process, 2 workers",
        "bullmq-node",
        NODE,
        (*NODE, "work"),
        BULLMQ_PENDING,
        {
            "noop": Load(30_000, at_once=50, workers=2),
            "nap": Load(20_000, at_once=NAPS_AT_ONCE // 2, workers=2),
        },
    ),
    Peer(
        SANDBOXED,
        "bullmq-node",
        NODE,
        (*NODE, "sandboxed"),
        BULLMQ_PENDING,
        {"noop": Load(8_000, at_once=2), "stamp": Load(400, at_once=2)},
    ),
    Peer(
        "bullmq for Python",
        "bullmq",
        python_program("bullmq_python"),
        (*python_program("bullmq_python"), "work"),
        BULLMQ_PENDING,
        {
            "noop": Load(6_000, at_once=50, workers=2),
            "nap": Load(6_000, at_once=NAPS_AT_ONCE // 2, workers=2),
            "stamp": Load(400, at_once=50),
        },
    ),
    Peer(
        CELERY,
        "celery",
        python_program("celery_peer"),
        ("celery", "-A", "celery_peer", "worker", "-P", "prefork", "-c", "2", "-l", "warning"),
        CELERY_PENDING,
        {
            # Acknowledged when they begin; four for each child are prefetched.
            "noop": Load(3_000, hidden=10, options=("--without-gossip", "--without-mingle")),
            "stamp": Load(300, options=("--without-gossip", "--without-mingle")),
            "resize": Load(400, hidden=2, options=("--prefetch-multiplier", "1")),
        },
    ),
    Peer(
        "Dramatiq, 2 processes",
        "dramatiq",
        python_program("dramatiq_peer"),
        ("dramatiq", "dramatiq_peer", "--processes", "2", "--skip-logging"),
        (("HLEN", "dramatiq:default.msgs"),),
        {
            "noop": Load(10_000, options=("--threads", "8")),
            "nap": Load(8_000, options=("--threads", str(NAPS_AT_ONCE // 2))),
        },
    ),
    Peer(
        "RQ, 2 workers",
        "rq",
        python_program("rq_peer"),
        # -c: imports the jobs before it forks.
        ("rq", "worker-pool", "-c", "jobs", "-n", "2", "-q", "-u", "{url}"),
        (("LLEN", "rq:queue:default"),),
        {
            "noop": Load(300, hidden=2),
            "stamp": Load(200),
            "resize": Load(400, hidden=2),
        },
    ),
    Peer(
        # Its worker that does not fork for each job: quicker, and a crash takes it along.
        "RQ, 2 simple workers",
        "rq",
        python_program("rq_peer"),
        ("rq", "worker-pool", "-w", "rq.SimpleWorker", "-n", "2", "-q", "-u", "{url}"),
        (("LLEN", "rq:queue:default"),),
        {"noop": Load(1_500, hidden=2)},
    ),
    Peer(
        "taskiq, 2 workers",
        "taskiq",
        python_program("taskiq_peer"),
        ("taskiq", "worker", "taskiq_peer:broker", "--log-level", "WARNING"),
        (("LLEN", "peers"),),
        {
            "noop": Load(10_000, hidden=200, options=("-w", "2")),
            "nap": Load(
                10_000,
                hidden=NAPS_AT_ONCE,
                options=("-w", "2", "--max-async-tasks", str(NAPS_AT_ONCE // 2)),
            ),
            "stamp": Load(400, options=("-w", "2"), keeps_results=True),
            "resize": Load(
                400,
                hidden=4,
                options=(
                    *("-w", "1", "--max-async-tasks", "4"),
                    *("--use-process-pool", "--max-process-pool-processes", "2"),
                ),
            ),
        },
    ),
    Peer(
        "arq, 2 workers",
        "arq",
        python_program("arq_peer"),
        ("arq", "arq_peer.WorkerSettings"),
        (("ZCARD", "arq:queue"),),
        {
            "noop": Load(6_000, at_once=50, workers=2),
            "nap": Load(6_000, at_once=NAPS_AT_ONCE // 2, workers=2),
        },
    ),
    Peer(
        "SAQ, 2 workers",
        "saq",
        python_program("saq_peer"),
        ("saq", "saq_peer.settings", "-q"),
        (("ZCARD", "saq:peers:incomplete"),),
        {
            "noop": Load(8_000, at_once=50, workers=2),
            "nap": Load(6_000, at_once=NAPS_AT_ONCE // 2, workers=2),
        },
    ),
    Peer(
        "Huey, 2 processes",
        "huey",
        python_program("huey_peer"),
        ("huey_consumer", "huey_peer.huey", "-k", "process", "-w", "2", "-q"),
        (("LLEN", "huey.redis.peers"),),
        {"noop": Load(10_000, hidden=2)},
    ),
)
