"""docs/reference/compatibility.md says of sandboxq what its probes find."""

from __future__ import annotations

from pathlib import Path

from tests.interop.compatibility import our_probes
from tests.interop.compatibility.room import found
from tests.interop.compatibility.rows import ROWS
from tests.interop.compatibility.table import our_marks

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "compatibility.md"


async def test_our_column_is_what_the_probes_find(server_url: str) -> None:
    """A table that nobody checks is an advertisement."""
    texts = {name: text for rows in ROWS.values() for name, text in rows.items()}
    seen = await found(our_probes.PROBES, server_url)
    marks = {texts[name]: verdict.mark for name, verdict in seen.items()}

    assert set(seen) == set(texts)
    assert marks == our_marks(PAGE.read_text())
