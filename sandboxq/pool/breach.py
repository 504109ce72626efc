"""Breaches of the protocol by a child, and the check that its text is JSON.

The check takes packets as they come; no value is made, and no packet takes long:

    text ─► escapes, strings, scalars each become one byte ─► closed containers become one byte
         ─► the rest, a few brackets and commas, is checked with a stack

No recursion, and nothing whose time grows faster than the piece.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, NoReturn

from sandboxq.errors import JobCrashed, SandboxViolation

if TYPE_CHECKING:
    from sandboxq.errors import ChildError

# What a Python child can write at most: its own encoder counts each level as a call.
_DEEPEST = 10_000
# No integer that Python writes has more digits.
_LONGEST_TOKEN = 5000
_SPACE = b" \t\n\r"
_WORD = b"0123456789+-.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Stand for a string and for any other value; JSON text has no such bytes.
_A_STRING, _A_VALUE = 1, 2
_S, _V = bytes([_A_STRING]), bytes([_A_VALUE])
# Stands for an escape: a character that may stand in a string, and nowhere else.
_AN_ESCAPE = b"~"
_escape = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_LONGEST_ESCAPE = len(rb"\u0000")
_string = re.compile(rb'"[^"\\\x00-\x1f]*+"')
_is_body = re.compile(rb'[^"\\\x00-\x1f]*+').fullmatch
_scalar = re.compile(
    rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+|true|false|null"
)
_closed = re.compile(
    rb"\[(?:[\x01\x02](?:,[\x01\x02])*+)?+\]"
    rb"|\{(?:\x01:[\x01\x02](?:,\x01:[\x01\x02])*+)?+\}"
)
_items = re.compile(rb"(?:[\x01\x02],)*+").match
_members = re.compile(rb"(?:\x01:[\x01\x02],)*+").match
# How often containers of containers are made one byte; deeper nesting goes through the stack.
_ROUNDS = 4
# What may come next.
_VALUE, _ITEM_OR_END, _KEY, _KEY_OR_END, _COLON, _COMMA_OR_END, _NOTHING = range(7)
_ARRAY, _OBJECT, _COMMA, _COLON_SIGN = b"[{,:"
_ENDS = {ord("]"): _ARRAY, ord("}"): _OBJECT}
_MAY_BEGIN = (_VALUE, _ITEM_OR_END)
_MAY_END = (_ITEM_OR_END, _KEY_OR_END, _COMMA_OR_END)
# What most jobs return, known without looking.
COMMON = frozenset([b"null", b"true", b"false", b"{}", b"[]", b'""', b"0", b"1"])


class Breach(Exception):
    """A child broke the protocol and is to be ended; the text follows "child 7 "."""


class Flooded(Breach):
    """It sent a message above the limit of its kind."""

    def __init__(self, kind: int, limit: int) -> None:
        """Name the kind (child/frames.py) and its limit in bytes."""
        super().__init__(f"sent a message of kind {kind} with more than {limit} bytes")


class NotJson(Breach):
    """It sent bytes that are no JSON text in UTF-8, where other clients read JSON."""

    def __init__(self, why: str) -> None:
        """Say what is wrong with them."""
        super().__init__(f"sent invalid JSON: {why}")


def error_from_breach(breach: Breach, pid: int, *, is_strict: bool) -> ChildError:
    """Return the error for which a child is ended, and its job fails; ``strict``: an attack."""
    kind = SandboxViolation if is_strict else JobCrashed
    return kind(f"child {pid} {breach}: this breaks the protocol, so the child was killed")


def check_json(raw: bytes) -> None:
    """Raise NotJson unless ``raw`` is JSON text: for what is no larger than a packet."""
    if raw in COMMON:
        return
    try:
        _decode(raw.decode())
    except RecursionError:
        text = JsonText()
        text.feed(raw)
        text.end()
    except ValueError as error:
        raise NotJson(str(error)) from error


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


class JsonText:
    """Takes the pieces of one JSON text."""

    __slots__ = ("_expected", "_is_in_string", "_open", "_rest", "_utf8")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._expected = _VALUE
        self._open = bytearray()  # the brackets
        self._is_in_string = False
        self._rest = b""  # of the last piece: the beginning of an escape or of a scalar

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next piece. Raises: NotJson."""
        self._check_utf8(bytes(piece), is_last=False)
        text = self._without_strings(self._rest + piece, is_last=False)
        # No scalar can stand before a string that goes on: this is found now.
        whole = text if self._is_in_string else text.rstrip(_WORD)
        self._rest = text[len(whole) :] + self._rest
        if len(self._rest) > _LONGEST_TOKEN:
            _complain("a number is too long")
        self._take(whole)

    def end(self) -> None:
        """Check that the text is complete. Raises: NotJson."""
        self._check_utf8(b"", is_last=True)
        self._take(self._without_strings(self._rest, is_last=True))
        if self._is_in_string or self._expected != _NOTHING:
            _complain("it ends too early")

    def _without_strings(self, piece: bytes, *, is_last: bool) -> bytes:
        """Return a piece with one byte for each string; an escape cut at its end is kept."""
        if _S in piece or _V in piece:
            _complain("it has a control character")
        piece = _escape.sub(_AN_ESCAPE, piece)
        cut = -1 if is_last else piece.rfind(b"\\", -_LONGEST_ESCAPE)
        self._rest = piece[cut:] if cut >= 0 else b""
        piece = piece[:cut] if cut >= 0 else piece
        if self._is_in_string:
            body, quote, piece = piece.partition(b'"')
            _check_body(body)
            if not quote:
                return b""
            piece = _S + piece
        piece, quote, body = _string.sub(_S, piece).partition(b'"')
        _check_body(body)
        self._is_in_string = bool(quote)
        return piece

    def _check_utf8(self, piece: bytes, *, is_last: bool) -> None:
        try:
            self._utf8.decode(piece, is_last)
        except UnicodeDecodeError as error:
            raise NotJson(str(error)) from error

    def _take(self, text: bytes) -> None:
        """Take text whose strings are one byte each."""
        skeleton = _scalar.sub(_V, text).translate(None, _SPACE)
        for _ in range(_ROUNDS):
            skeleton, count = _closed.subn(_V, skeleton)
            if not count:
                break
        self._walk(skeleton)

    def _walk(self, skeleton: bytes) -> None:
        at, size = 0, len(skeleton)
        while at < size:
            at = self._past_run(skeleton, at)
            if at < size:
                self._step(skeleton[at])
                at += 1

    def _past_run(self, skeleton: bytes, at: int) -> int:
        """Return where a run of whole elements ends, each with the comma behind it."""
        expected = self._expected
        run = None
        if expected in _MAY_BEGIN and self._open and self._open[-1] == _ARRAY:
            run = _items(skeleton, at)
        elif expected in (_KEY, _KEY_OR_END):
            run = _members(skeleton, at)
        if run is None or run.end() == at:
            return at
        self._expected = _VALUE if self._open[-1] == _ARRAY else _KEY
        return run.end()

    def _step(self, sign: int) -> None:
        """Take one bracket, comma, colon, string or value."""
        expected = self._expected
        if sign == _A_STRING and expected in (_KEY, _KEY_OR_END):
            self._expected = _COLON
        elif sign in (_A_STRING, _A_VALUE) and expected in _MAY_BEGIN:
            self._end_value()
        elif sign in (_ARRAY, _OBJECT) and expected in _MAY_BEGIN:
            self._begin(sign)
        elif sign == _COLON_SIGN and expected == _COLON:
            self._expected = _VALUE
        elif sign == _COMMA and expected == _COMMA_OR_END:
            self._expected = _VALUE if self._open[-1] == _ARRAY else _KEY
        elif sign in _ENDS and expected in _MAY_END and self._open[-1] == _ENDS[sign]:
            self._open.pop()
            self._end_value()
        else:
            _complain(f"{chr(sign)!r} stands where it may not" if sign > _A_VALUE else "no comma")

    def _begin(self, bracket: int) -> None:
        self._open.append(bracket)
        if len(self._open) > _DEEPEST:
            _complain("it is nested too deeply")
        self._expected = _ITEM_OR_END if bracket == _ARRAY else _KEY_OR_END

    def _end_value(self) -> None:
        self._expected = _COMMA_OR_END if self._open else _NOTHING


def _check_body(body: bytes) -> None:
    if not _is_body(body):
        _complain("a string has what none may have")


def _complain(what: str) -> NoReturn:
    raise NotJson(what)
