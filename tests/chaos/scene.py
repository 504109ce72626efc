"""The processes of one campaign: workers of both languages, producers, and what they leave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandboxq import BrokerUnavailable, Queue, Repeat
from tests.chaos.backends import NotHere
from tests.chaos.ledger import Ledger
from tests.chaos.producer import Orders
from tests.chaos.worker_process import WorkerProcess
from tests.conftest import wait_until

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import redis

    from sandboxq.queue.queue import SyncQueue
    from tests.chaos.backends import Backend
    from tests.chaos.campaigns import Campaign

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
QUEUE = "q"
_BEAT = Repeat(every=0.5)
_TRIES = 20
LOCK_SECONDS = 5.0
PROCS = 2
_EXIT_SECONDS = 90.0
_OPTIONS = (
    *("--queue", QUEUE, "--log-format", "json", "--procs", str(PROCS)),
    *("--lock-duration", f"{LOCK_SECONDS:g}", "--stalled-interval", "2"),
    *("--memory", "256M", "--drain-delay", "1"),
)


class Scene:
    """Everything that runs in a campaign, and the clock of its faults."""

    def __init__(self, campaign: Campaign, backend: Backend, folder: Path, *, seed: int) -> None:
        """Prepare; ``start`` runs it."""
        self.campaign = campaign
        self.backend = backend
        self.folder = folder
        self.seed = seed
        self.run = f"{campaign.name.replace(' ', '-')}-{os.getpid()}"
        self.adds, self.runs = folder / "adds", folder / "runs"
        self.runs.touch()  # nobody may make it with rights that keep others out
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.workers: list[WorkerProcess] = []
        self.gone: list[WorkerProcess] = []
        self.producers: list[subprocess.Popen[bytes]] = []
        self.producer_codes: list[int] = []
        self.over = threading.Event()
        self.server_lock = threading.Lock()  # one fault of the server at a time
        self.faults: Counter[str] = Counter()
        self.windows: list[tuple[float, float]] = []  # in which Redis itself may lose writes
        self._workers_lock = threading.Lock()
        self._numbers = iter(range(1, 10_000))

    @property
    def base(self) -> str:
        """What the queue's keys start with."""
        return f"{self.backend.prefix}:{QUEUE}:"

    def client(self) -> redis.Redis:
        """Return a connection to the master, past any proxy."""
        return self.backend.client()

    def usage_recorder(self) -> Ledger:
        """Read it."""
        return Ledger(self.adds, self.runs)

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the time of faults."""
        self.over.wait(seconds)

    # ── starting ────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start workers, then producers; return when jobs run."""
        with self.client() as client:
            client.hset(self.base + "meta", "opts.maxLenEvents", 10_000_000)
        for _ in range(self.campaign.workers):
            self.start_worker()
        for _ in range(self.campaign.node_workers):
            self.start_node_worker()
        for worker in self.workers:
            worker.wait_until_ready()
        self._schedule(_begin_beat)
        self.start_producer()
        if self.campaign.node_workers:
            self._start_producer(self._node_command("producer"))
        wait_until(self._jobs_run, timeout=60)

    def _jobs_run(self) -> bool:
        """Say whether Redis has taken a job of the producers, and one ran (perhaps a beat)."""
        return bool(self.runs.stat().st_size and self.usage_recorder().acknowledged)

    def start_worker(self) -> WorkerProcess:
        """Start one more of ours."""
        return self._started(self._command(), is_node=False)

    def _command(self) -> list[str]:
        processor = HERE / ("async_processor.py" if self.campaign.is_async else "processor.py")
        command = [sys.executable, "-m", "sandboxq", "run", str(processor), *_OPTIONS]
        url = self.backend.url
        place = (*(("--url", url) if url else ()), "--prefix", self.backend.prefix)
        seats = ("--concurrency", "20") if self.campaign.is_async else ()
        return [*command, *place, *seats, *self.campaign.options]

    def start_node_worker(self) -> WorkerProcess:
        """Start one more of Node's."""
        return self._started(self._node_command("worker"), is_node=True)

    def _started(self, command: list[str], *, is_node: bool) -> WorkerProcess:
        with self._workers_lock:
            log = self.folder / f"worker-{next(self._numbers)}.log"
            env, cwd = self._environment(), self._cwd
            worker = WorkerProcess(command, log=log, cwd=cwd, env=env, is_node=is_node)
            self.workers.append(worker)
            return worker

    def start_producer(self) -> None:
        """Start one of ours."""
        campaign = self.campaign
        orders = Orders(
            url=self.backend.url,
            prefix=self.backend.prefix,
            queue=QUEUE,
            usage_recorder=str(self.adds),
            run=f"{len(self.producers)}",
            seed=self.seed,
            kinds=campaign.kinds,
            rate=campaign.rate,
            backlog=campaign.backlog,
        )
        command = [sys.executable, "-m", "tests.chaos.producer", orders.argument()]
        self._start_producer(command)

    def _start_producer(self, command: list[str]) -> None:
        env = {**self._environment(), "PYTHONPATH": str(ROOT)}
        with (self.folder / "producers.log").open("ab") as log:
            self.producers.append(
                subprocess.Popen(command, cwd=self._cwd, env=env, stdout=log, stderr=log)
            )

    @property
    def _cwd(self) -> Path:
        return self.backend.cwd or self.folder

    def _schedule(self, change: Callable[[SyncQueue], object]) -> None:
        """Change the scheduler, where there is one: its jobs are named by their ids."""
        if "delay" not in self.campaign.kinds or self.campaign.node_workers or self.backend.cwd:
            return
        with Queue.sync(QUEUE, url=self.backend.url, prefix=self.backend.prefix) as queue:
            for _ in range(_TRIES):
                with contextlib.suppress(BrokerUnavailable):
                    change(queue)
                    return

    def _environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.endswith("_URL")},
            "CHAOS_LEDGER": str(self.runs),
            "CHAOS_RUN": self.run,
            "TMPDIR": str(self.temporary),
        }

    def _node_command(self, role: str) -> list[str]:
        from tests.interop.node_install import NodeUnavailable, find_tools, installed_modules

        try:
            tools = find_tools()
            modules = installed_modules(tools)
        except NodeUnavailable as error:
            raise NotHere(str(error)) from error
        orders = {
            "modules": str(modules),
            "port": self.backend.master().port,
            "queue": QUEUE,
            "adds": str(self.adds),
            "runs": str(self.runs),
            "rate": self.campaign.rate,
            "lockMs": int(LOCK_SECONDS * 1000),
        }
        return [tools.node, str(HERE / "node_side.mjs"), role, json.dumps(orders)]

    # ── faults need ─────────────────────────────────────────────────────────

    def a_worker(self, rng: random.Random, *, is_node: bool = False) -> WorkerProcess | None:
        """Return one that is alive, by chance."""
        with self._workers_lock:
            alive = [each for each in self.workers if each.is_alive and each.is_node == is_node]
        return rng.choice(alive) if alive else None

    def replace(self, worker: WorkerProcess, number: signal.Signals) -> None:
        """End a worker by a signal, and start another."""
        with self._workers_lock:
            if worker not in self.workers:
                return
            self.workers.remove(worker)
            self.gone.append(worker)
        worker.signal(number)
        if number == signal.SIGKILL:
            worker.process.wait(10)
        if worker.is_node:
            self.start_node_worker()
        else:
            self.start_worker()

    def fill_up(self) -> None:
        """Have as many workers as in the beginning: one that found no Redis has ended."""
        alive = [each for each in self.workers if each.is_alive and not each.is_node]
        for _ in range(self.campaign.workers - len(alive)):
            self.start_worker()

    # ── ending ──────────────────────────────────────────────────────────────

    def stop_producers(self) -> None:
        """Let them finish their last add; nothing is scheduled any more."""
        self._schedule(lambda queue: queue.remove_scheduler("beat"))
        for producer in self.producers:
            producer.terminate()
        for producer in self.producers:
            try:
                self.producer_codes.append(producer.wait(_EXIT_SECONDS))
            except subprocess.TimeoutExpired:
                producer.kill()
                producer.wait(10)

    def stop_workers(self) -> list[tuple[WorkerProcess, int]]:
        """Ask all that are left to end; return their exit codes."""
        ended = [(worker, worker.end()) for worker in self.gone]
        for worker in self.workers:
            worker.wait_until_ready()  # before, SIGTERM ends it at once
            worker.process.terminate()
        return ended + [(worker, worker.end()) for worker in self.workers]

    def left_files(self) -> list[str]:
        """Return what is left of temporary files once another worker has begun and ended."""
        if any(self.temporary.iterdir()):
            worker = self.start_worker()
            worker.wait_until_ready()
            worker.process.terminate()
            worker.end()
        return [path.name for path in self.temporary.iterdir()]

    def kill_all(self) -> None:
        """Leave nothing running, whatever went wrong."""
        for producer in self.producers:
            if producer.poll() is None:
                producer.kill()
                producer.wait(10)
        for worker in [*self.workers, *self.gone]:
            worker.log_flows.set()
            if worker.is_alive:
                worker.process.kill()
                worker.process.wait(10)
        for pid, _ in self.left_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def left_processes(self) -> list[tuple[int, str]]:
        """Return what still runs in this campaign's environment: pid and command line."""
        mark = f"CHAOS_RUN={self.run}\0".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (folder / "environ").read_bytes():
                        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                        found.append((int(folder.name), command.decode(errors="replace")[:100]))
        return found


def _begin_beat(queue: SyncQueue) -> None:
    queue.upsert_scheduler("beat", _BEAT, name="nap", options={"attempts": 20})


def counts_of(client: Any, base: str) -> dict[str, int]:
    """Return how many jobs are in each state."""
    lists, sets = ("wait", "active"), ("prioritized", "delayed", "waiting-children")
    pipe = client.pipeline(transaction=False)
    for name in lists:
        pipe.llen(base + name)
    for name in (*sets, "completed", "failed"):
        pipe.zcard(base + name)
    return dict(zip((*lists, *sets, "completed", "failed"), pipe.execute(), strict=True))


def wait_until_drained(scene: Scene, seconds: float) -> float | None:
    """Return the seconds until nothing was left to run; None when none ends for ``seconds``."""
    began = ended_at = time.monotonic()
    ended = -1
    while time.monotonic() - ended_at < seconds:
        with contextlib.suppress(Exception), scene.client() as client:
            counts = counts_of(client, scene.base)
            before, ended = ended, counts["completed"] + counts["failed"]
            if ended == sum(counts.values()):
                return time.monotonic() - began
            if ended != before:
                ended_at = time.monotonic()
        time.sleep(0.1)
    return None
