"""The zygote: imports the processor once, then forks children on request.

    coordinator ══ control (SEQPACKET, JSON and descriptors) ══ zygote ──fork──► children
                                                                  ▲  SIGCHLD       │
                                                                  └────────────────┘
    load       ─► loaded | refused        spawn + 8 descriptors ─► forked + pidfd
    sweep      ─► (ends what is not, or no longer, below a child)
    (a child ends)      ─► exit            end of file            ─► kill everything, leave

It has one thread, and so may fork at any time: it does so in advance, and most children were a
spare before (forking.py). A child adopts the orphans of what it starts; when the child has ended,
the zygote adopts them (PR_SET_CHILD_SUBREAPER) and ends them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from sandboxq.child import (
    life,
    loader,
    loop,
    process_state,
    random_state,
    stacks,
)
from sandboxq.child.activity_page import ActivityPage
from sandboxq.child.arena import ChildArena
from sandboxq.child.cancels import Cancels
from sandboxq.child.link import Link
from sandboxq.child.practice import practise
from sandboxq.child.setup import be_born, take_place
from sandboxq.pool.children import forking
from sandboxq.pool.children.forking import Spare, Sweeper, open_pair, order_for_spare
from sandboxq.pool.children.orders import PACKET, decode_order
from sandboxq.sandbox import plan, processes, scratch
from sandboxq.sandbox.mechanisms import cgroup, process
from sandboxq.sandbox.mechanisms.cgroup import child_group, new_child_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.sandbox.mechanisms.cgroup import ChildGroup

# Exit code after an import that failed: what the import has started may still run.
REFUSED = 3
# A trace longer than this does not fit a control packet.
_TRACE_LIMIT = 16 * 1024
# Each kill re-parents the next generation to us: long enough for any depth.
_LAST_SWEEP_SECONDS = 5.0
_DESCRIPTORS_OF_A_CHILD = 10  # the order may be one


def main(control_fd: int, stacks_fd: int) -> None:
    """Serve the coordinator at the other end of ``control_fd`` until it is gone."""
    process.die_with_parent()  # while importing nobody watches the control socket
    process.adopt_orphans()
    process.hide_memory()
    stacks.listen(stacks_fd)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=control_fd)
    request, fds, _, _ = socket.recv_fds(control, PACKET, 1)
    if not request:
        return
    order, _ = decode_order(request, fds)
    for fd in fds:
        os.close(fd)
    cgroup.enter(list(order["groups"]))
    sys.path[:] = order["path"]
    processor = _load(control, order)
    stacks.stop_listening()
    os.close(stacks_fd)
    process.outlive_parent()
    _Zygote(control, processor, order).serve()


def _load(control: socket.socket, order: dict[str, Any]) -> loader.Processor | None:
    """Import the processor, unless children must do it themselves, and say how that went."""
    if not order["preload"]:
        _tell(control, {"op": "loaded", "threads": 1, "is_async": None, "import_ms": 0})
        return None
    started = time.perf_counter()
    try:
        processor = loader.load_processor(order["processor"], order["queue"])
    except loader.LoadFailed as error:
        _tell(control, _refusal(error))
        os._exit(REFUSED)
    if processor.is_async:
        from sandboxq.child import async_loop as _  # noqa: F401, PLC0415 - for the children to inherit
    loaded = {
        "op": "loaded",
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208 - pathlib is not worth its import
        "is_async": processor.is_async,
        "import_ms": int((time.perf_counter() - started) * 1000),
    }
    _tell(control, loaded)
    return processor


def _refusal(error: loader.LoadFailed) -> dict[str, Any]:
    """Return why an import failed, as much of it as fits a packet however it is escaped."""
    limit = _TRACE_LIMIT
    while True:
        told = {"op": "refused", "reason": error.reason[-limit:], "trace": error.trace[-limit:]}
        if len(json.dumps(told)) <= PACKET:
            return told
        limit //= 2


class _Zygote:
    """Forks, reaps and sweeps."""

    def __init__(
        self, control: socket.socket, processor: loader.Processor | None, order: dict[str, Any]
    ) -> None:
        self._control = control
        self._processor = processor
        self._order = order
        self._children: dict[int, tuple[ChildGroup, str]] = {}  # by process: groups, and folder
        self._sweeper = Sweeper()
        self._spare: Spare | None = None
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Answer requests until the coordinator is gone."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _do_nothing)  # the coordinator alone ends us
        signal.signal(signal.SIGCHLD, _do_nothing)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        random_state.note_generators()
        if self._processor is not None:
            process_state.remember()
        forking.settle_memory(_practise)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._wake_r in ready:
                self._drain_wakeups()
                self._reap()
            if self._control.fileno() in ready:
                self._obey()

    def _obey(self) -> None:
        try:
            raw, fds, _, _ = socket.recv_fds(self._control, PACKET, _DESCRIPTORS_OF_A_CHILD)
        except ConnectionError:
            raw, fds = b"", []
        if not raw:
            self._leave()
        order, own = decode_order(raw, fds)
        if order["op"] == "sweep":
            self._sweep()
        else:
            self._spawn(raw, order, fds, len(own))

    def _spawn(self, raw: bytes, order: dict[str, Any], fds: list[int], count: int) -> None:
        """Make a child for this order, and tell; then fork a spare for the next.

        The first ``count`` descriptors are for the child, the rest is part of the order.
        """
        spare, self._spare = self._spare, None
        try:
            if spare is not None and spare.give(raw, fds):
                pid, group = spare.pid, spare.group
            else:
                if spare is not None:
                    self._sweeper.add(spare.group)
                pid, group = self._fork(order, fds[:count], fds[count:])
        except OSError as error:
            self._say({"op": "fork-failed", "number": order["number"], "reason": str(error)})
            return
        finally:
            for fd in fds:
                os.close(fd)
        self._children[pid] = group, order["scratch"]
        pidfd = os.pidfd_open(pid)  # nobody else can reap it, so this is the right process
        text = {"op": "forked", "number": order["number"], "pid": pid, "group": group.name}
        try:
            socket.send_fds(self._control, [json.dumps(text).encode()], [pidfd])
        except OSError:
            self._leave()
        os.close(pidfd)
        if self._processor is not None:  # else each child has sources of its own to see
            with contextlib.suppress(OSError):  # the kernel refuses: the next order will hear it
                self._fork_ahead(order["steps"], order["limits"])

    def _fork(
        self, order: dict[str, Any], fds: list[int], beside: Sequence[int]
    ) -> tuple[int, ChildGroup]:
        """Fork a child that has its order; it closes the memory beside that. Raises: OSError."""
        _flush()
        parent = os.getpid()
        if self._processor is not None:
            plan.prepare(order["steps"])
        group = new_child_group(self._order["groups"])
        pid = os.fork()
        if pid == 0:
            for fd in beside:
                os.close(fd)
            self._be_child(lambda: (order, fds), parent, group, order["limits"])
        plan.give_away()
        return pid, group

    def _fork_ahead(self, steps: Sequence[Sequence[Any]], limits: dict[str, int]) -> None:
        """Fork the next spare, for an order with such steps and limits. Raises: OSError."""
        _flush()
        parent = os.getpid()
        plan.prepare(steps)
        group = new_child_group(self._order["groups"])
        near, far = open_pair()
        with far:
            try:
                pid = os.fork()
            except OSError:
                near.close()
                raise
            if pid == 0:
                near.close()
                self._be_child(
                    lambda: order_for_spare(far, steps, _DESCRIPTORS_OF_A_CHILD),
                    parent,
                    group,
                    limits,
                )
        plan.give_away()
        self._spare = Spare(pid, near, group)

    def _be_child(
        self,
        next_order: Callable[[], tuple[dict[str, Any], list[int]]],
        parent: int,
        group: ChildGroup,
        limits: dict[str, int],
    ) -> None:
        """Live a child's life, from its order on; never returns."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._control.close()
            be_born(parent)
            group.enter()
            group.limit(limits)
            faulthandler.enable(file=2)
            order, fds = next_order()
            if order["limits"] != limits:
                group.limit(order["limits"])
            sock, stdout, stderr, memory, cancels, answers, arena, page, *tokens = fds
            take_place(stdout=stdout, stderr=stderr)
            mark = ActivityPage(memory)
            os.close(memory)
            sockets = _packets(sock), _packets(answers)
            link = Link(sockets[0], mark, Cancels(cancels), sockets[1], ChildArena(arena))
            link.tokens = tokens[0] if tokens else -1
            stacks.listen(page)
            link.page = page
            self._run_child(link, order)
            code = 0
        except BaseException:  # noqa: BLE001 - a child never returns into the zygote's loop
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _run_child(self, link: Link, order: dict[str, Any]) -> None:
        try:
            if self._processor is None:
                loader.see_sources(self._order["processor"])  # or the policy would hide them
            plan.follow(order["steps"])
            processor = self._processor or loader.load_alone(
                self._order["processor"], self._order["queue"]
            )
        except BaseException as error:  # noqa: BLE001 - whatever it is, the coordinator hears it
            loop.report_failed_start(link, "starting a child", error)
            return
        settings = loop.Settings(
            self._order["queue"],
            self._order["concurrency"],
            order["memory"],
            self._order["max_result"],
            order["policy"],
            budgets=self._order["budgets"],
            scratch=order["scratch"],
            is_tidied=self._order["is_tidied"],
            may_leave_processes=self._order["may_leave_processes"],
        )
        life.live(link, processor, settings)

    def _drain_wakeups(self) -> None:
        try:
            os.read(self._wake_r, 4096)
        except BlockingIOError:
            return

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            self._reap_one(ended.si_pid)

    def _reap_one(self, pid: int) -> None:
        """End the group of a dead process, reap it, tell, and end what it has left."""
        is_child = pid in self._children
        if is_child:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # before the reaping that frees the number
        _, status, usage = os.wait4(pid, 0)
        if not is_child:
            self._sweeper.forget(pid)
            if self._spare is not None and self._spare.pid == pid:
                self._spare.socket.close()
                self._sweeper.add(self._spare.group)
                self._spare = None  # the next order is followed by another
            self._sweep()  # what it had started is ours now
            return
        group, folder = self._children.pop(pid)
        is_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        self._say(
            {
                "op": "exit",
                "pid": pid,
                "status": status,
                "max_rss": usage.ru_maxrss * 1024,
                "user": usage.ru_utime,
                "system": usage.ru_stime,
                "memory_limit": group.memory_limit_met() if is_killed else None,
            }
        )
        self._sweeper.add(group, folder)
        self._sweep()

    def _sweep(self) -> None:
        spare = () if self._spare is None else (self._spare.pid,)
        self._sweeper.sweep({*self._children, *spare})

    def _say(self, message: dict[str, Any]) -> None:
        try:
            _tell(self._control, message)
        except OSError:
            self._leave()

    def _leave(self) -> None:
        """Kill everything below this process, remove its files, and exit."""
        deadline = time.monotonic() + _LAST_SWEEP_SECONDS
        while time.monotonic() < deadline:
            processes.kill_all(processes.descendants_of(os.getpid()))
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(0.001)
        if self._order["scratch"]:
            scratch.remove_scratch(self._order["scratch"])
        cgroup.leave(list(self._order["groups"]))
        os._exit(0)


def _practise() -> None:
    """Do what children do, before the first one is forked: see child/practice.py."""
    nowhere = child_group({os.devnull: {"memory": "none"}}, "none")
    nowhere.enter()
    nowhere.limit({"memory": 1})
    practise()


def _flush() -> None:
    """Empty the streams before a fork, or each child would print it again."""
    sys.stdout.flush()
    sys.stderr.flush()


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    control.send(json.dumps(message).encode())


def _packets(fd: int) -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)


def _do_nothing(number: int, frame: object) -> None:
    """Only wake the poll."""


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
