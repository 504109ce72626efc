"""What a campaign has tried, and what it knows of it: two files of lines, read when all is over.

producers:  T u kind time · A u job-id time (acknowledged) · U u error (unknown: it may be there) ·
            N u (an error says that it was not sent)
processor:  S u job-id attempts-started time · R u job-id (raised) · E u job-id time (ended)

``u`` names what was to be added once; it is in the job's data, so it outlives job ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Entry:
    """What became of one add, as far as producers and processors have seen."""

    kind: str = ""
    tried_at: float = 0.0
    job_id: str = ""  # once acknowledged
    acknowledged_at: float = 0.0
    is_unknown: bool = False
    was_sent: bool = True
    starts: list[float] = field(default_factory=list)
    raised: int = 0
    ends: list[float] = field(default_factory=list)


class Ledger:
    """All entries by ``u``."""

    def __init__(self, adds: Path, runs: Path) -> None:
        """Read both files, as far as they are there."""
        self.entries: dict[str, Entry] = {}
        self.bad_lines = 0
        for path in (adds, runs):
            if path.exists():
                for line in path.read_text(errors="replace").splitlines():
                    self._read(line.split(" "))

    def __getitem__(self, u: str) -> Entry:
        """Return an entry; what no producer has named is made anew, as jobs of schedulers are."""
        return self.entries.setdefault(u, Entry(kind=u.partition("-")[0]))

    @property
    def acknowledged(self) -> dict[str, Entry]:
        """Those that a producer was told are there."""
        return {u: entry for u, entry in self.entries.items() if entry.job_id}

    @property
    def unknown(self) -> int:
        """How many adds ended with an error: each may be there or not."""
        return sum(entry.is_unknown for entry in self.entries.values())

    def _read(self, words: list[str]) -> None:
        match words:
            case ["T", u, kind, at]:
                self[u].kind, self[u].tried_at = kind, float(at)
            case ["A", u, job_id, at]:
                self[u].job_id, self[u].acknowledged_at = job_id, float(at)
            case ["U", u, *_]:
                self[u].is_unknown = True
            case ["N", u]:
                self[u].was_sent = False
            case ["S", u, _, _, at]:
                self[u].starts.append(float(at))
            case ["R", u, _]:
                self[u].raised += 1
            case ["E", u, _, at]:
                self[u].ends.append(float(at))
            case _:
                self.bad_lines += 1


def proofs(u: str) -> tuple[str, str]:
    """Return what only a run of this job can have returned: of processor.py, of node_side.mjs."""
    ours = hashlib.blake2b(u.encode(), digest_size=4).hexdigest()
    return ours, "node-" + hashlib.md5(u.encode(), usedforsecurity=False).hexdigest()[:8]
