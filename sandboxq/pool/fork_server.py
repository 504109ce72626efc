"""The coordinator's side of one fork server (``zygote.py``): starts it, asks it for children."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import sandboxq
from sandboxq.binary import MOST_BYTES
from sandboxq.budgets import DEFAULT_BUDGETS, Budgets
from sandboxq.child.stacks import STACKS_SIGNAL
from sandboxq.errors import ProcessorNotLoaded
from sandboxq.pool.capture import OutputPipe
from sandboxq.pool.death import Death
from sandboxq.pool.orders import PACKET, Parcel, parcel_of
from sandboxq.pool.scratch_folder import ScratchFolder
from sandboxq.sandbox import family
from sandboxq.sandbox.cgroup import Group
from sandboxq.sandbox.child_group import ChildGroup, child_group
from sandboxq.sandbox.environment import THREAD_VARIABLES, environment_for, warn_of_withheld
from sandboxq.sandbox.probe import usable_memory
from sandboxq.withheld import REDIS_WITHHELD

if TYPE_CHECKING:
    from sandboxq.sandbox.plan import Plan
    from sandboxq.sandbox.policy import Policy

_log = logging.getLogger("sandboxq.pool")

_POOL_VARIABLE = "SANDBOXQ_POOL"
# The -P keeps a json.py in the working directory from being imported in place of the real one.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[3]); from sandboxq.pool.zygote import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
# How long the stacks of a hanging import may take to be written.
_STACKS_SECONDS = 1.0
_LEAVE_SECONDS = 6.0
# Of what this process may use; each child is limited to less, and has margins of its own.
_MOST_OF_MEMORY = 0.95
# Beside the grants, and as much again for what a child shares or caches: this is no child's limit.
_MEMORY_OF_SERVER = 1 << 30
_TASKS_OF_SERVER = 1024
_TASKS_OF_A_PROCESS = 4  # the kernel counts threads
_TASKS_OF_A_CHILD = 256
# Of one child: libraries, files that it reads and writes, what the kernel has for it.
_MEMORY_BESIDE = 256 << 20


class Order(NamedTuple):
    """What a fork server is started for."""

    processor: str
    queue_name: str
    concurrency: int
    policy: Policy
    threads: int = 1
    is_preloading: bool = True
    max_result: int = MOST_BYTES
    budgets: Budgets = DEFAULT_BUDGETS
    withholds_redis: bool = False  # from threads: processes never get its URL


class Loaded(NamedTuple):
    """What came of the import: OS threads afterwards, ``async def`` or not (None: not imported)."""

    threads: int
    is_async: bool | None
    import_ms: int


class ServerOwner(Protocol):
    """Who hears a fork server."""

    def on_forked(self, number: int, pid: int, pidfd: int) -> None:
        """Take the process that was asked for under ``number``; the pidfd is the owner's now."""

    def on_fork_failed(self, number: int, reason: str) -> None:
        """Hear that the kernel refused."""

    def on_exit(self, pid: int, death: Death) -> None:
        """Hear that a child was reaped."""

    def on_server_gone(self, server: ForkServer, status: str) -> None:
        """Hear that the fork server ended although it was not asked to."""

    def on_server_line(self, pid: int, stream: str, line: str) -> None:
        """Take a line that was printed while the processor was imported."""


