"""Ends and removes what dead children have left: processes, control groups, files; in zygotes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sandboxq.sandbox import descendants, scratch

if TYPE_CHECKING:
    from collections.abc import Container

    from sandboxq.sandbox.mechanisms.cgroup import ChildGroup


class Sweeper:
    """Remembers what is to be removed until it is gone."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._groups: list[ChildGroup] = []  # of dead children, until they are empty
        self._folders: list[str] = []  # of dead children, until a process removes them
        self._removers: set[int] = set()  # such processes

    def add(self, group: ChildGroup, folder: str = "") -> None:
        """Take note of what a dead child has left: its groups, and its folder if it had one."""
        self._groups.append(group)
        if folder:
            self._folders.append(folder)

    def forget(self, pid: int) -> None:
        """Hear that a process was reaped that is no child."""
        self._removers.discard(pid)

    def sweep(self, ours: Container[int]) -> None:
        """End what is below this process and not ``ours``; each death calls for the next sweep."""
        self._groups = [group for group in self._groups if not group.end()]
        for pid in descendants.children_of(os.getpid()):
            if pid not in ours and pid not in self._removers:
                descendants.kill_all([pid, *descendants.descendants_of(pid)])
        if self._folders:
            self._remove_folders()

    def _remove_folders(self) -> None:
        """Remove files in a process of its own: there may be very many."""
        try:
            pid = os.fork()
        except OSError:
            return  # no process is to be had now: at the next sweep
        if pid:
            self._removers.add(pid)
            self._folders = []
            return
        try:
            for folder in self._folders:
                scratch.remove_scratch(folder)
        finally:
            os._exit(0)
