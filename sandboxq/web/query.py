"""What is searched for: ``name:resize data.user.id:7 state:failed "out of memory"``.

    text ──► Query ──► conditions   what Redis can tell quickly: this field contains this text
                  └──► fits(…)      what is meant, looked at in what is shown: secrets find nothing

All parts must fit, without case. ``*`` stands for anything; ``id``, ``cause`` and ``data.…`` are
compared whole, the others contain the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandboxq.broker.codec import json_value
from sandboxq.broker.commands.peek import NO_PART
from sandboxq.errors import UsageError
from sandboxq.model.validation import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.commands.peek import Row
    from sandboxq.web.redact import Redaction

MOST_TEXT = 500
_MOST_PARTS = 10
_PART = re.compile(r'(?:([A-Za-z][\w.\-]*):)?("[^"]*"|[^\s"]+|")')
# By qualifier, the field of the hash; compared whole or in part.
_WHOLE = {"id": "id", "cause": "sq:cause", "scheduler": "rjk"}
_CONTAINED = {"name": "name", "worker": "pb", "error": "failedReason", "parent": "parentKey"}
_FIELDS = {**_WHOLE, **_CONTAINED}
_ANYWHERE = ("name", "failedReason", "returnvalue", "pb")
_RUN = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Term:
    """One part: ``key`` is a qualifier, ``data`` with a path, or '' for anywhere."""

    key: str
    text: str

    @property
    def field(self) -> str:
        """The field that Redis looks into; ``*``: each of some."""
        if self.key == "data" or self.key.startswith("data."):
            return "data"
        return _FIELDS.get(self.key, "*")

    @property
    def needle(self) -> str:
        """The longest part that is written in JSON as it is: the field contains it if it fits."""
        runs = _RUN.findall(self.text.lower())
        return max(runs, key=len, default="")


@dataclass(frozen=True, slots=True)
class Query:
    """All that was asked for."""

    text: str
    terms: tuple[Term, ...]
    states: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """The fields and texts by which Redis leaves out most jobs."""
        return [(term.field, term.needle) for term in self.terms]

    def fits(self, job_id: str, row: Row, redaction: Redaction) -> bool:
        """Tell whether a job is meant, by what of it may be seen."""
        return all(_fits(term, job_id, row, redaction) for term in self.terms)


def query_from_text(text: str) -> Query:
    """Return what is meant. Raises: UsageError."""
    if len(text) > MOST_TEXT:
        message = f"a search may have {MOST_TEXT} characters"
        raise UsageError(message)
    terms: list[Term] = []
    named: dict[str, list[str]] = {"state": [], "queue": []}
    for found in _PART.finditer(text):
        key, value = (found[1] or "").lower(), found[2].strip('"')
        if key in named:
            named[key].append(value)
        elif key in _FIELDS or key.split(".")[0] == "data":
            # The path keeps its case.
            terms.append(Term("data" + found[1][4:] if key.startswith("data") else key, value))
        else:
            terms.append(Term("", found[0].strip('"')))
    if len(terms) > _MOST_PARTS:
        message = f"a search may have {_MOST_PARTS} parts, not {len(terms)}: {shown(text)}"
        raise UsageError(message)
    return Query(text, tuple(terms), tuple(named["state"]), tuple(named["queue"]))


def _fits(term: Term, job_id: str, row: Row, redaction: Redaction) -> bool:
    if term.field == "data":
        return _fits_data(term, row, redaction)
    if term.key == "id":
        return _is_whole(term.text)(job_id)
    if term.key:
        value = redaction.text(row.get(term.field, NO_PART).text)
        return (_is_whole if term.key in _WHOLE else _is_part)(term.text)(value)
    is_part = _is_part(term.text)
    if is_part(job_id) or is_part(_plain_text(row, redaction)):
        return True
    return any(is_part(redaction.json_text(row.get(name, NO_PART).text)) for name in _ANYWHERE)


def _plain_text(row: Row, redaction: Redaction) -> str:
    """Return data as people read it: hidden secrets, and no escapes."""
    text = redaction.json_text(row.get("data", NO_PART).text)
    return text if "\\" not in text else _unescaped(text)


def _unescaped(text: str) -> str:
    escaped = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    return escaped.replace('\\"', '"').replace("\\/", "/")


def _is_part(text: str) -> Callable[[str], bool]:
    pieces = text.lower().split("*")
    return lambda value: _place_behind(pieces, value.lower(), 0) is not None


def _is_whole(text: str) -> Callable[[str], bool]:
    first, *others = text.lower().split("*")

    def fits(value: str) -> bool:
        lower = value.lower()
        if not others:
            return lower == first
        *middle, last = others
        behind = _place_behind(middle, lower, len(first)) if lower.startswith(first) else None
        return behind is not None and lower.endswith(last) and len(lower) - len(last) >= behind

    return fits


def _place_behind(pieces: list[str], value: str, place: int) -> int | None:
    """Return the place behind the pieces, one after the other; None when one is not there.

    No pattern of ``re``: with many `.*` that takes for ever on what strangers may have written.
    """
    for piece in pieces:
        found = value.find(piece, place)
        if found < 0:
            return None
        place = found + len(piece)
    return place


def _fits_data(term: Term, row: Row, redaction: Redaction) -> bool:
    part = row.get("data", NO_PART)
    if part.is_cut or not part.size:
        return False
    if term.key == "data":
        return _is_part(term.text)(_plain_text(row, redaction))
    try:
        data = redaction.value(json_value(part.raw))
    except ValueError:
        return False
    is_it = _is_whole(term.text)
    return any(map(is_it, _texts_at(data, term.key.split(".")[1:])))


def _texts_at(value: Any, path: list[str]) -> list[str]:
    """Return the texts of the plain values at a path; of lists, those of any element."""
    if not path:
        return _plain_texts(value)
    match value:
        case dict() if path[0] in value:
            return _texts_at(value[path[0]], path[1:])
        case dict() if ".".join(path) in value:  # a key with dots
            return _plain_texts(value[".".join(path)])
        case list() if path[0].isdigit() and path[0].isascii():
            index = int(path[0][:9])
            return _texts_at(value[index], path[1:]) if index < len(value) else []
        case list():
            return [text for each in value for text in _texts_at(each, path)]
        case _:
            return []


def _plain_texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case bool() | None:
            return [{True: "true", False: "false", None: "null"}[value]]
        case int() | float():
            return [f"{value:.15g}" if isinstance(value, float) else str(value)]
        case list():
            return [
                text
                for each in value
                if not isinstance(each, (dict, list))
                for text in _plain_texts(each)
            ]
        case _:
            return []
