"""Between Python values and what BullMQ stores: JSON text and job options (protocol.md 2.2)."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from sandboxq.errors import LONGEST_SECONDS, OptionsUnreadable, UsageError
from sandboxq.model.backoff import FIXED, Backoff
from sandboxq.model.job import (
    KEEP_ALL,
    KEEP_NONE,
    JobOptions,
    Keep,
)
from sandboxq.model.validation import (
    LONGEST_WAIT,
    MAX_NESTING,
    MAX_PRIORITY,
    count_from_wire,
    number_from_wire,
    seconds_from_wire,
    shown,
    whole_from_wire,
)
from sandboxq.payload.numpy_values import plain_scalar

if TYPE_CHECKING:
    from collections.abc import Callable

# Jobs of one queue mostly share a handful of options texts. Bounded, because ids and timestamps
# may make every text different; only short texts are kept, so a full cache is about 2 MB.
CACHE_ENTRIES = 4096
CACHE_TEXT_BYTES = 512


def _refuse_constant(name: str) -> None:
    message = f"{name} is not JSON"
    raise ValueError(message)


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain_scalar
).encode
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
_cache: dict[bytes, JobOptions] = {}


# ── JSON text ───────────────────────────────────────────────────────────────


def json_text(value: object, what: str) -> str:
    """Return ``value`` as JSON that every BullMQ can read; ``what`` names it in errors.

    Tuples become arrays, scalars of numpy Python's values; integers keep all their digits.
    Raises: UsageError for NaN, infinities, bytes, sets, keys that are not strings, lone surrogates,
    more than MAX_NESTING levels, and everything else that JSON has no word for.
    """
    try:
        text = _encode(value)
        if not text.isascii():
            text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} cannot be stored as JSON: {_reason(error)}"
        raise UsageError(message) from error
    if isinstance(value, (dict, list, tuple)):
        _check_levels(value, what)
    return text


def _reason(error: Exception) -> str:
    text = str(error)
    if text.startswith("Out of range float"):  # what the standard library says of NaN
        return "it contains NaN or Infinity, which JSON does not have; use null or text instead"
    return text


def _check_levels(value: Any, what: str) -> None:
    """Refuse too many levels, and keys that ``json`` would silently turn into strings."""
    level = [value]
    for _ in range(MAX_NESTING):
        below: list[Any] = []
        for container in level:
            items = container
            if isinstance(container, dict):
                if not _TEXT.issuperset(map(type, container)):
                    _check_keys(container, what)
                items = container.values()
            if not _FLAT.issuperset(map(type, items)):
                below += [item for item in items if isinstance(item, (dict, list, tuple))]
        if not below:
            return
        level = below
    message = f"{what} cannot be stored as JSON: it is nested more than {MAX_NESTING} levels deep"
    raise UsageError(message)


# By type, as most keys and values are told in one step.
_TEXT = frozenset({str})
_FLAT = frozenset({str, int, float, bool, type(None)})


def _check_keys(container: dict[Any, Any], what: str) -> None:
    for key in container:
        if not isinstance(key, str):
            message = f"{what} cannot be stored as JSON: key {shown(key)} is not a string"
            raise UsageError(message)


def json_value(text: bytes) -> Any:
    """Return the value of JSON text from Redis. Raises: ValueError when it is not JSON."""
    try:
        return _decode(text.decode())
    except RecursionError as error:
        message = "nested too deep"
        raise ValueError(message) from error


def _finite(text: str) -> float | None:
    """Return a number with a fraction, or as JavaScript writes infinity in JSON: null."""
    number = float(text)
    return number if abs(number) < float("inf") else None


def _countable(text: str) -> int | None:
    """Return an integer; None for one of more digits than Python reads."""
    return int(text) if len(text) <= _MOST_DIGITS else None


# More are infinite in JavaScript, and Python refuses above 4300.
_MOST_DIGITS = 308
_decode_plain = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode
_decode_long = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, parse_int=_countable
).decode


def options_value(raw: bytes) -> Any:
    """Return the value of options; a number that JavaScript would take for infinite is null."""
    # An empty text means default options.
    text = raw.decode() or "{}"
    try:
        return _decode_plain(text) if len(text) <= _MOST_DIGITS else _decode_long(text)
    except RecursionError as error:
        message = "nested too deep"
        raise ValueError(message) from error


# ── options ─────────────────────────────────────────────────────────────────


def options_to_wire(options: JobOptions) -> str:
    """Return the JSON text of a job's ``opts``. Raises: UsageError, see ``json_text``."""
    return json_text(options_members(options), "options")


def options_members(options: JobOptions) -> dict[str, Any]:
    """Return a job's options by Node's names; ``attempts`` is always there."""
    wire: dict[str, Any] = {"attempts": options.attempts}
    if options.delay:
        wire["delay"] = ms_from_seconds(options.delay)
    if options.priority:
        wire["priority"] = options.priority
    if options.backoff is not None:
        wire["backoff"] = _backoff_to_wire(options.backoff)
    if options.lifo:
        wire["lifo"] = True
    if options.timeout is not None:
        wire["timeout"] = ms_from_seconds(options.timeout)
    if options.remove_on_complete is not None:
        wire["removeOnComplete"] = _keep_to_wire(options.remove_on_complete)
    if options.remove_on_fail is not None:
        wire["removeOnFail"] = _keep_to_wire(options.remove_on_fail)
    wire |= {name: value for name, value in _plain_members(options) if value is not None}
    return wire | options.extra


