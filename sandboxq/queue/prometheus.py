"""A queue's counts in Prometheus' text format, with the names that Node's export uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LABEL_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


def prometheus_text(
    queue: str, counts: Mapping[str, int], totals: Mapping[str, int], labels: Mapping[str, str]
) -> str:
    """Return the counts by state, and how many jobs completed and failed since metrics were on.

    Raises: UsageError for a label name that Prometheus does not know.
    """
    own = {"queue": queue}
    lines = _family("bullmq_job_count", "gauge", "Number of jobs in the queue by state")
    lines += [
        f"bullmq_job_count{_braces({**own, 'state': state}, labels)} {count}"
        for state, count in counts.items()
    ]
    for kind, total in totals.items():
        name = f"bullmq_job_{kind}_total"
        lines += _family(name, "counter", f"Total number of {kind} jobs")
        lines.append(f"{name}{_braces(own, labels)} {total}")
    return "\n".join(lines)


def _family(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _braces(own: Mapping[str, str], labels: Mapping[str, str]) -> str:
    for name in labels:
        if not _LABEL_NAME.fullmatch(name) or name in own:
            message = f"labels must be named in letters, digits and _, and not {name!r}"
            raise UsageError(message)
    pairs = {**own, **labels}.items()
    return "{" + ", ".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _escaped(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