class ForkServer:
    """One zygote process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: ServerOwner, order: Order) -> None:
        """Prepare; ``start`` does it."""
        self._loop = loop
        self._owner = owner
        self._order = order
        self._marker = f"{_POOL_VARIABLE}={secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._pidfd = -1
        self._pipes: list[OutputPipe] = []
        self._outbox: deque[Parcel] = deque()
        self._loaded: asyncio.Future[Loaded] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._is_closing = False
        self._cleaning = threading.Lock()
        self.group = Group()
        self._child_groups: dict[int, ChildGroup] = {}  # by process
        self._folder = ScratchFolder()
        self.pid = 0

    async def start(self, timeout: float) -> Loaded:
        """Start the process and have it import the processor, for at most ``timeout`` seconds.

        Raises:
            ProcessorNotLoaded: with the reason and the user's frames; everything is cleaned up.
        """
        stacks = os.memfd_create("sandboxq-stacks", os.MFD_CLOEXEC)
        try:
            self._launch(stacks)
            done, _ = await asyncio.wait([self._loaded], timeout=timeout)
            if not done:
                hang = await self._hang(stacks, timeout)
                if not self._loaded.done():  # it was not over just then
                    self._loaded.set_exception(hang)
            loaded = self._loaded.result()
            self.group.keep_entered(self.pid)
        except BaseException:
            await self.close()
            raise
        else:
            return loaded
        finally:
            os.close(stacks)

    def limit(self, children: int) -> None:
        """Limit what ``children`` may use together; see sandbox.cgroup."""
        policy = self._order.policy
        if policy.name == "none":
            return
        memory = int(usable_memory() * _MOST_OF_MEMORY)
        if policy.memory is not None:
            memory = min(memory, _MEMORY_OF_SERVER + (children + 1) * 2 * policy.memory)
        tasks = _TASKS_OF_SERVER + (children + 1) * self._tasks_granted
        self.group.limit(memory=memory, pids=tasks)

    def spawn(self, number: int, plan: Plan, fds: list[int]) -> None:
        """Ask for a child that follows ``plan`` and gets these descriptors."""
        text = {"op": "spawn", "number": number, "steps": plan.steps, "memory": plan.memory}
        text["policy"] = plan.policy
        text["limits"] = self._limits_of_a_child(plan)
        text["scratch"] = self.scratch_of(number) if plan.policy != "none" else ""
        self._send(text, fds)

    def group_of(self, pid: int) -> ChildGroup | None:
        """Return the control groups where a child's memory is counted, if there are such."""
        return self._child_groups.get(pid)

    def _limits_of_a_child(self, plan: Plan) -> dict[str, int]:
        """Return what the kernel is to refuse to a child and all that it starts.

        More than the watches grant: they say what was too much, and the kernel does not.
        """
        if plan.memory is None:
            return {}
        memory = plan.memory + _MEMORY_BESIDE + self._order.max_result
        return {"memory": memory, "pids": _TASKS_OF_A_CHILD + self._tasks_granted}

    @property
    def _tasks_granted(self) -> int:
        return self._order.policy.processes * _TASKS_OF_A_PROCESS

    def sweep(self) -> None:
        """Have processes ended that lost their parent and that no child owns."""
        self._send({"op": "sweep"}, [])

    def scratch_of(self, number: int) -> str:
        """Return the path of a child's private directory, which no job can guess."""
        return self._folder.of_child(number)

    @property
    def scratch(self) -> str:
        """Where the private directories are; nothing under the policy ``none``."""
        return self._folder.path

    def shut(self) -> None:
        """Close the control socket: the zygote kills everything below it, and leaves."""
        self._is_closing = True
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._loop.remove_writer(self._control.fileno())
            self._control.close()
            self._control = None
            self._drop_orders()

    async def close(self) -> None:
        """Shut, and wait until the zygote is gone; what hangs is killed."""
        is_serving = self._is_serving
        tree = family.descendants_of(self.pid) if self.pid and not is_serving else []
        self.shut()
        if self._process is not None and not self._gone.done():
            if not is_serving:
                self.kill(tree)
            await asyncio.wait([self._gone], timeout=_LEAVE_SECONDS)
            if not self._gone.done():
                self.kill(family.descendants_of(self.pid))
                await self._gone
        self._give_back()
        await self._loop.run_in_executor(None, self.clean)

    def kill(self, tree: list[int]) -> None:
        """Kill the zygote and these processes below it."""
        self.group.kill()
        family.kill_all([*tree, self.pid])

    def reap(self) -> None:
        """Wait for the zygote outside the loop, after ``shut``; for ``Pool.kill`` only."""
        if self._process is None:
            return
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill(family.descendants_of(self.pid))
            self._process.wait()
        self._give_back()
        self.clean()

    def clean(self) -> None:
        """End what is left of this server's children anywhere, and remove its files. Blocks."""
        with self._cleaning:  # whoever comes second waits for the first, which may be cancelled
            for _ in range(20):  # one generation may start the next meanwhile
                left = family.processes_with(self._marker.encode()) if self._is_orphaned() else []
                if not left:
                    break
                family.kill_all(left)
            self.group.remove()
            self._folder.remove()

    @property
    def _is_serving(self) -> bool:
        """Whether the import is over and went well."""
        loaded = self._loaded
        return loaded.done() and not loaded.cancelled() and loaded.exception() is None

    def _is_orphaned(self) -> bool:
        """Tell whether the zygote ended without its last sweep: it exits with 0 after that."""
        return self._process is not None and self._process.returncode != 0

    def _launch(self, stacks: int) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.settimeout(0)
        self._control = near
        self._pipes = [
            OutputPipe(self._loop, self, stream, is_socket=False) for stream in ("stdout", "stderr")
        ]
        root = str(Path(sandboxq.__file__).parent.parent)
        arguments = [str(far.fileno()), str(stacks), root]
        with far:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-u", "-c", _PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._pipes[0].far_fileno(),
                stderr=self._pipes[1].far_fileno(),
                pass_fds=[far.fileno(), stacks],
                env=self._environment(),
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        for pipe in self._pipes:
            pipe.close_far()
        self._loop.add_reader(self._pidfd, self._on_end)
        self._loop.add_reader(near.fileno(), self._on_control)
        if self._order.policy.name != "none":
            self._folder.make(is_passable=self._order.policy.user is not None)
        self._send(self._load_order(), [])

    def _load_order(self) -> dict[str, Any]:
        return {
            "processor": self._order.processor,
            "queue": self._order.queue_name,
            "concurrency": self._order.concurrency,
            "preload": self._order.is_preloading,
            "max_result": self._order.max_result,
            "budgets": self._order.budgets,
            "is_tidied": not self._order.policy.fresh,
            "may_leave_processes": self._order.policy.leave_processes
            or not self._order.policy.may_fork,
            "path": sys.path,
            "scratch": self.scratch,
            "groups": self.group.limit_files,
        }

    def _environment(self) -> dict[str, str]:
        policy = self._order.policy
        environment = environment_for(policy.name, policy.environment, os.environ)
        warn_of_withheld(policy.name, policy.environment, os.environ)
        for name in THREAD_VARIABLES:
            environment.setdefault(name, str(self._order.threads))
        name, _, value = self._marker.partition("=")
        environment[name] = value
        environment[REDIS_WITHHELD] = "1"
        return environment

    def _send(self, order: dict[str, Any], fds: list[int]) -> None:
        parcel = parcel_of(order, fds)
        self._outbox.append(parcel)
        if len(self._outbox) == 1:
            self._flush()
        if self._outbox and self._outbox[-1] is parcel:
            self._outbox[-1] = parcel.kept()

    def _flush(self) -> None:
        if self._control is None:
            return
        while self._outbox:
            try:
                self._outbox[0].send(self._control)
            except BlockingIOError:
                self._loop.add_writer(self._control.fileno(), self._flush)
                return
            except OSError:
                self._drop_orders()  # it is gone; its pidfd says so
                return
            self._outbox.popleft().close()
        self._loop.remove_writer(self._control.fileno())

    def _drop_orders(self) -> None:
        while self._outbox:
            self._outbox.popleft().close()

    def _on_control(self) -> None:
        while self._control is not None:
            try:
                raw, fds, _, _ = socket.recv_fds(self._control, PACKET, 1)
            except BlockingIOError:
                return
            except ConnectionError:
                raw, fds = b"", []
            if not raw:
                self._loop.remove_reader(self._control.fileno())
                return
            try:
                self._obey(json.loads(raw), fds)
            except (ValueError, KeyError, IndexError, TypeError):
                # Its code is the processor's too: one that writes to whatever is open, say.
                _log.exception("the fork server %d sent what is no message", self.pid)

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        match message["op"]:
            case "forked":
                group = child_group(self.group.limit_files, str(message["group"]))
                if group.files:
                    self._child_groups[message["pid"]] = group
                self._owner.on_forked(message["number"], message["pid"], fds[0])
            case "exit":
                self._child_groups.pop(message["pid"], None)
                self._owner.on_exit(message["pid"], self._death(message))
            case "fork-failed":
                reason = f"the kernel refused to fork: {message['reason']}"
                self._owner.on_fork_failed(message["number"], reason)
            case "loaded":
                loaded = Loaded(message["threads"], message["is_async"], message["import_ms"])
                self._loaded.set_result(loaded)
            case "refused":
                text = "\n".join(filter(None, (message["reason"], message["trace"].rstrip())))
                self._loaded.set_exception(ProcessorNotLoaded(text))

    def _death(self, message: dict[str, Any]) -> Death:
        own = message["memory_limit"]
        of_all = self.group.limits.get("memory", 0)
        return Death(
            message["status"],
            message["max_rss"],
            message["user"],
            message["system"],
            memory_limit=0 if own is None else own or of_all,
            is_limit_of_all=own == 0,
        )

    def _on_end(self) -> None:
        assert self._process is not None  # noqa: S101 - it was watched
        self._on_control()  # what it said last comes first
        self._loop.remove_reader(self._pidfd)
        code = self._process.wait()
        status = (
            f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        )
        for pipe in self._pipes:
            pipe.drain()
        was_serving = self._is_serving
        if not self._loaded.done():
            text = f"importing {self._order.processor} ended the process: it {status}"
            self._loaded.set_exception(ProcessorNotLoaded(text))
        self._gone.set_result(None)
        if was_serving and not self._is_closing:  # else ``start`` tells
            self._owner.on_server_gone(self, status)

    async def _hang(self, stacks: int, timeout: float) -> ProcessorNotLoaded:
        """Have the zygote write where its import hangs, and return that as an error."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, STACKS_SIGNAL)
        text, deadline = "", self._loop.time() + _STACKS_SECONDS
        while self._loop.time() < deadline:
            await asyncio.sleep(0.02)
            before, text = text, os.pread(stacks, 1 << 16, 0).decode("utf-8", "replace")
            if text and text == before:
                break
        head = f"importing {self._order.processor} did not end within {timeout:g} s; it hangs here"
        return ProcessorNotLoaded("\n".join([f"{head} (innermost first):", *_user_lines(text)]))

    def _give_back(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._loaded.done() and not self._loaded.cancelled():
            self._loaded.exception()  # it may be that nobody waits for it any more

    def on_text(self) -> None:
        """Do nothing: whose text it is is known."""

    def wants_lines(self) -> bool:
        """Take every line: imports print little, and are over soon."""
        return True

    def on_piped_lines(self, stream: str, lines: list[bytes]) -> None:
        """Take lines that the import printed."""
        for line in lines:
            self._owner.on_server_line(self.pid, stream, line.decode("utf-8", "replace"))


def _user_lines(stacks: str) -> list[str]:
    ours = str(Path(sandboxq.__file__).parent)
    lines = [line for line in stacks.splitlines() if line.startswith("  File ")]
    return [line for line in lines if ours not in line and "<frozen importlib" not in line]
