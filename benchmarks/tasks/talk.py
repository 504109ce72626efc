"""Print as many lines as the job asks for."""

from __future__ import annotations

from typing import Any


def process(job: Any) -> None:
    """Print them, as most programs do: one call of print() each."""
    for number in range(job.data["lines"]):
        print(f"line {number} of a job that says what it does")
