"""Has children sample jobs, and takes what they have sampled: also of those that die.

    begin ─► mark, PROFILE_SIGNAL ─► child/sampler.py ─┬─ PROFILE, before the job's answer ─► report
                                                       └─ ProfilePage ─► death, time up ────► report

While the main thread of a child runs C code that does not return, it takes no samples: its stack is
then read as `dump` reads it (stacks.py), and used if nothing else comes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from sandboxq.child.profile_page import packed_from_page
from sandboxq.child.sampler import PROFILE_SIGNAL, Wanted, encode_wanted
from sandboxq.pool.profile_table import Asked, Sampling, Stuck, profile_from_packed, samples_in
from sandboxq.pool.stacks import read_main_stack
from sandboxq.sandbox.processes import is_caught, read_file

if TYPE_CHECKING:
    from sandboxq.pool.calls import Call, PoolListener
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.core import PoolCore

# Seconds: how often a sampled child is looked at, after how long without a sample its stack is
# read, and how often at the least then.
_LOOK_SECONDS = 0.05
_STUCK_SECONDS = 0.15
_LONGEST_PAUSE = 0.5
# Seconds after the end of the time: then a child that sends nothing is in C code.
_GRACE = 0.3
# CPU seconds that a child has used without a sample of CPU time, when it is in C code.
_MUCH = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
# In /proc/PID/stat behind the name (man 5 proc).
_UTIME, _STIME = 11, 12
_log = logging.getLogger("sandboxq.pool")
_DEAF = (
    "its process took no samples: the job blocks the signal SIGRTMAX-2, handles it itself, or runs "
    "another program"
)


_NONE = "no sample was taken: the job was too short, or did nothing meanwhile"
_IN_C = (
    "at the end it was in C code that did not return: what that took is estimated from a few looks"
)


class Profiles:
    """The samplings of one pool: one in a child at a time."""

    def __init__(self, pool: PoolCore, listener: PoolListener) -> None:
        """Report profiles to ``listener``, as ``profile``."""
        self._pool = pool
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, call: Call, asked: Asked) -> str:
        """Have a call sampled from now on that a child has; return why not, or nothing."""
        child = self._holder(call)
        if child is None:
            return "it has not begun: no child has it"
        if child.pidfd < 0:
            return "jobs that run in threads cannot be sampled: run them in processes"
        if child.sampling is not None:
            return "its process is being sampled already"
        if not is_caught(child.pid, PROFILE_SIGNAL):
            return "its process has replaced its program, or ignores the signal SIGRTMAX-2"
        child.sampling = sampling = Sampling(
            call, asked, now=self._loop.time(), cpu=cpu_of(child.pid)
        )
        self._number += 1
        wanted = Wanted(call.seq, asked.hz, asked.seconds, asked.is_cpu)
        child.boundary.ask_for_profile()
        child.sample(encode_wanted(wanted, self._number))
        task = self._loop.create_task(self._watch(child, sampling))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return ""

    def is_sampled(self, call: Call) -> bool:
        """Tell whether a call is being sampled."""
        child = self._holder(call)
        return child is not None and child.sampling is not None and child.sampling.call is call

    def stop(self, call: Call) -> None:
        """Sample a call no more, and drop what there is."""
        child = self._holder(call)
        if child is not None and child.sampling is not None and child.sampling.call is call:
            self._forget(child)

    def close(self) -> None:
        """Look at nothing any more."""
        for task in self._tasks:
            task.cancel()

    def take(self, child: Child, seq: int, payload: bytes) -> None:
        """Take what a child tells of a call whose end, or that of the time, has come."""
        sampling = child.sampling
        if sampling is None or sampling.seq != seq:
            return  # it came too late: the page was read meanwhile
        child.sampling = None
        seconds = self._loop.time() - sampling.since
        is_over = 0 < sampling.asked.seconds <= seconds
        self._report(child, sampling, payload, ended="time" if is_over else "end")

    def on_death(self, child: Child) -> None:
        """Take the samples of a child that is dead, before anybody hears of it."""
        sampling = child.sampling
        if sampling is not None and sampling.call is child.flying.get(sampling.seq):
            self._collect(child, sampling, ended="died")

    def _holder(self, call: Call) -> Child | None:
        children = self._pool.supervisor.children
        return next((c for c in children if c.flying.get(call.seq) is call), None)

    async def _watch(self, child: Child, sampling: Sampling) -> None:
        """See to a child that tells nothing by itself."""
        asked, clock = sampling.asked, self._loop.time
        samples, changed, pause = 0, clock(), _LOOK_SECONDS
        while True:
            await asyncio.sleep(pause)
            if child.sampling is not sampling or child.page.fd < 0:
                return
            if child.flying.get(sampling.seq) is not sampling.call:
                self._forget(child)  # it was given to another child
                return
            now = clock()
            if asked.seconds and now > sampling.since + asked.seconds + _GRACE:
                self._collect(child, sampling, ended="time")
                return
            _, latest, _ = samples_in(child.page.profile_head())
            sampling.cpu = cpu_of(child.pid)
            if latest != samples:
                samples, changed, pause = latest, now, _LOOK_SECONDS
                sampling.cpu_before = sampling.cpu
                sampling.stuck.clear()
            elif now > changed + _STUCK_SECONDS and _is_in_c(sampling):
                sampling.stuck[await read_main_stack(child)] += 1
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _forget(self, child: Child) -> None:
        child.sampling = None
        child.sample(0)

    def _collect(self, child: Child, sampling: Sampling, *, ended: str) -> None:
        """Read the page of a child that has not told, and have it stop."""
        packed = packed_from_page(child.page.profile())
        self._forget(child)
        self._report(child, sampling, packed, ended=ended)

    def _report(self, child: Child, sampling: Sampling, packed: bytes, *, ended: str) -> None:
        seq, samples, last = samples_in(packed)
        seconds = self._loop.time() - sampling.since
        stuck = [Stuck(text, count) for text, count in sampling.stuck.items() if text]
        if seq != sampling.seq:
            packed, samples, last = b"", 0, 0
        note = ""
        if stuck:
            note = _IN_C
        elif not samples:
            note = _NONE if seq == sampling.seq else _DEAF
        meta = {
            **sampling.asked.meta,
            "pid": child.pid,
            "seconds": round(seconds, 3),
            "ended": ended,
            "note": note,
        }
        gap = min(seconds, max(0.0, self._loop.time() - last / 1e9)) if stuck else 0.0
        cpu = max(0.0, sampling.cpu - sampling.cpu_before) if stuck else 0.0
        wall_us = 0 if sampling.asked.is_cpu else round(gap * 1e6)
        stored = profile_from_packed(packed, meta, stuck, (wall_us, round(cpu * 1e6)))
        self._listener.on_report(sampling.call, "profile", stored)


def _is_in_c(sampling: Sampling) -> bool:
    """Tell whether no samples come because of C code: by CPU time none come of what waits."""
    return not sampling.asked.is_cpu or sampling.cpu - sampling.cpu_before > _MUCH


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process; 0 when it is gone."""
    fields = read_file(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS if len(fields) > _STIME else 0.0
