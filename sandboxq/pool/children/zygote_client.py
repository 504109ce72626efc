"""The coordinator's side of one zygote (``zygote.py``): starts it, asks it for children."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import sandboxq
from sandboxq.child.stacks import STACKS_SIGNAL
from sandboxq.errors import ProcessorNotLoaded
from sandboxq.model.job_limits import REDIS_WITHHELD
from sandboxq.pool.children.orders import PACKET
from sandboxq.pool.children.outbox import Outbox
from sandboxq.pool.children.scratch_folder import ScratchFolder
from sandboxq.pool.options import limits_of_all, limits_of_one
from sandboxq.pool.outcomes import Death
from sandboxq.pool.transport.output import OutputPipe
from sandboxq.sandbox import processes
from sandboxq.sandbox.environment import THREAD_VARIABLES, environment_for, warn_of_withheld
from sandboxq.sandbox.mechanisms.cgroup import ChildGroup, Group, child_group
from sandboxq.sandbox.support import usable_memory

if TYPE_CHECKING:
    from sandboxq.pool.options import PoolOptions
    from sandboxq.sandbox.plan import Plan

_log = logging.getLogger("sandboxq.pool")

_POOL_VARIABLE = "SANDBOXQ_POOL"
# The -P keeps a json.py in the working directory from being imported in place of the real one.
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[3]); from sandboxq.pool.children.zygote import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
# How long the stacks of a hanging import may take to be written.
_STACKS_SECONDS = 1.0
_LEAVE_SECONDS = 6.0


class Loaded(NamedTuple):
    """What came of the import: OS threads afterwards, ``async def`` or not (None: not imported)."""

    threads: int
    is_async: bool | None
    import_ms: int


class ServerOwner(Protocol):
    """Hears a zygote."""

    def on_forked(self, number: int, pid: int, pidfd: int) -> None:
        """Take the process that was asked for under ``number``; the pidfd is the owner's now."""

    def on_fork_failed(self, number: int, reason: str) -> None:
        """Hear that the kernel refused."""

    def on_exit(self, pid: int, death: Death) -> None:
        """Hear that a child was reaped."""

    def on_server_gone(self, server: ZygoteClient, status: str) -> None:
        """Hear that the zygote ended although it was not asked to."""

    def on_server_line(self, pid: int, stream: str, line: str) -> None:
        """Take a line that was printed while the processor was imported."""


