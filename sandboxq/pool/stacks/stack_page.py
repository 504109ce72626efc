"""Memory that a child's signal handler writes stacks to, and the coordinator reads them from."""

from __future__ import annotations

import asyncio
import fcntl
import os

# The stacks of a hundred threads; what does not fit is cut off.
_SIZE = 64 * 1024


class StackPage:
    """A memfd of one size; both sides share its position, which says how much was written."""

    __slots__ = ("fd", "turn")

    def __init__(self) -> None:
        """Make it; ``turn`` is held by who reads stacks."""
        self.turn = asyncio.Lock()
        self.fd = os.memfd_create("sandboxq-stacks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, _SIZE)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)

    def restart(self) -> None:
        """Have the next stacks stand where the last ones did."""
        os.lseek(self.fd, 0, os.SEEK_SET)

    def size(self) -> int:
        """Return how many bytes were written since."""
        return min(os.lseek(self.fd, 0, os.SEEK_CUR), _SIZE)

    def text(self) -> str:
        """Return what was written since."""
        return os.pread(self.fd, self.size(), 0).decode("utf-8", "replace")

    def close(self) -> None:
        """Give it back; twice is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
