"""What is done to a running scene.

Each fault undoes itself before it returns, and returns its name; an empty one: there was nothing
to do it to. Faults run in threads of their own, one each.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from sandboxq import Queue
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import QueueError
from tests.chaos.backends import Embedded
from tests.chaos.scene import LOCK_SECONDS, QUEUE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from sandboxq.queue.queue import SyncQueue
    from tests.chaos.scene import Scene

    Inject = Callable[[Scene, random.Random], str]


class Fault(NamedTuple):
    """Done again and again, ``every`` so many seconds."""

    every: float
    inject: Inject


# ── processes ───────────────────────────────────────────────────────────────


def kill_child(scene: Scene, rng: random.Random) -> str:
    """Kill -9 one child."""
    return "child -9" if _signal_child(scene, rng, signal.SIGKILL) else ""


def abort_or_stop_child(scene: Scene, rng: random.Random) -> str:
    """Let one child dump, or stand still for a while."""
    if rng.random() < 0.3:
        return "child ABRT" if _signal_child(scene, rng, signal.SIGABRT) else ""
    pid = _signal_child(scene, rng, signal.SIGSTOP)
    if not pid:
        return ""
    scene.pause(rng.choice([0.05, 0.3, 2.0]))
    _send(pid, signal.SIGCONT)
    return "child STOP"


def kill_fork_server(scene: Scene, rng: random.Random) -> str:
    """Kill -9 one zygote."""
    worker = scene.a_worker(rng)
    zygotes = worker.zygotes() if worker else []
    return "zygote -9" if zygotes and _send(zygotes[0], signal.SIGKILL) else ""


def kill_worker(scene: Scene, rng: random.Random) -> str:
    """Kill -9 one coordinator; another worker takes its place."""
    return "worker -9" if _replace(scene, rng, signal.SIGKILL) else ""


def kill_node_worker(scene: Scene, rng: random.Random) -> str:
    """Kill -9 a worker of Node."""
    return "Node worker -9" if _replace(scene, rng, signal.SIGKILL, is_node=True) else ""


def deploy(scene: Scene, rng: random.Random) -> str:
    """End one worker by SIGTERM; another takes its place."""
    return "SIGTERM" if _replace(scene, rng, signal.SIGTERM) else ""


def stop_worker_briefly(scene: Scene, rng: random.Random) -> str:
    """Let a coordinator stand still for less than its locks live."""
    return _stop_worker(scene, rng, rng.uniform(0.2, LOCK_SECONDS / 2 - 1))


def stop_worker_long(scene: Scene, rng: random.Random) -> str:
    """Let a coordinator stand still for longer than its locks live."""
    return _stop_worker(scene, rng, LOCK_SECONDS + rng.uniform(0.5, 3))


def _signal_child(scene: Scene, rng: random.Random, number: signal.Signals) -> int:
    worker = scene.a_worker(rng)
    children = worker.children() if worker else []
    pid = rng.choice(children) if children else 0
    return pid if pid and _send(pid, number) else 0


def _replace(
    scene: Scene, rng: random.Random, number: signal.Signals, *, is_node: bool = False
) -> bool:
    worker = scene.a_worker(rng, is_node=is_node)
    if worker is None:
        return False
    if number == signal.SIGTERM:
        worker.wait_until_ready()  # before, it ends at once
    scene.replace(worker, number)
    return True


def _stop_worker(scene: Scene, rng: random.Random, seconds: float) -> str:
    worker = scene.a_worker(rng)
    if worker is None:
        return ""
    worker.signal(signal.SIGSTOP)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        worker.signal(signal.SIGCONT)
    return "worker STOP"


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


# ── Redis ───────────────────────────────────────────────────────────────────


def stop_redis(scene: Scene, rng: random.Random) -> str:
    """Let Redis stand still, perhaps for longer than locks live."""
    with scene.server_lock:
        server = scene.backend.master()
        server.freeze()
        time.sleep(rng.choice([0.5, 1, 2, 4, 7, 12]))
        server.thaw()
    return "redis STOP"


def restart_redis(scene: Scene, rng: random.Random) -> str:
    """Kill -9 Redis, and start it again from its file, perhaps after locks have run out."""
    with scene.server_lock:
        server = scene.backend.master()
        server.kill()
        time.sleep(rng.choice([0.1, 1, LOCK_SECONDS + 1]))
        server.start()
    return "redis -9"


def kill_embedded(scene: Scene, rng: random.Random) -> str:
    """Kill -9 the embedded server, perhaps while it finds no room; its users start it again."""
    backend = scene.backend
    assert isinstance(backend, Embedded)
    filler = backend.folder / "filler"
    if is_full := rng.random() < 0.5:
        _fill(filler)
        # What it had confirmed and could not write is lost with it.
        scene.windows.append((time.time() - 2, time.time() + scene.campaign.window))
    backend.kill()
    scene.pause(rng.choice([1, LOCK_SECONDS + 2]))
    filler.unlink(missing_ok=True)
    return "embedded -9, ENOSPC" if is_full else "embedded -9"


def kill_client(scene: Scene, rng: random.Random) -> str:
    """End one connection by CLIENT KILL."""
    with contextlib.suppress(Exception), scene.client() as client:
        own = client.client_id()
        ids = [row["id"] for row in client.client_list() if int(row["id"]) != own]
        client.execute_command("CLIENT", "KILL", "ID", rng.choice(ids))
        return "CLIENT KILL"
    return ""


def fill_disk(scene: Scene, rng: random.Random) -> str:
    """Let Redis find no room for its file; on a small disk only."""
    filler = scene.backend.folder / "filler"
    with scene.server_lock:
        _fill(filler)
        scene.pause(rng.choice([1, 3, LOCK_SECONDS + 2]))
        filler.unlink()
    return "ENOSPC"


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


def fail_over(scene: Scene, _rng: random.Random) -> str:
    """Make another server the master, as planned."""
    return _with_window(scene, scene.backend.fail_over, "failover")


def freeze_master(scene: Scene, _rng: random.Random) -> str:
    """Let the master stand still until another is in its place, and a little longer."""
    server = scene.backend.master()
    return _without_master(scene, server.freeze, server.thaw, "master STOP")


def kill_master(scene: Scene, _rng: random.Random) -> str:
    """Kill the master, and start it again as a replica."""
    server = scene.backend.master()
    return _without_master(scene, server.kill, server.start, "master -9")


def _without_master(
    scene: Scene, take: Callable[[], None], give_back: Callable[[], None], name: str
) -> str:
    def change() -> None:
        old = scene.backend.master()
        take()
        try:
            scene.backend.wait_for_other_master(old)
            time.sleep(1)
        finally:
            give_back()

    return _with_window(scene, change, name)


def _with_window(scene: Scene, change: Callable[[], None], name: str) -> str:
    """Note when Redis's own replication may have lost what it had acknowledged."""
    with scene.server_lock:
        began = time.time()
        change()
        scene.windows.append((began - 1, time.time() + scene.campaign.window))
    return name


