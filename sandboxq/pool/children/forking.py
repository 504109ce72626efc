"""What a zygote does around its forks: memory before, a spare in advance, removal afterwards.

Memory: a page is copied when a child first writes to it. Objects of a child shall be in few pages,
and the collector shall not touch the pages of the zygote's objects.

Spare: a process that the zygote has forked in advance, and that waits for its order.

    coordinator ══ order, descriptors ══► zygote ══ the same, passed on ══► spare: becomes the child
                                            └──fork──► the next spare

The part that all starts have in common is done in advance: the fork, leaving the zygote's session
and handlers, and the copies of the pages that a start writes to.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
import sysconfig
from contextlib import suppress
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sandboxq.child.practice import rehearse
from sandboxq.pool.children.orders import PACKET, decode_order
from sandboxq.sandbox import plan, processes, scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from sandboxq.sandbox.mechanisms.cgroup import ChildGroup

# glibc gives large blocks back to the kernel, to fault them in again for the next job, until it has
# seen one of that size come and go (mallopt(3), M_MMAP_THRESHOLD). Freed once here, a block like
# this, whose pages nobody touches, lets children keep up to twice as much of what jobs have freed.
_FAMILIAR_SIZE = 16 << 20
# CPython keeps small objects in pools, each for one size (Objects/obmalloc.c, up to 3.12 on every
# build): where pools begin, behind what, and which sizes there are.
_POOL, _POOL_HEADER = 16 << 10, 48
_SIZES = range(48, 513, 16)
_OF_BYTES = bytes.__basicsize__
# So many blocks in a row, from the beginning of a pool, mean a new pool.
_ROW = 5
_PRACTICES = 10  # the eighth call of a function is the first to be noted
_MOST = 5000  # of one size: with other allocators no row is ever found, and nothing is kept

_in_gaps: list[bytes] = []


def settle_memory(practise: Callable[[], object]) -> None:
    """Gather code, collect garbage, fill gaps in pools, and freeze all objects.

    ``practise`` does what children do; it is called until CPython has noted what it finds there.
    """
    practise()  # makes what is made once
    if sys.version_info < (3, 13):  # later ones call a function whose code was replaced slowly
        with suppress(Exception):  # an audit hook of the processor's module may refuse
            _gather(_code_of(practise))
    for _ in range(_PRACTICES):
        practise()
    gc.collect()
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # that build has another allocator
        for size in _SIZES:
            _fill_gaps(size)
    bytearray(_FAMILIAR_SIZE)  # makes glibc sort what was freed, too
    gc.disable()
    gc.freeze()


def _code_of(run: Callable[[], object]) -> dict[int, CodeType]:
    """Return the code of all functions that are called while this is run, by their addresses."""
    found: dict[int, CodeType] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found[id(frame.f_code)] = frame.f_code

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


def _gather(wanted: dict[int, CodeType]) -> None:
    """Put this code side by side: a call counts references to code, which is a write to its page.

    Where it was loaded, module by module, few functions that a child calls share a page: 84 pages
    for 52 KB.
    """
    copies: dict[int, CodeType] = {}
    for each in gc.get_objects():
        if type(each) is FunctionType and id(each.__code__) in wanted:
            each.__code__ = _copy_of(each.__code__, wanted, copies)


def _copy_of(code: CodeType, wanted: dict[int, CodeType], copies: dict[int, CodeType]) -> CodeType:
    """Return a copy, the same for all functions that share the code, with copies of inner ones."""
    if id(code) not in copies:
        inner = [
            _copy_of(each, wanted, copies) if id(each) in wanted else each
            for each in code.co_consts
        ]
        copies[id(code)] = code.replace(co_consts=tuple(inner))
    return copies[id(code)]


def _fill_gaps(size: int) -> None:
    """Fill pools that are half full, so that objects of children go to new ones.

    That is one page for many objects, where it would be two for each pool. Some 300 KB in all.
    """
    before = len(_in_gaps)
    row = last = 0
    for _ in range(_MOST):
        block = bytes(size - _OF_BYTES)
        _in_gaps.append(block)
        at = id(block)
        is_next = row and at == last + size
        row = row + 1 if is_next else at % _POOL == _POOL_HEADER
        last = at
        if row == _ROW:
            return
    del _in_gaps[before:]


class Spare(NamedTuple):
    """The zygote's side of a spare."""

    pid: int
    socket: socket.socket
    group: ChildGroup

    def give(self, raw: bytes, fds: Sequence[int]) -> bool:
        """Pass an order on; False when the process has ended before."""
        with self.socket:
            try:
                if has_ended(self.pid):
                    return False
                socket.send_fds(self.socket, [raw], fds)
            except OSError:
                return False  # it is ending
            return True


def has_ended(pid: int) -> bool:
    """Tell whether a child of this process waits to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Return the zygote's end and the spare's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def order_for_spare(
    far: socket.socket, steps: Sequence[Sequence[Any]], most: int
) -> tuple[dict[str, Any], list[int]]:
    """Prepare, wait, and return an order and its descriptors, ``most`` at most; in the spare."""
    if not _has_come(far):  # where starts follow each other it has: somebody waits already
        rehearse()
        plan.prepare(steps)
    raw, received = wait_for_order(far, PACKET, most)
    order, fds = decode_order(raw, received)
    for fd in received[len(fds) :]:
        os.close(fd)
    plan.prepare(order["steps"])  # files may have been replaced since
    return order, fds


def wait_for_order(far: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Return an order of at most ``size`` bytes and ``most`` descriptors, once it is there."""
    with far:
        raw, fds, _, _ = socket.recv_fds(far, size, most)
    if not raw:
        _leave()
    return raw, fds


def _has_come(far: socket.socket) -> bool:
    poll = select.poll()
    poll.register(far, select.POLLIN)
    return bool(poll.poll(0))


def _leave() -> NoReturn:
    """End this spare, which gets no order."""
    os._exit(0)


class Sweeper:
    """Removes what dead children have left: processes, control groups, files."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._groups: list[ChildGroup] = []  # of dead children, until they are empty
        self._folders: list[str] = []  # of dead children, until a process removes them
        self._removers: set[int] = set()  # such processes

    def add(self, group: ChildGroup, folder: str = "") -> None:
        """Note the groups of a dead child, and its folder if it had one."""
        self._groups.append(group)
        if folder:
            self._folders.append(folder)

    def forget(self, pid: int) -> None:
        """Note that a process was reaped that is no child."""
        self._removers.discard(pid)

    def sweep(self, ours: Container[int]) -> None:
        """End what is below this process and not ``ours``; each death calls for the next sweep."""
        self._groups = [group for group in self._groups if not group.end()]
        for pid in processes.children_of(os.getpid()):
            if pid not in ours and pid not in self._removers:
                processes.kill_all([pid, *processes.descendants_of(pid)])
        if self._folders:
            self._remove_folders()

    def _remove_folders(self) -> None:
        """Remove files in a process of its own: there may be very many."""
        try:
            pid = os.fork()
        except OSError:
            return  # the fork failed: at the next sweep
        if pid:
            self._removers.add(pid)
            self._folders = []
            return
        try:
            for folder in self._folders:
                scratch.remove_scratch(folder)
        finally:
            os._exit(0)
