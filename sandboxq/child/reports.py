"""What jobs report, within their budget: rows above it are counted and dropped, and that is said.

New data above it is refused, as it would be missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.child.frames import DATA, LOG, MESSAGE_LIMIT
from sandboxq.errors import ResultTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.link import Link


class Reports:
    """Sends the reports of all jobs of one child."""

    __slots__ = ("_link", "runs", "said")

    def __init__(self, link: Link) -> None:
        """Send over ``link``, within its budgets."""
        self._link = link
        self.runs: Callable[[int], bool] = bool  # which calls run: Capture knows
        self.said: dict[int, list[int]] = {}  # by call: reports, their bytes, those dropped

    def send(self, kind: int, seq: int, payload: bytes) -> None:
        """Send progress, a row or new data, unless the job has said too much, or is over.

        Raises:
            ResultTooLarge: it is longer than a message may be, or new data above the budget.
        """
        size = len(payload)
        if size > MESSAGE_LIMIT:
            message = f"{size} bytes are more than the {MESSAGE_LIMIT} that a message may have"
            raise ResultTooLarge(message)
        if not self.runs(seq):
            return  # a thread that the job has left
        budgets = self._link.budgets
        said = self.said.setdefault(seq, [0, 0, 0])
        if said[0] >= budgets.reports or said[1] + size > budgets.report_bytes:
            said[2] += 1
            if kind == DATA:
                raise ResultTooLarge(self._refusal(said, size))
            return
        said[0] += 1
        said[1] += size
        if kind == LOG:
            self._link.logged.add(seq)
        self._link.send(kind, seq, payload)

    def _refusal(self, said: list[int], size: int) -> str:
        budgets = self._link.budgets
        return (
            f"the job's reports may be {budgets.reports} with {budgets.report_bytes} bytes "
            f"together; there were {said[0]} with {said[1]}, and this has {size}: report "
            "less, or raise max_reports and max_report_bytes of the worker"
        )

    def end(self, seq: int) -> None:
        """Forget a job, and say in its log how much was dropped."""
        _, _, dropped = self.said.pop(seq, (0, 0, 0))
        if dropped:
            budgets = self._link.budgets
            row = (
                f"… {dropped} more reports of this job were dropped: it may make {budgets.reports} "
                f"with {budgets.report_bytes} bytes together (max_reports, max_report_bytes)"
            )
            self._link.send(LOG, seq, row.encode())