def _plain_members(options: JobOptions) -> tuple[tuple[str, Any], ...]:
    return (
        ("jobId", options.job_id),
        ("timestamp", options.timestamp_ms),
        ("kl", options.keep_logs),
        ("stackTraceLimit", options.stack_trace_limit),
        ("sizeLimit", options.size_limit),
        ("tm", options.trace_context),
        ("omc", options.omit_trace_context or None),
    )


def ms_from_seconds(seconds: float) -> int:
    """Return whole milliseconds, the nearest ones."""
    return round(seconds * 1000)


def _backoff_to_wire(backoff: Backoff) -> dict[str, Any]:
    wire: dict[str, Any] = {"type": backoff.kind, "delay": ms_from_seconds(backoff.delay)}
    if backoff.jitter:
        wire["jitter"] = backoff.jitter
    return wire


def _keep_to_wire(keep: Keep) -> bool | int | dict[str, Any]:
    if keep.age is None and keep.limit is None:
        return keep == KEEP_NONE or (False if keep.count is None else keep.count)
    members = {"count": keep.count, "age": keep.age, "limit": keep.limit}
    return {name: value for name, value in members.items() if value is not None}


def options_from_wire(raw: bytes) -> JobOptions:
    """Return the options in a job's ``opts`` text; the object is shared, so leave it unchanged.

    Members of the wrong type count as absent, unknown ones are in ``extra`` by their wire names.
    Raises: OptionsUnreadable when the text is not a JSON object.
    """
    options = _cache.get(raw)
    if options is None:
        options = _read_options(raw)
        if len(raw) <= CACHE_TEXT_BYTES:
            if len(_cache) >= CACHE_ENTRIES:
                _cache.clear()
            _cache[raw] = options
    return options


def _read_options(raw: bytes) -> JobOptions:
    try:
        wire = options_value(raw)
    except ValueError as error:
        message = f"the job's opts are not JSON: {error}"
        raise OptionsUnreadable(message) from error
    if not isinstance(wire, dict):
        message = f"the job's opts are no JSON object but {type(wire).__name__}"
        raise OptionsUnreadable(message)
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in wire.items():
        reader = _READERS.get(name)
        if reader is None:
            extra[name] = value
        elif (read := reader[1](value)) is not None:
            known[reader[0]] = read
    return JobOptions(**known, extra=extra)


def _wait(value: Any) -> float | None:
    """Return how long a worker may have to wait: the timeout of an attempt."""
    return seconds_from_wire(value, LONGEST_WAIT)


def _priority(value: Any) -> int | None:
    number = whole_from_wire(value)
    return None if number is None else min(max(number, -MAX_PRIORITY), MAX_PRIORITY)


def _size_limit(value: Any) -> int | None:
    """Return the limit; Node, whose 0 is false, knows no limit of 0."""
    return whole_from_wire(value) or None


def _flag(value: Any) -> bool:
    return bool(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _backoff(value: Any) -> Backoff | None:
    if isinstance(value, dict):
        delay, jitter = seconds_from_wire(value.get("delay")), number_from_wire(value.get("jitter"))
        return Backoff(str(value.get("type", "")), max(delay or 0.0, 0.0), jitter or 0.0)
    delay = seconds_from_wire(value)
    return Backoff(FIXED, delay) if delay and delay > 0 else None


def _attempts(value: Any) -> int | None:
    """Return how many attempts there may be: of 2.5, Node begins a third."""
    number = number_from_wire(value)
    return None if number is None else math.ceil(number)


def _keep(value: Any) -> Keep | None:
    # What is neither number nor object, Node takes for true or false.
    if isinstance(value, (bool, str)):
        return KEEP_NONE if value else KEEP_ALL
    if isinstance(value, dict):
        age = number_from_wire(value.get("age"), LONGEST_SECONDS)
        age = None if age is None else max(age, 0.0)
        return Keep(_kept(value.get("count")), age, _kept(value.get("limit")))
    return None if value is None else Keep(_kept(value))


def _kept(value: Any) -> int | None:
    """Return how many to keep or remove; -1 is BullMQ's word for all."""
    count = whole_from_wire(value)
    return None if count is None or count < 0 else count


# By wire name: the field of JobOptions, and how to read it.
_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "attempts": ("attempts", _attempts),
    "backoff": ("backoff", _backoff),
    "delay": ("delay", seconds_from_wire),
    "jobId": ("job_id", _text),
    "kl": ("keep_logs", count_from_wire),
    "lifo": ("lifo", _flag),
    "priority": ("priority", _priority),
    "removeOnComplete": ("remove_on_complete", _keep),
    "removeOnFail": ("remove_on_fail", _keep),
    "sizeLimit": ("size_limit", _size_limit),
    "stackTraceLimit": ("stack_trace_limit", whole_from_wire),
    "timeout": ("timeout", _wait),
    "timestamp": ("timestamp_ms", whole_from_wire),
    "tm": ("trace_context", _text),
    "omc": ("omit_trace_context", _flag),
}
