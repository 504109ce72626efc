"""Makes any text safe to print: control characters, and what cannot be shown, are escaped.

Job names, data, printed lines and failure reasons are not trusted. A control sequence in one of
them could clear the screen, forge a line of the log or reverse its text.
"""

from __future__ import annotations

import re

# C0 without tab and newline, DEL, C1, the bidirectional marks, overrides and isolates, the line and
# paragraph separators, lone surrogates (which have no UTF-8), the byte order mark.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_LAST_OF_TWO_DIGITS = 0xFF


def printable(text: str) -> str:
    r"""Return the text with unsafe characters as ``\x1b`` or ``\u202e``; tabs and newlines stay."""
    # str.isprintable is a scan in C: most lines cost 50 ns.
    return text if text.isprintable() else _UNSAFE.sub(_escaped, text)


def printable_line(text: str) -> str:
    r"""Return the text as one line: ``printable``, and newlines and tabs are escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def with_frames(trace: str) -> str:
    """Return a trace; '' when it is one line, and so only repeats what was raised."""
    return trace if "\n" in trace.strip() else ""


def printable_json(text: str) -> str:
    """Return a JSON document with unsafe characters in its strings as JSON escapes.

    It stays the same document: ``json.dumps`` has escaped C0 already, and the others stand in
    strings alone.
    """
    return text if text.isprintable() else _UNSAFE.sub(_json_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= _LAST_OF_TWO_DIGITS else f"\\u{code:04x}"


def _json_escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
