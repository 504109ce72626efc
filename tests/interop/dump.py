"""Everything that a queue holds in Redis, in a form that two queues can be compared by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIME = "<ms>"
# Milliseconds since the epoch that belong to the run of a test: 2020 to 2100.
EARLIEST_MS, LATEST_MS = 1_577_000_000_000, 4_102_000_000_000
# A delayed score is a time shifted by 12 bits, plus a tie-break (protocol.md 1.2).
DELAYED_SHIFT = 4096
JSON_FIELDS = {"data", "opts", "progress", "returnvalue", "parent"}
JSON_EVENT_FIELDS = {"data", "returnvalue"}
# Free to differ: who wrote it, traces of two languages, and sandboxq's own fields.
OWN_PREFIX = "sq:"


def dump(url: str, queue_name: str) -> dict[str, Any]:
    """Return the queue's keys without their common prefix, with times and queue name masked."""
    prefix = f"bull:{queue_name}:"
    with redis.Redis.from_url(url, decode_responses=True) as client:
        keys = sorted(client.scan_iter(f"{prefix}*", count=1000))
        found = {key.removeprefix(prefix): _content(client, key) for key in keys}
    # Some expire while this reads.
    contents = {key: content for key, content in found.items() if content is not None}
    text = json.dumps(contents, ensure_ascii=False, sort_keys=True)
    return dict(json.loads(text.replace(queue_name, "<queue>")))


# redis-py types every reply for both of its modes at once; these are text.
def _content(client: redis.Redis, key: str) -> Any:
    kind: Any = client.type(key)
    return _READERS[kind](client, key)


def _string(client: Any, key: str) -> Any:
    return _masked(client.get(key))


def _list(client: Any, key: str) -> Any:
    return client.lrange(key, 0, -1)


def _set(client: Any, key: str) -> Any:
    return sorted(client.smembers(key))


def _zset(client: Any, key: str) -> Any:
    pairs = client.zrange(key, 0, -1, withscores=True)
    return [[member, _score(key, score)] for member, score in pairs]


def _stream(client: Any, key: str) -> Any:
    return [_event(fields) for _, fields in client.xrange(key)]


def _hash(client: Any, key: str) -> Any:
    fields = client.hgetall(key)
    kept = {name: text for name, text in fields.items() if not name.startswith(OWN_PREFIX)}
    return {name: _field(name, text) for name, text in kept.items() if name != "version"}


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "none": lambda _client, _key: None,
    "string": _string,
    "list": _list,
    "set": _set,
    "zset": _zset,
    "stream": _stream,
    "hash": _hash,
}


def _score(key: str, score: float) -> Any:
    if key.endswith(":delayed"):
        return f"{_masked(score // DELAYED_SHIFT)} shifted"
    return _masked(score)


def _field(name: str, text: str) -> Any:
    if name == "stacktrace" and text.startswith("["):
        return f"{len(json.loads(text))} traces"
    return _parsed(text) if name in JSON_FIELDS else _masked(text)


def _event(fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: _parsed(text) if name in JSON_EVENT_FIELDS else _masked(text)
        for name, text in fields.items()
        if not name.startswith(OWN_PREFIX)
    }


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict):
        return {name: _masked(member) for name, member in value.items()}
    return value


def _masked(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return TIME if EARLIEST_MS < number < LATEST_MS else value
