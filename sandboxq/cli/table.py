"""Rows and columns as text, as wide as they are: for eyes and for `awk`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.payload.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]], left: Collection[str]) -> str:
    """Return the rows below their header; columns that are not in ``left`` stand to the right.

    Text of others is made safe for a terminal.
    """
    texts = [list(header), *([printable_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    align = [str.ljust if name in left else str.rjust for name in header]
    return "\n".join(
        "  ".join(
            put(cell, width) for put, cell, width in zip(align, row, widths, strict=True)
        ).rstrip()
        for row in texts
    )
