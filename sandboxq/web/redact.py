"""Hides secrets: values whose key names one, and passwords in URLs; and cuts what is long."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

HIDDEN = "•••"
# Looked for in keys without case, dashes and underscores: `X-Api-Key`, `apiKey` and `API_KEY`.
_WORDS = (
    *("password", "passwd", "passphrase", "pwd", "secret", "authorization", "credential"),
    *("apikey", "privatekey", "accesskey", "cookie", "bearer"),
)
# Of these texts and containers alone: `max_tokens` is a number.
_OF_TEXTS = ("token",)
# At the end of a text the rest may be cut; what stands there is no port.
_PASSWORD_IN_URL = re.compile(
    r"(?<=://)([^/\s:@\"'\[]*):(?:[^/\s@\"']+(?=@)|(?!\d{1,5}\W*\Z)[^/\s@\"']+\Z)"
)
_BEARER = re.compile(r"\b(Bearer|Basic) +[\w.~+/=-]{8,}")
_NOT_IN_KEYS = re.compile(r"[\W_]+")
# A text of JSON; the last one may be cut anywhere. Linear in whatever stands there, and possessive:
# what could be tried again takes some 120 bytes for each escape.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_TEXT = re.compile(_STRING, re.DOTALL)
_COLON = re.compile(r"\s*:\s*")
_PLAIN = re.compile(r"[^,\]}\s]*")
_BRACKET = re.compile(rf"[\[\]{{}}]|{_STRING}", re.DOTALL)
# A text that is JSON itself, as it is written in JSON; what a cut leaves of its last escape.
_INNER = re.compile(r'"(?:\s|\\[nrt])*[\[{]')
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
MOST_LEVELS = 100


class Redaction:
    """Decides by key what is hidden."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        """Hide also what has one of these words in its key."""
        own = {_plain(word) for word in more} - {""}
        self._words = re.compile("|".join(map(re.escape, sorted({*_WORDS, *own}))))
        self._of_texts = re.compile("|".join(_OF_TEXTS))

    def hides(self, key: str, value: object) -> bool:
        """Tell whether the value under this key is a secret; ``has_password: true`` is none."""
        if value is None or isinstance(value, bool):
            return False
        name = _plain(key)
        if self._words.search(name):
            return True
        return not isinstance(value, (int, float)) and bool(self._of_texts.search(name))

    def value(self, value: Any, level: int = 0) -> Any:
        """Return JSON with its secrets hidden."""
        match value:
            case str():
                is_json = value.lstrip()[:1] in {"{", "["}
                return self.json_text(value) if is_json else self.text(value)
            case dict() | list() if level >= MOST_LEVELS:
                return "…"
            case dict():
                return {key: self._member(key, each, level + 1) for key, each in value.items()}
            case list():
                return [self.value(each, level + 1) for each in value]
            case _:
                return value

    def _member(self, key: str, value: Any, level: int) -> Any:
        return HIDDEN if self.hides(key, value) else self.value(value, level)

    @staticmethod
    def text(text: str) -> str:
        """Return a text, such as an error or a line of a log, without passwords in URLs."""
        if "://" in text:
            text = _PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}", text)
        return _BEARER.sub(rf"\1 {HIDDEN}", text)

    def json_text(self, text: str) -> str:
        """Return the text of JSON, whole or cut anywhere, with its secrets hidden.

        What is not hidden stays as it is written.
        """
        kept: list[str] = []
        written = position = 0
        while found := _TEXT.search(text, position):
            start, end = found.span()
            # What ends a text may begin one: errors have quotes that do not pair.
            position = max(start + 1, end - 1)
            colon = _COLON.match(text, end)
            if colon is not None:
                start = colon.end()
                if not self.hides(_unescaped(found[0]), _sample(text, start)):
                    continue
                end, shown = _end_of_value(text, start), f'"{HIDDEN}"'
            else:
                shown = self._inner(found[0]) if _INNER.match(text, start) else found[0]
                if shown == found[0]:
                    continue
            kept += self.text(text[written:start]), shown
            written = position = end
        kept.append(self.text(text[written:]))
        return "".join(kept)

    def _inner(self, raw: str) -> str:
        """Return a text that is JSON itself, as it is written in JSON; its end may be cut."""
        whole = _loaded(raw)
        inner = _loaded(f'{_HALF_ESCAPE.sub("", raw)}"') if whole is None else whole
        if inner is None:
            return f'"{HIDDEN}"'
        shown = self.json_text(inner)
        if shown == inner:
            return raw
        written = json.dumps(shown, ensure_ascii=False)
        return written[:-1] if whole is None else written


def _plain(key: str) -> str:
    return _NOT_IN_KEYS.sub("", key).lower()


def _unescaped(raw: str) -> str:
    """Return a key without its quotes."""
    key = _loaded(raw)
    return raw if key is None else key


def _loaded(raw: str) -> str | None:
    """Return the text that JSON has written so, None for none."""
    try:
        return str(json.loads(raw, strict=False))
    except ValueError:
        return None


def _sample(text: str, start: int) -> object:
    """Return a value of the same kind as the one that stands there."""
    first = text[start : start + 1]
    if first in {"t", "f", "n", ""}:
        return None
    if first == '"':
        return ""
    return [] if first in {"[", "{"} else 0


def _end_of_value(text: str, start: int) -> int:
    first = text[start : start + 1]
    if first == '"':
        found = _TEXT.match(text, start)
        return found.end() if found else len(text)
    if first not in {"[", "{"}:
        found = _PLAIN.match(text, start)
        return found.end() if found else start
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        if bracket[0] in {"[", "{"}:
            depth += 1
        elif bracket[0] in {"]", "}"}:
            depth -= 1
            if not depth:
                return bracket.end()
    return len(text)


def cut(text: str, most: int) -> str:
    """Return at most so many characters, an ellipsis in the place of the rest."""
    return text if len(text) <= most else f"{text[:most]}…"