# ── connections, through the proxy ──────────────────────────────────────────


def cut(scene: Scene, _rng: random.Random) -> str:
    """Cut a connection in the middle of a reply."""
    return scene.backend.proxy.cut() if scene.backend.proxy else ""


def half_open(scene: Scene, rng: random.Random) -> str:
    """Let a connection be dead for one side or for both, without a word to the other."""
    proxy = scene.backend.proxy
    if proxy is None:
        return ""
    return rng.choice([proxy.swallow, proxy.lose_client, proxy.lose_server])()


def delay(scene: Scene, rng: random.Random) -> str:
    """Slow every exchange down for a while."""
    proxy = scene.backend.proxy
    if proxy is None:
        return ""
    proxy.delay(rng.choice([0.05, 0.3, 1.0]))
    scene.pause(3)
    proxy.delay(0)
    return "delay"


# ── operators ───────────────────────────────────────────────────────────────


def scale(scene: Scene, rng: random.Random) -> str:
    """Have more or fewer children, in all workers."""
    reply_key = QueueKeys(QUEUE, scene.backend.prefix).reply_key("chaos")
    message = json.dumps({"ask": "scale", "procs": rng.randint(1, 4), "reply_key": reply_key})
    with contextlib.suppress(Exception), scene.client() as client:
        client.publish(QueueKeys(QUEUE, scene.backend.prefix).control_channel, message)
        return "scale"
    return ""


