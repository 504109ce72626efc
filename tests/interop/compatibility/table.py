"""docs/reference/compatibility.md, from what the probes found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.interop.compatibility.rows import ROWS
from tests.interop.compatibility.verdict import FAILS, WORKS, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    Column = Mapping[str, Verdict]

OPENING = """\
# What is compatible

Each cell comes from a probe: a small program that did the thing on a real server and looked at
what came of it. {works} it worked, partial or {fails} it did not, with what was seen. Written by
`python -m tests.interop.compatibility` on {date}; do not edit.

sandboxq works on the same keys as BullMQ for Node: either may add, run, read and change what the
other has made. That is shown by the tests under `tests/interop/`, which run with both versions."""
OURS = "sandboxq"


def rendered(columns: Mapping[str, Column], date: str) -> str:
    """Return the page; ``columns`` by the peers' titles, sandboxq's under ``OURS``."""
    parts = [OPENING.format(works=WORKS, fails=FAILS, date=date)]
    for section, rows in ROWS.items():
        parts += ["", f"## {section}", "", _line([section, *columns])]
        parts += [_line(["---", *(":-:" for _ in columns)])]
        parts += [
            _line([text, *(_cell(column.get(name)) for column in columns.values())])
            for name, text in rows.items()
        ]
    return "\n".join(parts) + "\n"


def our_marks(page: str) -> dict[str, str]:
    """Return the marks of sandboxq's column of a page, by the rows' texts."""
    marks: dict[str, str] = {}
    place = 0
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if OURS in cells:
            place = cells.index(OURS)
        elif cells and cells[0] != "---":
            marks[cells[0]] = cells[place][:1]
    return marks


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not asked"
    note = verdict.note.replace("|", "/")
    return f"{verdict.mark} {note}".strip()


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
