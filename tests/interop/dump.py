"""Everything that a queue holds in Redis, in a form that two queues can be compared by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME = "<ms>"
# Milliseconds since the epoch that belong to the run of a test: 2020 to 2100.
EARLIEST_MS, LATEST_MS = 1_577_000_000_000, 4_102_000_000_000
# A delayed score is a time shifted by 12 bits, plus a tie-break (bullmq-wire.md 1.2).
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
        contents = {key.removeprefix(prefix): _content(client, key) for key in keys}
    text = json.dumps(contents, ensure_ascii=False, sort_keys=True)
    return dict(json.loads(text.replace(queue_name, "<queue>")))


def _content(client: redis.Redis, key: str) -> Any:
    match client.type(key):
        case "string":
            return _masked(client.get(key))
        case "list":
            return client.lrange(key, 0, -1)
        case "set":
            return sorted(client.smembers(key))
        case "zset":
            return [[member, _score(key, score)] for member, score in _members(client, key)]
        case "stream":
            return [_event(fields) for _, fields in client.xrange(key)]
        case "hash":
            return _hash(client.hgetall(key))
        case other:
            return f"a {other}"


def _members(client: redis.Redis, key: str) -> list[tuple[str, float]]:
    pairs: list[tuple[str, float]] = client.zrange(key, 0, -1, withscores=True)
    return pairs


def _score(key: str, score: float) -> Any:
    if key.endswith(":delayed"):
        return f"{_masked(score // DELAYED_SHIFT)} shifted"
    return _masked(score)


def _hash(fields: Mapping[str, str]) -> dict[str, Any]:
    kept = {name: text for name, text in fields.items() if not name.startswith(OWN_PREFIX)}
    return {name: _field(name, text) for name, text in kept.items() if name != "version"}


def _field(name: str, text: str) -> Any:
    if name == "stacktrace":
        return f"{len(json.loads(text))} traces"
    return _parsed(text) if name in JSON_FIELDS else _masked(text)


def _event(fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: _parsed(text) if name in JSON_EVENT_FIELDS else _masked(text)
        for name, text in fields.items()
    }


def _parsed(text: str) -> Any:
    value = json.loads(text)
    if isinstance(value, dict):
        return {name: _masked(member) for name, member in value.items()}
    return value


def _masked(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return TIME if EARLIEST_MS < number < LATEST_MS else value