def pause(scene: Scene, rng: random.Random) -> str:
    """Pause the queue for a moment."""
    try:
        with _queue(scene) as queue:
            queue.pause()
            scene.pause(rng.uniform(0.2, 2))
    finally:  # also where nobody knows whether it was paused
        _resume(scene)
    return "pause"


def cancel(scene: Scene, rng: random.Random) -> str:
    """Cancel a job that runs, perhaps."""
    with _queue(scene) as queue, scene.client() as client:
        ids = client.lrange(scene.base + "active", 0, -1)
        if not ids:
            return ""
        queue.cancel(rng.choice(ids))
        return "cancel"


def _queue(scene: Scene) -> SyncQueue:
    return Queue.sync(QUEUE, url=scene.backend.url, prefix=scene.backend.prefix)


def _resume(scene: Scene) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(QueueError), _queue(scene) as queue:
            queue.resume()
            return


# ── others ──────────────────────────────────────────────────────────────────

_POISON = (
    {"name": "nap", "data": "{", "opts": "{}"},
    {"name": "nap", "data": "{}", "opts": "["},
    {"name": "nap", "data": "{}", "opts": '{"attempts":1e400}'},
    {"name": "nap", "data": "[" * 100_000, "opts": "{}"},
    {"name": "nap", "data": "{}", "opts": '{"removeOnComplete":{"age":1.7976931348623157e308}}'},
    {"name": "nap", "data": "{}", "opts": '{"removeOnFail":{"count":-1,"limit":1e300}}'},
    {"name": "nap", "data": "{}", "opts": '{"kl":9223372036854775807}'},
    {"name": "nap", "data": "{}", "opts": '{"backoff":{"type":7,"delay":"x"}}', "atm": "-1"},
    {"name": "nap", "data": "{}", "opts": "{}", "atm": "abc", "ats": "14"},
    {"name": "nap", "data": "{}", "opts": "{}", "stc": "1e99", "sq:crashes": "many"},
    {"name": "nap", "data": "{}", "opts": "{}", "parent": "{", "parentKey": "no:such:job"},
    {"name": "nap", "data": "null", "opts": "null", "sq:binary": "nowhere\nx"},
    {"name": b"\xff\xfe", "data": b"\xff", "opts": b"\xff", "progress": "{"},
)


def poison(scene: Scene, rng: random.Random) -> str:
    """Write a job that no client would write."""
    row = {"timestamp": "1", "delay": "0", "priority": "0", **rng.choice(_POISON)}
    job_id = f"poison-{rng.getrandbits(48)}"
    with contextlib.suppress(Exception), scene.client() as client:
        pipe = client.pipeline()
        pipe.hset(scene.base + job_id, mapping=row)
        pipe.rpush(scene.base + "wait", job_id)
        pipe.zadd(scene.base + "marker", {"0": 0})
        pipe.execute()
        return "poison"
    return ""


def block_log(scene: Scene, rng: random.Random) -> str:
    """Let nobody read a worker's log for longer than its locks live."""
    worker = scene.a_worker(rng)
    if worker is None:
        return ""
    worker.log_flows.clear()
    scene.pause(LOCK_SECONDS + 3)
    worker.log_flows.set()
    return "log blocked"