class ZygoteClient:
    """One zygote process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: ServerOwner,
        terms: PoolOptions,
        *,
        threads: int,
        is_preloading: bool,
    ) -> None:
        """Prepare; ``start`` does it. ``threads`` is the share of libraries that compute in some.

        With ``is_preloading`` it imports the processor, else its children do.
        """
        self._loop = loop
        self._owner = owner
        self._terms = terms
        self._threads = threads
        self._is_preloading = is_preloading
        self._marker = f"{_POOL_VARIABLE}={secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._outbox: Outbox | None = None
        self._pidfd = -1
        self._pipes: list[OutputPipe] = []
        self._loaded: asyncio.Future[Loaded] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._is_closing = False
        self._cleaning = threading.Lock()
        self._usable = usable_memory()
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
        self.group.limit(**limits_of_all(self._terms, children=children, usable=self._usable))

    def spawn(self, number: int, plan: Plan, fds: list[int]) -> None:
        """Ask for a child that follows ``plan`` and gets these descriptors. Raises: OSError."""
        text = {"op": "spawn", "number": number, "steps": plan.steps, "memory": plan.memory}
        text["policy"] = plan.policy
        text["limits"] = limits_of_one(self._terms, plan.memory)
        text["scratch"] = self.scratch_of(number) if plan.policy != "none" else ""
        self._send(text, fds)

    def group_of(self, pid: int) -> ChildGroup | None:
        """Return the control groups where a child's memory is counted, if there are such."""
        return self._child_groups.get(pid)

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
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            self._control = None

    async def close(self) -> None:
        """Shut, and wait until the zygote is gone; what hangs is killed."""
        is_serving = self._is_serving
        tree = processes.descendants_of(self.pid) if self.pid and not is_serving else []
        self.shut()
        if self._process is not None and not self._gone.done():
            if not is_serving:
                self.kill(tree)
            await asyncio.wait([self._gone], timeout=_LEAVE_SECONDS)
            if not self._gone.done():
                self.kill(processes.descendants_of(self.pid))
                await self._gone
        self._give_back()
        await self._loop.run_in_executor(None, self.clean)

    def kill(self, tree: list[int]) -> None:
        """Kill the zygote and these processes below it."""
        self.group.kill()
        processes.kill_all([*tree, self.pid])

    def reap(self) -> None:
        """Wait for the zygote outside the loop, after ``shut``; for ``Pool.kill`` only."""
        if self._process is None:
            return
        try:
            self._process.wait(_LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill(processes.descendants_of(self.pid))
            self._process.wait()
        self._give_back()
        self.clean()

    def clean(self) -> None:
        """End all processes left by this server's children, and remove its files. Blocks."""
        marker = self._marker.encode()
        with self._cleaning:  # whoever comes second waits for the first, which may be cancelled
            for _ in range(20):  # one generation may start the next meanwhile
                left = processes.processes_with(marker) if self._is_orphaned() else []
                if not left:
                    break
                processes.kill_all(left)
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
        self._control, self._outbox = near, Outbox(self._loop, near)
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
        if self._terms.policy.name != "none":
            self._folder.make(is_passable=self._terms.policy.user is not None)
        self._send(self._load_order(), [])

    def _load_order(self) -> dict[str, Any]:
        terms, policy = self._terms, self._terms.policy
        return {
            "processor": terms.processor,
            "queue": terms.queue_name,
            "concurrency": terms.concurrency,
            "preload": self._is_preloading,
            "max_result": terms.max_result,
            "budgets": terms.budgets,
            "is_tidied": not policy.fresh,
            "may_leave_processes": policy.leave_processes or not policy.may_fork,
            "path": sys.path,
            "scratch": self.scratch,
            "groups": self.group.limit_files,
        }

    def _environment(self) -> dict[str, str]:
        policy = self._terms.policy
        environment = environment_for(policy.name, policy.environment, os.environ)
        warn_of_withheld(policy.name, policy.environment, os.environ)
        for name in THREAD_VARIABLES:
            environment.setdefault(name, str(self._threads))
        name, _, value = self._marker.partition("=")
        environment[name] = value
        environment[REDIS_WITHHELD] = "1"
        return environment

    def _send(self, order: dict[str, Any], fds: list[int]) -> None:
        if self._outbox is not None:
            self._outbox.send(order, fds)

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
                _log.exception("the zygote %d sent data that is no message", self.pid)

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
            text = f"importing {self._terms.processor} ended the process: it {status}"
            self._loaded.set_exception(ProcessorNotLoaded(text))
        self._gone.set_result(None)
        if was_serving and not self._is_closing:  # else ``start`` tells
            self._owner.on_server_gone(self, status)

    async def _hang(self, stacks: int, timeout: float) -> ProcessorNotLoaded:
        """Have the zygote write where its import hangs, and return that as an error."""
        if processes.is_caught(self.pid, STACKS_SIGNAL):  # else the signal would end it
            os.kill(self.pid, STACKS_SIGNAL)
        text, deadline = "", self._loop.time() + _STACKS_SECONDS
        while self._loop.time() < deadline:
            await asyncio.sleep(0.02)
            before, text = text, os.pread(stacks, 1 << 16, 0).decode("utf-8", "replace")
            if text and text == before:
                break
        head = f"importing {self._terms.processor} did not end within {timeout:g} s; it hangs here"
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

    def on_piped_lines(self, stream: str, lines: list[bytes]) -> bool:
        """Take lines that the import printed."""
        for line in lines:
            self._owner.on_server_line(self.pid, stream, line.decode("utf-8", "replace"))
        return True


def _user_lines(stacks: str) -> list[str]:
    ours = str(Path(sandboxq.__file__).parent)
    lines = [line for line in stacks.splitlines() if line.startswith("  File ")]
    return [line for line in lines if ours not in line and "<frozen importlib" not in line]
